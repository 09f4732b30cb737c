package wire

import (
	"time"

	"github.com/taskgen/taskgen/codec"
)

// WaitsSince returns since when a stored run waits that is due, by the clocks of those who
// queued it and asked for its retry; the zero time if it does not say. The stored run can be cut off:
// taskgen writes what this reads before the payload.
func WaitsSince(stored []byte) (since time.Time) {
	h, err := ParseHeader(stored)
	if err != nil || len(stored) <= h.Size {
		return since
	}
	var queued, due, delay, again int64
	in := codec.NewReader(stored[h.Size+1:]) // behind the envelope's version
	for n := in.MapLen(); n > 0 && in.More(); n-- {
		var to *int64
		switch string(in.Key()) {
		case "c":
			to = &queued
		case "u":
			to = &due
		case "y":
			to = &delay
		case "hd":
			to = &again
		}
		if to == nil {
			in.Skip()
		} else if v := in.Int64(); in.Err() == nil {
			*to = v
		}
	}
	switch {
	case again != 0 && again >= queued:
		due = again
	case due == 0 && queued != 0:
		due = queued + delay
	}
	if due == 0 {
		return since
	}
	return time.Unix(0, due).UTC()
}
