package redis

import (
	"context"
	"maps"
	"slices"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// ended gives records of runs of a server's queues that have ended.
func (r *runsSurvey) ended(ctx context.Context, page []*surveyed, give func(maintenance.Part[[]*broker.RunInfo])) error {
	if len(page) == 0 {
		return nil
	}
	node, err := r.b.nodeOf(ctx, page[0].queue)
	if err != nil {
		return err
	}
	e := &endedSurvey{runsSurvey: r, of: make(map[string]*surveyed, len(page)), found: map[*surveyed][]*broker.RunInfo{}, last: len(page)}
	for i, s := range page {
		e.of[s.Base], s.sizes = s, []int64{int64(i)}
	}
	cursor := uint64(0)
	for range maxScans {
		var scan *goredis.ScanCmd
		err := r.b.clients.Retry(ctx, conn.MayRepeat, func() (err error) {
			scan, err = conn.WithGrace(ctx, r.b.clients, func(ctx context.Context) (*goredis.ScanCmd, error) {
				cmd := node.Scan(ctx, cursor, wire.GlobOf(r.b.cfg.Prefix+":{")+"}:rec:*", 1000)
				return cmd, cmd.Err()
			})
			return err
		})
		if err != nil {
			return err
		}
		keys, next := scan.Val()
		for keys := range slices.Chunk(keys, listPage) {
			if err := e.add(ctx, keys); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	for _, s := range page {
		switch {
		case s.odd:
			give(maintenance.Part[[]*broker.RunInfo]{Queue: s.at, Apart: true})
		default:
			all := len(e.found[s]) <= r.max && int(s.sizes[0]) < e.last
			give(maintenance.Part[[]*broker.RunInfo]{Queue: s.at, Found: e.found[s][:min(len(e.found[s]), r.max)], All: all})
		}
	}
	return nil
}

// endedSurvey is the part of a survey that is about runs that have ended, of one server.
// The sizes of its queues are their places among those of the server.
type endedSurvey struct {
	*runsSurvey
	of    map[string]*surveyed // by what opens their keys
	found map[*surveyed][]*broker.RunInfo
	n     int
	last  int // from here on queues are left out
}

// add adds the wanted ones of records.
func (e *endedSurvey) add(ctx context.Context, keys []string) error {
	ofKey := map[string]*surveyed{}
	for _, key := range keys {
		if end := strings.Index(key, "}:rec:"); end >= 0 {
			if s := e.of[key[:end+2]]; s != nil && !s.odd && int(s.sizes[0]) < e.last {
				ofKey[key] = s
			}
		}
	}
	states := map[string]*goredis.StringCmd{}
	err := e.b.clients.ReadMany(ctx, func(pipe goredis.Pipeliner) {
		for key := range ofKey {
			states[key] = pipe.GetRange(ctx, key, 0, 0)
		}
	})
	if err != nil {
		return err
	}
	var wanted []string
	for _, key := range keys {
		if s := ofKey[key]; s != nil {
			if s.note(states[key].Err()); states[key].Val() == wire.LetterOf(e.state) {
				wanted = append(wanted, key)
			}
		}
	}
	for few := range slices.Chunk(wanted, endedPage) {
		stored := map[string]*goredis.StringCmd{}
		err := e.b.clients.ReadMany(ctx, func(pipe goredis.Pipeliner) {
			for _, key := range few {
				stored[key] = pipe.Get(ctx, key)
			}
		})
		if err != nil {
			return err
		}
		for _, key := range few {
			s := ofKey[key]
			s.note(stored[key].Err())
			if info := endedRun(s.queue, key, stored[key].Val(), e.state); info != nil && e.want(info) && len(e.found[s]) <= e.max {
				e.found[s] = append(e.found[s], info)
				e.n++
			}
		}
		e.trim()
	}
	return nil
}

const (
	// endedPage is how many records are read at once: each can have a large result.
	endedPage = 50
	// surveyLeast is how many runs that have ended are kept before any are left out.
	surveyLeast = 10_000
)

// trim leaves out what is found of queues if those before them have enough.
func (e *endedSurvey) trim() {
	if e.n <= 2*max(e.max, surveyLeast) {
		return
	}
	byPlace := func(a, b *surveyed) int { return int(a.sizes[0] - b.sizes[0]) }
	e.n = 0
	for _, s := range slices.SortedFunc(maps.Keys(e.found), byPlace) {
		if e.n >= max(e.max, surveyLeast) {
			delete(e.found, s)
			e.last = min(e.last, int(s.sizes[0]))
			continue
		}
		e.n += len(e.found[s])
	}
}

// runsSurvey is a survey of runs.
type runsSurvey struct {
	b     *Broker
	state broker.State
	max   int
	want  func(*broker.RunInfo) bool
}
