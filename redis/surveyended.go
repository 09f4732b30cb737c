package redis

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
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
		if err := e.add(ctx, got.Entries); err != nil {
			return err
		}
		if cursor = got.Cursor; cursor == 0 {
			break
		}
	}
	e.isCut = cursor != 0
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
	last  int  // from this place on queues are skipped
	isCut bool // the server has more keys than are scanned, so that any queue may have more
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
		got, err = node.Scan(ctx, cursor, wire.GlobOf(e.b.cfg.Prefix+":{")+"}:rec:*", scanPage)
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
	all := len(found) <= e.max && !e.isSkipped(s) && !e.isCut
	return maintenance.Part[[]*broker.RunInfo]{Queue: s.at, Found: found[:min(len(found), e.max)], All: all}
}

// add adds the wanted ones of records.
func (e *endedSurvey) add(ctx context.Context, keys []string) error {
	for _, group := range e.byQueue(keys) {
		for some := range slices.Chunk(group, searchPage) {
			err := e.b.recordsIn(ctx, some, e.state, func(i int, record script.ReadRecord) bool {
				e.addRecord(some[i], record)
				return true
			})
			if err != nil {
				return err
			}
		}
		e.trim()
	}
	return nil
}

// byQueue returns the keys of records of queues of which not enough is known, in one group for each
// queue on a cluster, else in one group.
func (e *endedSurvey) byQueue(keys []string) (groups [][]string) {
	at := map[*surveyed]int{}
	for _, key := range keys {
		s := e.queueOf(key)
		if s == nil || s.apart || e.isSkipped(s) {
			continue
		}
		if !e.b.clients.Cluster {
			s = nil // any
		}
		n, ok := at[s]
		if !ok {
			n = len(groups)
			at[s], groups = n, append(groups, nil)
		}
		groups[n] = append(groups[n], key)
	}
	return groups
}

// queueOf returns the queue of a record, nil if it is none of the survey's.
func (e *endedSurvey) queueOf(key string) *surveyed {
	end := strings.Index(key, "}:rec:")
	if end < 0 {
		return nil
	}
	return e.of[key[:end+2]]
}

// addRecord adds the run of a record if it is wanted.
func (e *endedSurvey) addRecord(key string, record script.ReadRecord) {
	s := e.queueOf(key)
	s.apart = s.apart || record.Odd
	if record.Stored == "" || len(e.found[s]) > e.max {
		return
	}
	if info := endedRun(s.queue, key, record.Stored, e.state); info != nil && e.want(info) {
		e.found[s] = append(e.found[s], info)
		e.n++
	}
}

// surveyLeast is how many runs that have ended are kept before queues are skipped.
const surveyLeast = 10_000

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
