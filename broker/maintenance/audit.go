package maintenance

import "context"

// Auditor is a broker that finds, and mends, what is stored and nobody works on: a
// crash, a failover or another program can leave parts of a queue apart. Its methods
// may be called concurrently, by many processes, while all is in use.
type Auditor interface {
	// Audit reads all of a queue and reports what does not fit together; with mend it
	// mends that. It takes memory for the id of each run of the queue, and can leave
	// a part mended when it returns an error.
	Audit(ctx context.Context, queue string, mend bool) (Report, error)

	// AuditNext audits and mends one of the queues if one is due, of which it returns
	// the name. It blocks while it does, which it stretches so that the audits of all
	// processes are a small part of what the backend does, and returns at once if
	// none is due. It leaves queues alone that are too large for it.
	AuditNext(ctx context.Context, queues []string) (queue string, report Report, err error)
}

// Report is how much of what is stored of one queue does not fit together.
// All of it is zero unless another program wrote there, or a failover or a crash
// lost a part of what was written.
type Report struct {
	Mended bool // the findings are mended, else only counted
	Runs   int  // that wait or are in flight

	UnlistedBatches int // in flight, but recovery could not know of them; listed
	EmptyFlights    int // listed as in flight, but not there; removed
	StrayBitmaps    int // of batches that are not there; removed
	Unreadable      int // waiting entries that are no runs; made dead letters
	Copies          int // of runs that are elsewhere too, in flight first; removed
	StrayIDs        int // held by runs that are nowhere; released
	StrayKeys       int // unique keys, the same
	WrongCounts     int // limits of which it is wrong how many runs count; counted again
	LostLines       int // of runs that wait, which nobody would look at; they are again
	LostRecords     int // of runs that are nowhere, but not ended; ended as failed, of kind lost
}

// Finding is one kind of fault that an audit found.
type Finding struct {
	Name  string // of the field of Report
	Count int
	Fault string // the fault, for people
	Cure  string // how it is mended
}

// Findings returns the kinds of faults that there are, those of runs that would never
// run first.
func (r Report) Findings() (found []Finding) {
	for _, f := range []Finding{
		{"UnlistedBatches", r.UnlistedBatches, "batches in flight that recovery does not know", "listed"},
		{"LostLines", r.LostLines, "lines of waiting runs that no consumer would look at", "looked at again"},
		{"WrongCounts", r.WrongCounts, "limits whose number of running runs is wrong", "counted again"},
		{"Unreadable", r.Unreadable, "waiting entries that are no runs", "made dead letters"},
		{"Copies", r.Copies, "copies of runs that are elsewhere too", "removed"},
		{"StrayKeys", r.StrayKeys, "unique keys held by runs that are nowhere", "released"},
		{"StrayIDs", r.StrayIDs, "ids held by runs that are nowhere", "released"},
		{"LostRecords", r.LostRecords, "records of runs that are nowhere and have not ended", "ended as failed, of kind lost"},
		{"EmptyFlights", r.EmptyFlights, "batches listed as in flight that are not there", "removed"},
		{"StrayBitmaps", r.StrayBitmaps, "bitmaps of batches that are not there", "removed"},
	} {
		if f.Count > 0 {
			found = append(found, f)
		}
	}
	return found
}

// Faults is how much does not fit.
func (r Report) Faults() (n int) {
	for _, f := range r.Findings() {
		n += f.Count
	}
	return n
}
