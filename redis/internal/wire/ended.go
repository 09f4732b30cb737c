package wire

import (
	"strconv"
	"time"
)

// EndedEntries are what a call adds to the lists of runs that have ended: an entry of those that
// succeeded, and one of the others.
type EndedEntries [2]struct {
	ids  []byte // a space before each
	keep int64  // the longest time of their records, in ms
}

// Add adds a run with a record.
func (e *EndedEntries) Add(id string, record []byte, keep int64) {
	of := &e[0]
	if record[0] != 's' {
		of = &e[1]
	}
	of.ids = append(append(of.ids, ' '), id...)
	of.keep = max(of.keep, keep)
}

// Append appends the entries to the arguments of a script, empty ones of no runs.
func (e *EndedEntries) Append(args []any, now time.Time) []any {
	for i := range e {
		var entry []byte
		if of := &e[i]; len(of.ids) > 0 {
			entry = append(strconv.AppendInt(make([]byte, 0, TimeDigits+len(of.ids)), now.UnixMilli()+of.keep, 10), of.ids...)
		}
		args = append(args, entry)
	}
	return args
}
