package inspect

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/fleet"
)

// States are those of runs, in the order in which they are listed.
var States = []broker.State{
	broker.StateRunning, broker.StateQueued, broker.StateDelayed,
	broker.StateFailed, broker.StateCancelled, broker.StateSucceeded,
}

// The bounds of one page.
const (
	mostTogether = 1000 // queues that are read together
	mostCalls    = 100  // calls for single queues
)

// RunQuery is what [Look.Runs] looks for.
type RunQuery struct {
	States []broker.State             // empty: all
	Match  func(*broker.RunInfo) bool // may be called concurrently; nil: all match
	After  string                     // the After of the page before
	Max    int                        // runs at most; 0: broker.MaxFound
	Look   int                        // looks at about so many runs at most; 0: broker.MaxLook
}

// RunPage is a page of the runs of several queues.
type RunPage struct {
	Runs   []*broker.RunInfo
	Looked int
	Total  int64 // runs there are in the states and queues, about; -1: unknown
	After  string
}

// Runs returns a page of runs, by their states in the order of [States], then by queue. Runs
// that have ended are sorted within the page, the newest first.
func (l *Look) Runs(ctx context.Context, q RunQuery) (*RunPage, error) {
	searcher, err := l.fleet.searcher()
	if err != nil {
		return nil, err
	}
	from, err := readCursor(q.After, ofRuns)
	if err != nil {
		return nil, err
	}
	q.States = inOrder(q.States)
	if from != nil && !slices.Contains(q.States, from.State) {
		return nil, broker.ErrAfter
	}
	infos, err := l.Infos(ctx)
	if err != nil {
		return nil, err
	}
	r := &runSearch{l: l, searcher: searcher, q: q, infos: infos, page: &RunPage{Total: -1}}
	r.q.Max = boundOf(q.Max, broker.MaxFound)
	r.q.Look = boundOf(q.Look, broker.MaxLook)
	if err := r.search(ctx, from); err != nil {
		return nil, err
	}
	if len(r.page.Runs) == 0 && l.failed() != nil {
		return nil, l.failed()
	}
	r.page.Total = r.total()
	return r.page, nil
}

// inOrder returns the states in the order of [States], all if there are none.
func inOrder(states []broker.State) []broker.State {
	if len(states) == 0 {
		return States
	}
	return slices.DeleteFunc(slices.Clone(States), func(s broker.State) bool { return !slices.Contains(states, s) })
}

func boundOf(n, most int) int {
	if n <= 0 {
		return most
	}
	return min(n, most)
}

// runSearch makes one page.
type runSearch struct {
	l        *Look
	searcher broker.Searcher
	q        RunQuery
	infos    []*broker.QueueInfo // of the queues of the look
	page     *RunPage
	calls    int   // for single queues
	only     int64 // the Total that the broker gave last
	isProbe  bool  // it only finds out whether there is more
}

// search looks from a place on until the page is full, or there is no more.
func (r *runSearch) search(ctx context.Context, from *cursor) error {
	for _, state := range r.q.States {
		queues, after := r.l.Queues, ""
		if from != nil && from.State != state {
			continue
		}
		if from != nil {
			i, same := slices.BinarySearch(queues, from.Queue)
			queues = queues[i:]
			if same {
				after = from.After
			}
			from = nil
		}
		first := len(r.page.Runs)
		next, err := r.inState(ctx, state, queues, after)
		if err != nil {
			return err
		}
		if state.Ended() {
			sortEnded(r.page.Runs[first:])
		}
		if next != nil {
			return r.goOn(ctx, next)
		}
	}
	return nil
}

// goOn sets where the next page begins, unless there is no more as far as one can see.
func (r *runSearch) goOn(ctx context.Context, next *cursor) error {
	if next.After == "" && r.isFull() && !r.isProbe {
		probe := &runSearch{l: r.l, searcher: r.searcher, q: r.q, infos: r.infos, page: &RunPage{}, isProbe: true}
		probe.q.Max = 1
		if err := probe.search(ctx, next); err != nil {
			return err
		}
		if len(probe.page.Runs) == 0 && probe.page.After == "" {
			return nil
		}
	}
	r.page.After = next.String()
	return nil
}

func (r *runSearch) isFull() bool { return len(r.page.Runs) >= r.q.Max }

// isDone reports whether the page looks no further.
func (r *runSearch) isDone() bool {
	return r.isFull() || r.page.Looked >= r.q.Look || r.calls >= mostCalls
}

