package script

import (
	"errors"
	"fmt"
)

// FirstEntriesArgs are the named arguments of firstentries.lua.
type FirstEntriesArgs struct {
	Most, Total, Bytes int
}

// Append appends them in their order.
func (a *FirstEntriesArgs) Append(args []any) []any { return append(args, a.Most, a.Total, a.Bytes) }

// FirstEntries are what firstentries.lua has read of one place.
type FirstEntries struct {
	Entries []FirstEntry
	Err     error
}

// FirstEntry is an entry, and its score or the name of its batch.
type FirstEntry struct{ Entry, Of string }

// ParseFirstEntries parses the reply of firstentries.lua for n places. It can have fewer.
func ParseFirstEntries(v any, n int) ([]FirstEntries, error) {
	reply, ok := v.([]any)
	if !ok || len(reply) > n {
		return nil, fmt.Errorf("unexpected reply %T of firstentries.lua", v)
	}
	places := make([]FirstEntries, len(reply))
	for i, place := range reply {
		if why, failed := place.(string); failed {
			places[i].Err = errors.New(why)
		}
		list := texts(place)
		for at := 0; at+1 < len(list); at += 2 {
			places[i].Entries = append(places[i].Entries, FirstEntry{list[at], list[at+1]})
		}
	}
	return places, nil
}
