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
	// scanPage is how many keys one command scans, and searchScans how many commands a page
	// scans with. The first is the same in all pages of a search: a cursor can be in the
	// middle of what one command found.
	scanPage, searchScans = 2000, 10
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

// records reads a page of the records of runs that have ended.
func (s *pageSearch) records(ctx context.Context, p *searchPlace) error {
	keys, next, err := s.scanRecords(ctx, p.key)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(keys, searchPage) {
		err := s.b.recordsIn(ctx, some, s.state, func(i int, record script.ReadRecord) bool {
			s.seeRecord(ctx, some[i], record)
			s.at.name = some[i]
			return !s.full()
		})
		if err != nil || s.full() {
			return err
		}
	}
	if s.at.scan, s.at.name = next, ""; next == 0 {
		s.pass()
	}
	return nil
}

// scanRecords reads a page of keys, and where the next one begins.
func (s *pageSearch) scanRecords(ctx context.Context, opens string) (keys []string, next uint64, err error) {
	node, err := s.b.nodeOf(ctx, s.q)
	if err != nil {
		return nil, 0, err
	}
	s.scans++
	var page conn.Page
	err = s.b.clients.Retry(ctx, conn.MayRepeat, func() (err error) {
		page, err = node.Scan(ctx, s.at.scan, wire.GlobOf(opens), scanPage)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	slices.Sort(page.Entries)
	keys = slices.Compact(page.Entries)
	after, there := slices.BinarySearch(keys, s.at.name)
	if there {
		after++
	}
	return keys[after:], page.Cursor, nil
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
