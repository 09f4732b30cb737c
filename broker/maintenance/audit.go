package maintenance

import "context"

// Auditor is a broker that finds and repairs runs, ids and keys that nothing works on and
// no recovery finds. A crash, a failover or another program can leave them. Methods may
// be called concurrently, by many processes, while the broker is in use.
type Auditor interface {
	// Audit reads a whole queue and reports what does not fit together. With repair it
	// repairs that too. It takes memory for the id of each run of the queue. If it returns
	// an error, a part may be repaired.
	Audit(ctx context.Context, queue string, repair bool) (Report, error)

	// AuditNext audits and repairs one of the queues if one is due, and returns the queue's
	// name. It blocks for the audit, and takes its time: the audits of all processes are
	// a small part of the backend's work. If no audit is due it returns at once. It skips
	// queues that are too large for it.
	AuditNext(ctx context.Context, queues []string) (queue string, report Report, err error)
}

// Report is the result of an audit of one queue. Its counts are zero unless another
// program wrote there, or a failover or a crash lost a part of what was written.
type Report struct {
	Repaired bool // the findings are repaired; else they are only counted
	Runs     int  // the runs that wait or are in flight

	UnlistedBatches int // batches in flight that recovery does not know; listed
	MissingBatches  int // batches listed as in flight that do not exist; removed from the list
	StrayBitmaps    int // bitmaps of batches that do not exist; removed
	Unreadable      int // waiting entries that are no runs; made dead letters
	Copies          int // copies of runs that are elsewhere too; those not in flight removed
	StrayIDs        int // ids held by runs that do not exist; released
	StrayKeys       int // unique keys held by runs that do not exist; released
	WrongCounts     int // limits whose number of running runs is wrong; counted again
	ForgottenLimits int // limits with waiting runs that no consumer checks; checked again
	LostGroups      int // groups that are gone or whose waiting run is; that run ended as failed, of kind lost
	LostRecords     int // records of runs that do not exist and have not ended; ended as failed, of kind lost
	StrayTallies    int // tallies, and lists of instances, that do not expire or are of a wrong type; made to expire, or removed
}

// Finding is one kind of fault that an audit found.
type Finding struct {
	Name  string // of the field of Report
	Count int
	Fault string // for people
	Cure  string // how it is repaired, for people
}

// Findings returns the faults that were found, those that keep runs from running first.
func (r Report) Findings() (found []Finding) {
	for _, f := range []Finding{
		{"UnlistedBatches", r.UnlistedBatches, "batches in flight that recovery does not know", "listed"},
		{"ForgottenLimits", r.ForgottenLimits, "limits with waiting runs that no consumer checks", "checked again"},
		{"WrongCounts", r.WrongCounts, "limits whose number of running runs is wrong", "counted again"},
		{"Unreadable", r.Unreadable, "waiting entries that are no runs", "made dead letters"},
		{"Copies", r.Copies, "copies of runs that are elsewhere too", "removed"},
		{"StrayKeys", r.StrayKeys, "unique keys held by runs that are nowhere", "released"},
		{"StrayIDs", r.StrayIDs, "ids held by runs that are nowhere", "released"},
		{"LostGroups", r.LostGroups, "groups that are gone, or lost the run that awaits them", "the run ended as failed, of kind lost"},
		{"LostRecords", r.LostRecords, "records of runs that are nowhere and have not ended", "ended as failed, of kind lost"},
		{"MissingBatches", r.MissingBatches, "batches listed as in flight that are not there", "removed"},
		{"StrayTallies", r.StrayTallies, "tallies or lists of instances that never expire or are of a wrong type", "made to expire, or removed"},
		{"StrayBitmaps", r.StrayBitmaps, "bitmaps of batches that are not there", "removed"},
	} {
		if f.Count > 0 {
			found = append(found, f)
		}
	}
	return found
}

// Faults returns the sum of the counts of all findings.
func (r Report) Faults() (n int) {
	for _, f := range r.Findings() {
		n += f.Count
	}
	return n
}
