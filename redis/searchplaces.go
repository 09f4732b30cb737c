package redis

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

const (
	// searchBatches is how many batches in flight one command reads.
	searchBatches = 200
	// searchReads is how many times a page reads a list of runs that have ended: their records
	// may have expired.
	searchReads = 10
)

// batches reads a page of the runs that sessions hold.
func (s *pageSearch) batches(ctx context.Context, p *searchPlace) (err error) {
	if s.inFlight == nil {
		if s.inFlight, err = s.b.namesInFlight(ctx, s.q); err != nil {
			return err
		}
	}
	at, there := slices.BinarySearchFunc(s.inFlight, s.at.name, wire.CompareBatches)
	names := s.inFlight[at:min(at+searchBatches, len(s.inFlight))]
	if len(names) == 0 {
		s.pass()
		return nil
	}
	args := &script.SearchBatchesArgs{Most: s.page(), Bytes: searchBytes}
	if there {
		args.From = s.at.index + 1
	}
	var keys []string
	for _, name := range names {
		keys = append(keys, s.q.Batch(name), s.q.Done(name))
	}
	v, err := s.b.repeat(ctx, s.b.scripts.SearchBatches, s.b.clients.Work, keys, args.Append(nil)...)
	if err != nil {
		return err
	}
	reply, err := script.ParseSearchBatches(v, len(names))
	if err != nil {
		return err
	}
	for at, why := range reply.Odd {
		s.odd = errors.Join(s.odd, s.b.blame(ctx, errors.New(why), keys[2*at], keys[2*at+1]))
	}
	for _, run := range reply.Runs {
		name := names[run.Batch]
		session, _, _ := strings.Cut(name, ":")
		s.see(foundRun{info: &broker.RunInfo{Session: session}, key: s.q.Batch(name), entry: run.Stored, name: name, index: run.Index})
		if s.at.name, s.at.index = name, run.Index; s.full() {
			return nil
		}
	}
	switch {
	case reply.Batches < len(names):
		s.at.name, s.at.index = names[reply.Batches], reply.From-1
	case at+len(names) == len(s.inFlight):
		s.pass()
	default:
		s.at.name, s.at.index = s.inFlight[at+len(names)], -1
	}
	return nil
}

// namesInFlight returns the names of the batches in flight in a queue, in their order.
func (b *Broker) namesInFlight(ctx context.Context, q *queue) (names []string, err error) {
	for cursor := uint64(0); ; {
		var page conn.Page
		err := b.clients.Retry(ctx, conn.MayRepeat, func() (err error) {
			page, err = b.clients.Work.SScan(ctx, q.InFlight, cursor, searchPage)
			return err
		})
		if err != nil {
			return nil, err
		}
		names = append(names, page.Entries...)
		if cursor = page.Cursor; cursor == 0 {
			slices.SortFunc(names, wire.CompareBatches)
			return slices.Compact(names), nil
		}
	}
}

// ended reads a page of a list of runs that have ended, the latest first.
func (s *pageSearch) ended(ctx context.Context, p *searchPlace) error {
	most := s.page()
	if s.reads++; s.reads > 1 {
		most = searchPage // few of the first still have a record
	}
	args := &script.SearchEndedArgs{Last: s.at.name, At: max(s.at.index, 0), Most: most}
	lists, err := s.b.endedIn(ctx, []string{p.key}, args)
	if err != nil {
		return err
	}
	list := &lists[0]
	if list.Err != nil {
		return list.Err
	}
	var ids, keys []string
	var indexes []int64 // of their entries
	for i, entry := range list.Entries {
		if i == 0 && s.at.name != "" {
			entry = entry[:max(slices.Index(entry, s.at.name), 0)]
		}
		for _, id := range slices.Backward(entry) {
			if !s.isSeen(id) {
				ids, keys, indexes = append(ids, id), append(keys, s.q.Record(id)), append(indexes, list.At-int64(len(list.Entries)-1-i))
			}
		}
	}
	all := len(keys) == 0
	err = s.b.recordsIn(ctx, keys, s.state, func(i int, record script.ReadRecord) bool {
		s.seeRecord(ctx, keys[i], record)
		s.at.name, s.at.index = ids[i], indexes[i]
		all = i == len(keys)-1
		return !s.full()
	})
	if err != nil || !all {
		return err
	}
	if list.Behind <= 0 {
		s.pass()
	} else if n := len(list.Entries); n > 0 {
		s.at.name, s.at.index = list.Entries[n-1][0], list.At // all of the entry was read
	}
	return nil
}

// isSeen reports whether the page has looked at a run already: an id can end twice.
func (s *pageSearch) isSeen(id string) bool {
	if s.seen == nil {
		s.seen = map[string]bool{}
	}
	seen := s.seen[id]
	s.seen[id] = true
	return seen
}

// endedIn reads entries of lists of runs that have ended, all of one server that is no cluster or of
// one queue, until each has enough runs.
func (b *Broker) endedIn(ctx context.Context, keys []string, args *script.SearchEndedArgs) (lists []script.EndedEntries, err error) {
	args.Bytes = searchBytes
	for len(lists) < len(keys) {
		v, err := b.repeat(ctx, b.scripts.SearchEnded, b.clients.Work, keys[len(lists):], args.Append(nil)...)
		if err != nil {
			return nil, err
		}
		read, err := script.ParseSearchEnded(v)
		if err != nil {
			return nil, err
		}
		if len(read) == 0 || len(read) > len(keys)-len(lists) {
			return nil, errors.New("unexpected reply of searchended.lua")
		}
		lists = append(lists, read...)
	}
	return lists, nil
}

// seeRecord looks at a record.
func (s *pageSearch) seeRecord(ctx context.Context, key string, record script.ReadRecord) {
	if record.Odd {
		s.odd = errors.Join(s.odd, s.b.blame(ctx, errors.New("WRONGTYPE"), key))
		return
	}
	if record.Stored == "" {
		return
	}
	s.looked++
	if info := endedRun(s.q, key, record.Stored, s.state); info != nil {
		s.take(&foundRun{info: info, key: key, entry: record.Stored})
	}
}

// recordsIn reads records, all of one server that is no cluster or of one queue, and calls use for
// each until that returns false.
func (b *Broker) recordsIn(ctx context.Context, keys []string, state broker.State, use func(i int, record script.ReadRecord) bool) error {
	args := (&script.SearchRecordsArgs{Letter: wire.LetterOf(state), Bytes: searchBytes}).Append(nil)
	for read := 0; read < len(keys); {
		v, err := b.repeat(ctx, b.scripts.SearchRecords, b.clients.Work, keys[read:], args...)
		if err != nil {
			return err
		}
		records := script.ParseSearchRecords(v)
		if len(records) == 0 || len(records) > len(keys)-read {
			return errors.New("unexpected reply of searchrecords.lua")
		}
		for _, record := range records {
			if !use(read, record) {
				return nil
			}
			read++
		}
	}
	return nil
}
