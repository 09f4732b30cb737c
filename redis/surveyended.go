package redis

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
)

// ended gives the latest runs of a server's queues that have ended, until those named first have
// enough.
func (r *runsSurvey) ended(ctx context.Context, page []*surveyed, give giveRuns) error {
	e := &endedSurvey{runsSurvey: r, give: give}
	return r.b.together(ctx, page, infoQueues, func(few []*surveyed) error {
		if !r.b.clients.Cluster && e.n.Load() > int64(r.max) {
			for _, s := range few {
				give(maintenance.Part[[]*broker.RunInfo]{Queue: s.at})
			}
			return nil
		}
		return e.read(ctx, few)
	})
}

// endedSurvey is a survey of the runs of one server that have ended.
type endedSurvey struct {
	*runsSurvey
	give giveRuns
	n    atomic.Int64 // runs that were found; on a cluster several queues are read at once
}

// endedOf are the runs of one queue that have ended.
type endedOf struct {
	*surveyed
	ids   []string
	found []*broker.RunInfo
	more  bool // there are some that were not looked at
}

// read gives the runs of queues, of one server that is no cluster or of one queue.
func (e *endedSurvey) read(ctx context.Context, few []*surveyed) error {
	var lists []string
	for _, s := range few {
		places, err := placesOf(s.queue, e.state)
		if err != nil {
			return err
		}
		lists = append(lists, places[0].key)
	}
	read, err := e.b.endedIn(ctx, lists, &script.SearchEndedArgs{Most: surveyMost})
	if err != nil {
		return err
	}
	var queues []*endedOf
	for i, s := range few {
		queues = append(queues, newEndedOf(s, read[i]))
	}
	if err := e.readRecords(ctx, queues); err != nil {
		return err
	}
	for _, q := range queues {
		if q.apart {
			e.give(maintenance.Part[[]*broker.RunInfo]{Queue: q.at, Apart: true})
			continue
		}
		e.n.Add(int64(len(q.found)))
		all := len(q.found) <= e.max && !q.more
		e.give(maintenance.Part[[]*broker.RunInfo]{Queue: q.at, Found: q.found[:min(len(q.found), e.max)], All: all})
	}
	return nil
}

// newEndedOf returns a queue of which the list was read.
func newEndedOf(s *surveyed, list script.EndedEntries) *endedOf {
	q := &endedOf{surveyed: s, more: list.Behind > 0}
	s.apart = list.Err != nil && !conn.IsMissing(list.Err)
	seen := map[string]bool{} // an id can end twice
	for _, entry := range list.Entries {
		for _, id := range slices.Backward(entry) {
			if !seen[id] {
				seen[id] = true
				q.ids = append(q.ids, id)
			}
		}
	}
	if len(q.ids) > surveyMost {
		q.ids, q.more = q.ids[:surveyMost], true
	}
	return q
}

// readRecords adds to the queues the runs that are wanted.
func (e *endedSurvey) readRecords(ctx context.Context, queues []*endedOf) error {
	var keys []string
	var of []*endedOf
	for _, q := range queues {
		for _, id := range q.ids {
			keys, of = append(keys, q.Record(id)), append(of, q)
		}
	}
	for len(keys) > 0 {
		n := min(len(keys), searchPage)
		err := e.b.recordsIn(ctx, keys[:n], e.state, func(i int, record script.ReadRecord) bool {
			of[i].apart = of[i].apart || record.Odd
			if record.Stored == "" {
				return true
			}
			if info := endedRun(of[i].queue, keys[i], record.Stored, e.state); info != nil && e.want(info) {
				of[i].found = append(of[i].found, info)
			}
			return true
		})
		if err != nil {
			return err
		}
		keys, of = keys[n:], of[n:]
	}
	return nil
}