// inState adds the runs of queues in a state, from a place in the first of them on. It
// returns where it stopped, nil if there is no more.
func (r *runSearch) inState(ctx context.Context, state broker.State, queues []string, after string) (*cursor, error) {
	queues = r.withRuns(state, queues)
	for most := fleet.AtOnce; len(queues) > 0; most = min(4*most, mostTogether) {
		some := queues[:1] // the first of a page that goes on
		var parts []*maintenance.Part[[]*broker.RunInfo]
		if after == "" {
			some = queues[:r.fitting(state, queues, most)]
		}
		queues = queues[len(some):]
		if r.isDone() {
			return &cursor{Of: ofRuns, State: state, Queue: some[0], After: after}, nil
		}
		parts, err := r.together(ctx, state, some)
		if err != nil {
			return nil, err
		}
		for i, queue := range some {
			if p := parts[i]; p != nil && p.All && len(p.Found) <= r.q.Max-len(r.page.Runs) {
				r.page.Runs = append(r.page.Runs, p.Found...)
				continue
			}
			// The survey may have looked at more than the page is to. The first of its queues is
			// looked into all the same, or each page would begin and end there.
			if r.isFull() || i > 0 && r.isDone() {
				return &cursor{Of: ofRuns, State: state, Queue: queue, After: after}, nil
			}
			if next, err := r.inQueue(ctx, state, queue, after); next != nil || err != nil {
				return next, err
			}
			after = ""
		}
	}
	return nil, nil
}

// withRuns leaves out the queues that have no run in the state, as far as that is known.
func (r *runSearch) withRuns(state broker.State, queues []string) (some []string) {
	for _, queue := range queues {
		if n := r.count(state, queue); n != 0 && !r.l.isSkipped(queue) {
			some = append(some, queue)
		}
	}
	return some
}

// count returns how many runs of a queue are in a state, -1 if that is unknown.
func (r *runSearch) count(state broker.State, queue string) int64 {
	i, _ := slices.BinarySearch(r.l.Queues, queue)
	if info := r.infos[i]; info != nil && !state.Ended() {
		return countOf(info, state)
	}
	return -1
}

// fitting returns how many of the queues the rest of the page may look at together.
func (r *runSearch) fitting(state broker.State, queues []string, most int) int {
	left := int64(r.q.Look - r.page.Looked)
	for i, queue := range queues[:min(len(queues), most)] {
		if left -= max(r.count(state, queue), 0); left < 0 {
			return max(i, 1)
		}
	}
	return min(len(queues), most)
}

// together returns what a survey finds in the queues, nil for one to look into by itself.
func (r *runSearch) together(ctx context.Context, state broker.State, queues []string) ([]*maintenance.Part[[]*broker.RunInfo], error) {
	parts := make([]*maintenance.Part[[]*broker.RunInfo], len(queues))
	var looked atomic.Int64
	match := func(i *broker.RunInfo) bool {
		looked.Add(1)
		return r.q.Match == nil || r.q.Match(i)
	}
	_, err := surveyed(ctx, r.l, queues, func(s maintenance.Surveyor, queues []string, part func(maintenance.Part[[]*broker.RunInfo])) error {
		return s.SurveyRuns(ctx, queues, state, r.q.Max-len(r.page.Runs)+1, match, part)
	}, func(i int, part maintenance.Part[[]*broker.RunInfo]) { parts[i] = &part })
	r.page.Looked += int(looked.Load())
	return parts, err
}

// inQueue adds the runs of one queue. It returns where it stopped, nil if there is no more.
func (r *runSearch) inQueue(ctx context.Context, state broker.State, queue, after string) (*cursor, error) {
	for first := true; ; first = false {
		if r.isDone() && !first {
			return &cursor{Of: ofRuns, State: state, Queue: queue, After: after}, nil
		}
		if r.l.isSkipped(queue) {
			return nil, nil
		}
		r.calls++
		look := r.q.Look - r.page.Looked
		if look <= 0 {
			look = r.q.Look
		}
		page, err := r.searcher.FindRuns(ctx, queue, state, broker.RunSearch{
			Match: r.q.Match, After: after, Max: r.q.Max - len(r.page.Runs), Look: look,
		})
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, broker.ErrAfter) {
			return nil, err
		}
		if err != nil {
			r.l.skip(queue, err)
		}
		if page == nil {
			return nil, nil
		}
		r.page.Runs = append(r.page.Runs, page.Runs...)
		r.page.Looked += page.Looked
		r.only = page.Total
		if after = page.After; after == "" {
			return nil, nil
		}
	}
}

// total returns how many runs there are in the states and queues, -1 if that is unknown.
func (r *runSearch) total() (n int64) {
	if len(r.q.States) == 1 && r.q.States[0].Ended() && len(r.l.Queues) == 1 && r.calls > 0 {
		return r.only
	}
	for _, state := range r.q.States {
		for _, queue := range r.l.Queues {
			c := r.count(state, queue)
			if c < 0 {
				return -1
			}
			n += c
		}
	}
	return n
}

// sortEnded sorts runs that have ended, the newest first: by their ends and, where these are
// unknown, by their ids, which sort by time.
func sortEnded(runs []*broker.RunInfo) {
	slices.SortStableFunc(runs, func(a, b *broker.RunInfo) int {
		return cmp.Or(b.Ended.Compare(a.Ended), -cmp.Compare(a.Run.ID, b.Run.ID))
	})
}
