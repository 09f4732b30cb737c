package wire

// EndedRuns are the runs of a call that have ended with a record, for the lists of these: those
// that succeeded, and the others.
type EndedRuns struct {
	ids  [2][]byte // separated by spaces
	keep int64     // the longest time of their records, in ms
}

// Add adds a run with its record.
func (e *EndedRuns) Add(id string, record []byte, keep int64) {
	ids := &e.ids[0]
	if record[0] != 's' {
		ids = &e.ids[1]
	}
	if len(*ids) > 0 {
		*ids = append(*ids, ' ')
	}
	*ids = append(*ids, id...)
	e.keep = max(e.keep, keep)
}

// Append appends them to the arguments of a script.
func (e *EndedRuns) Append(args []any) []any { return append(args, e.ids[0], e.ids[1], e.keep) }
