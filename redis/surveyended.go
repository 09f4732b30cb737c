package redis

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// ended gives records of runs of a server's queues that have ended.
func (r *runsSurvey) ended(ctx context.Context, page []*surveyed, give giveRuns) error {
	if len(page) == 0 {
		return nil
	}
	node, err := r.b.nodeOf(ctx, page[0].queue)
	if err != nil {
		return err
	}
	e := newEndedSurvey(r, page)
	cursor := uint64(0)
	for range maxScans {
		got, err := e.scan(ctx, node, cursor)
		if err != nil {
			return err
		}
		for keys := range slices.Chunk(got.Entries, listPage) {
			if err := e.add(ctx, keys); err != nil {
				return err
			}
		}
		if cursor = got.Cursor; cursor == 0 {
			break
		}
	}
	for _, s := range page {
		give(e.part(s))
	}
	return nil
}

// endedSurvey is a survey of the runs of one server that have ended.
type endedSurvey struct {
	*runsSurvey
	of    map[string]*surveyed // by what opens their keys
	found map[*surveyed][]*broker.RunInfo
	n     int
	last  int // from this place on queues are skipped
}

func newEndedSurvey(r *runsSurvey, page []*surveyed) *endedSurvey {
	e := &endedSurvey{runsSurvey: r, of: make(map[string]*surveyed, len(page)), found: map[*surveyed][]*broker.RunInfo{}, last: len(page)}
	for i, s := range page {
		e.of[s.Base], s.place = s, i
	}
	return e
}

// isSkipped reports whether the queues before one have enough runs.
func (e *endedSurvey) isSkipped(s *surveyed) bool { return s.place >= e.last }

// scan reads a page of the keys of records on a server.
func (e *endedSurvey) scan(ctx context.Context, node conn.Commands, cursor uint64) (got conn.Page, err error) {
	err = e.b.clients.Retry(ctx, conn.MayRepeat, func() (err error) {
		got, err = node.Scan(ctx, cursor, wire.GlobOf(e.b.cfg.Prefix+":{")+"}:rec:*", 1000)
		return err
	})
	return got, err
}

// part is what is known of a queue.
func (e *endedSurvey) part(s *surveyed) maintenance.Part[[]*broker.RunInfo] {
	if s.apart {
		return maintenance.Part[[]*broker.RunInfo]{Queue: s.at, Apart: true}
	}
	found := e.found[s]
	all := len(found) <= e.max && !e.isSkipped(s)
	return maintenance.Part[[]*broker.RunInfo]{Queue: s.at, Found: found[:min(len(found), e.max)], All: all}
}

// add adds the wanted ones of records.
func (e *endedSurvey) add(ctx context.Context, keys []string) error {
	of := e.queuesOf(keys)
	ended, err := e.inState(ctx, keys, of)
	if err != nil {
		return err
	}
	for few := range slices.Chunk(ended, endedPage) {
		if err := e.addRecords(ctx, few, of); err != nil {
			return err
		}
		e.trim()
	}
	return nil
}

// queuesOf returns the queue of each record, unless enough is known of the queue.
func (e *endedSurvey) queuesOf(keys []string) map[string]*surveyed {
	of := map[string]*surveyed{}
	for _, key := range keys {
		if end := strings.Index(key, "}:rec:"); end >= 0 {
			if s := e.of[key[:end+2]]; s != nil && !s.apart && !e.isSkipped(s) {
				of[key] = s
			}
		}
	}
	return of
}

// inState returns the keys of the records whose runs are in the survey's state.
func (e *endedSurvey) inState(ctx context.Context, keys []string, of map[string]*surveyed) (found []string, err error) {
	states := map[string]conn.Reply[string]{}
	err = e.b.clients.ReadMany(ctx, func(pipe conn.Pipeline) {
		for key := range of {
			states[key] = pipe.GetRange(ctx, key, 0, 0)
		}
	})
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if s := of[key]; s != nil {
			if s.note(states[key].Err()); states[key].Val() == wire.LetterOf(e.state) {
				found = append(found, key)
			}
		}
	}
	return found, nil
}

// addRecords reads some records and adds those that are wanted.
func (e *endedSurvey) addRecords(ctx context.Context, keys []string, of map[string]*surveyed) error {
	stored := map[string]conn.Reply[string]{}
	err := e.b.clients.ReadMany(ctx, func(pipe conn.Pipeline) {
		for _, key := range keys {
			stored[key] = pipe.Get(ctx, key)
		}
	})
	if err != nil {
		return err
	}
	for _, key := range keys {
		s := of[key]
		s.note(stored[key].Err())
		if info := endedRun(s.queue, key, stored[key].Val(), e.state); info != nil && e.want(info) && len(e.found[s]) <= e.max {
			e.found[s] = append(e.found[s], info)
			e.n++
		}
	}
	return nil
}

const (
	// endedPage is how many records are read at once: each can have a large result.
	endedPage = 50
	// surveyLeast is how many runs that have ended are kept before queues are skipped.
	surveyLeast = 10_000
)

// trim skips queues, and what was found of them, if those before them have enough runs.
func (e *endedSurvey) trim() {
	if e.n <= 2*max(e.max, surveyLeast) {
		return
	}
	byPlace := func(a, b *surveyed) int { return a.place - b.place }
	e.n = 0
	for _, s := range slices.SortedFunc(maps.Keys(e.found), byPlace) {
		if e.n >= max(e.max, surveyLeast) {
			delete(e.found, s)
			e.last = min(e.last, s.place)
			continue
		}
		e.n += len(e.found[s])
	}
}
