package script

import (
	"strings"

	"github.com/taskgen/taskgen/redis/internal/resp"
)

// SearchListArgs are the named arguments of searchlist.lua. The anchors follow them.
type SearchListArgs struct {
	Toward, At, Behind int64
	Near               int
	Most, Bytes        int
}

// Append appends them in their order.
func (a *SearchListArgs) Append(args []any) []any {
	return append(args, a.Toward, a.At, a.Behind, a.Near, a.Most, a.Bytes)
}

// SearchListReply is the reply of searchlist.lua.
type SearchListReply struct {
	Found      int   // 1; 0 if the search for an anchor goes on at At; -1 if there is none
	At, Behind int64 // index of the last entry that was read, and how many are behind it
	Looked     int   // entries looked at for an anchor
	Entries    []string
}

// ParseSearchList parses the reply of searchlist.lua.
func ParseSearchList(v any) (r SearchListReply, err error) {
	reply, err := arrayOf("searchlist", v, 5)
	if err != nil {
		return r, err
	}
	return SearchListReply{int(number(reply[0])), number(reply[1]), number(reply[2]), int(number(reply[3])), texts(reply[4])}, nil
}

// SearchSetArgs are the named arguments of searchset.lua.
type SearchSetArgs struct {
	Which, Score, Opens string
	Most, Bytes         int
}

// Append appends them in their order.
func (a *SearchSetArgs) Append(args []any) []any {
	return append(args, a.Which, a.Score, a.Opens, a.Most, a.Bytes)
}

// ScoredEntry is an entry of a sorted set, and its score as the server writes it.
type ScoredEntry struct{ Entry, Score string }

// ParseSearchSet parses the reply of searchset.lua.
func ParseSearchSet(v any) (entries []ScoredEntry, more bool, err error) {
	reply, err := arrayOf("searchset", v, 2)
	if err != nil {
		return nil, false, err
	}
	list := texts(reply[1])
	for i := 0; i+1 < len(list); i += 2 {
		entries = append(entries, ScoredEntry{list[i], list[i+1]})
	}
	return entries, number(reply[0]) == 1, nil
}

// SearchBatchesArgs are the named arguments of searchbatches.lua.
type SearchBatchesArgs struct {
	From        int64
	Most, Bytes int
}

// Append appends them in their order.
func (a *SearchBatchesArgs) Append(args []any) []any { return append(args, a.From, a.Most, a.Bytes) }

// RunInBatch is a run that is in flight, and where: the place of its batch among those of the call.
type RunInBatch struct {
	Batch  int
	Index  int64
	Stored string
}

// SearchBatchesReply is the reply of searchbatches.lua.
type SearchBatchesReply struct {
	Batches int   // that were read to their end
	From    int64 // index of the first run to read of the next one
	Looked  int
	Runs    []RunInBatch
	Odd     map[int]string // why batches cannot be read, by their places
}

// ParseSearchBatches parses the reply of searchbatches.lua for so many batches.
func ParseSearchBatches(v any, batches int) (r SearchBatchesReply, err error) {
	reply, err := arrayOf("searchbatches", v, 5)
	if err != nil {
		return r, err
	}
	r = SearchBatchesReply{Batches: min(max(int(number(reply[0])), 0), batches), From: number(reply[1]), Looked: int(number(reply[2]))}
	found, _ := reply[3].([]any)
	for i := 0; i+2 < len(found); i += 3 {
		run := RunInBatch{int(number(found[i])) - 1, number(found[i+1]), text(found[i+2])}
		if run.Batch >= 0 && run.Batch < batches {
			r.Runs = append(r.Runs, run)
		}
	}
	odd, _ := reply[4].([]any)
	for i := 0; i+1 < len(odd); i += 2 {
		if r.Odd == nil {
			r.Odd = map[int]string{}
		}
		r.Odd[int(number(odd[i]))-1] = text(odd[i+1])
	}
	return r, nil
}

// SearchRecordsArgs are the named arguments of searchrecords.lua.
type SearchRecordsArgs struct {
	Letter string
	Bytes  int
}

// Append appends them in their order.
func (a *SearchRecordsArgs) Append(args []any) []any { return append(args, a.Letter, a.Bytes) }

// ReadRecord is a record that searchrecords.lua has read.
type ReadRecord struct {
	Stored string // "" if its run is not in the state
	Odd    bool   // the key is no record
}

// ParseSearchRecords parses the reply of searchrecords.lua. It can have fewer records than keys.
func ParseSearchRecords(v any) (records []ReadRecord) {
	list, _ := v.([]any)
	for _, each := range list {
		stored, ok := each.(string)
		records = append(records, ReadRecord{stored, !ok})
	}
	return records
}

// SearchEndedArgs are the named arguments of searchended.lua.
type SearchEndedArgs struct {
	Last        string // "" to begin
	At          int64
	Most, Bytes int
}

// Append appends them in their order.
func (a *SearchEndedArgs) Append(args []any) []any {
	return append(args, a.Last, a.At, a.Most, a.Bytes)
}

// EndedEntries are entries of a list of runs that have ended, the latest first, or why it cannot be
// read. An entry has the ids of one call, in the order of their ends.
type EndedEntries struct {
	At, Behind int64 // index of the last entry, and how many are behind it
	Entries    [][]string
	Err        error
}

// ParseSearchEnded parses the reply of searchended.lua. It can have fewer lists than keys.
func ParseSearchEnded(v any) (lists []EndedEntries, err error) {
	replies, _ := v.([]any)
	for _, each := range replies {
		if why, ok := each.(string); ok {
			lists = append(lists, EndedEntries{Err: resp.Error(why)})
			continue
		}
		reply, err := arrayOf("searchended", each, 3)
		if err != nil {
			return nil, err
		}
		list := EndedEntries{At: number(reply[0]), Behind: number(reply[1])}
		for _, entry := range texts(reply[2]) {
			_, ids, _ := strings.Cut(entry, " ")
			list.Entries = append(list.Entries, strings.Fields(ids))
		}
		lists = append(lists, list)
	}
	return lists, nil
}

// ParseWhichExist parses the reply of whichexist.lua for so many keys.
func ParseWhichExist(v any, keys int) ([]bool, error) {
	reply, err := arrayOf("whichexist", v, keys)
	if err != nil {
		return nil, err
	}
	exist := make([]bool, keys)
	for i, n := range reply {
		exist[i] = number(n) == 1
	}
	return exist, nil
}
