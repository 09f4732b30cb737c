package metrics

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	taskrt "github.com/taskgen/taskgen/runtime"
)

// Config tunes a recorder. Its zero value works.
type Config struct {
	// Buckets are the upper bounds of the classic buckets of all histograms, in seconds
	// and ascending. Native histograms have theirs in any case. Defaults to 17 bounds
	// from 5 ms to one hour.
	Buckets []float64
	// MaxSeries is how many pairs of a task and a queue are told apart. Runs of further
	// queues are counted as those of the queue "other". Defaults to 2,000.
	MaxSeries int
}

// Recorder counts what a process does to runs. Its methods may be called concurrently.
//
// A program has one, unless it works for several brokers. Those that serve different
// brokers need a label each in one registry, see [prometheus.WrapRegistererWith].
type Recorder struct {
	bounds    []time.Duration
	maxSeries int
	created   time.Time

	series atomic.Pointer[map[pair]*series] // by the names on the wire; replaced as a whole

	mu    sync.Mutex        // serializes changes of series, and guards what follows
	names map[string]string // the name of a task by those under which its runs come
	known bool              // tasks were named: others are "other"

	requests   histogram // of clients, to queue runs
	requesting sync.Mutex
}

// pair is what a series is about.
type pair struct{ task, queue string }

// other is the name of all tasks that the program does not have, and of queues that are too
// many.
const other = "other"

// series counts the runs of a task in a queue.
type series struct {
	pair

	mu       sync.Mutex
	queued   uint64
	refused  [len(reasons)]uint64
	attempts [len(outcomes)]uint64
	success  time.Time // the last one
	wait     histogram
	took     histogram
	total    histogram
}

// NewRecorder returns a recorder that has counted nothing. The error names the field that
// is wrong.
func NewRecorder(cfg Config) (*Recorder, error) {
	if cfg.Buckets == nil {
		cfg.Buckets = defaultBuckets
	}
	for i, bound := range cfg.Buckets {
		switch {
		case bound <= 0 || math.IsNaN(bound) || bound > math.MaxInt64/1e9:
			return nil, fmt.Errorf("make a recorder: field Buckets has %v, it must be a number of seconds above 0", bound)
		case i > 0 && bound <= cfg.Buckets[i-1]:
			return nil, fmt.Errorf("make a recorder: field Buckets has %v behind %v, they must ascend", bound, cfg.Buckets[i-1])
		}
	}
	switch {
	case cfg.MaxSeries < 0:
		return nil, fmt.Errorf("make a recorder: field MaxSeries is %d, it cannot be negative", cfg.MaxSeries)
	case cfg.MaxSeries == 0:
		cfg.MaxSeries = 2000
	}
	r := &Recorder{maxSeries: cfg.MaxSeries, created: time.Now(), names: make(map[string]string)}
	for _, bound := range cfg.Buckets {
		r.bounds = append(r.bounds, time.Duration(bound*1e9))
	}
	r.series.Store(&map[pair]*series{})
	return r, nil
}

// Know names the tasks of the program. From then on, runs of others are counted as the
// task "other", those of an alias as their task, and the counters of these tasks begin at 0.
func (r *Recorder) Know(sets ...[]taskrt.Task) {
	for _, set := range sets {
		for _, t := range set {
			spec := t.Spec()
			r.mu.Lock()
			r.known = true
			for _, alias := range spec.Aliases {
				r.names[alias] = spec.Name
			}
			r.names[spec.Name] = spec.Name
			r.mu.Unlock()
			r.of(spec.Name, spec.Queue)
		}
	}
}

// of returns the series of a run by the names that it has on the wire.
func (r *Recorder) of(task, queue string) *series {
	if s := (*r.series.Load())[pair{task, queue}]; s != nil {
		return s
	}
	return r.find(task, queue)
}

// find returns the series of a run, and makes it if there is room.
func (r *Recorder) find(task, queue string) *series {
	r.mu.Lock()
	defer r.mu.Unlock()
	name, named := r.names[task]
	switch {
	case !named && r.known:
		name = other
	case !named:
		name = task
	}
	all := *r.series.Load()
	at := pair{label(name), label(queue)}
	if all[at] == nil && len(all) >= r.maxSeries {
		at.queue = other
	}
	if all[at] == nil && len(all) >= 2*r.maxSeries {
		at.task = other
	}
	s, folded := all[at], name == other || at.queue == other // the names of others have no bound
	if s != nil && folded {
		return s
	}
	grown := maps.Clone(all)
	if s == nil {
		s = &series{pair: at}
		grown[at] = s
	}
	if !folded {
		grown[pair{task, queue}] = s
	}
	r.series.Store(&grown)
	return s
}

// label returns a text as the value of a label.
func label(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// all returns the series, sorted by task and queue.
func (r *Recorder) all() []*series {
	var list []*series
	for at, s := range *r.series.Load() {
		if at == s.pair { // not one that is here by a name on the wire
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b *series) int {
		if d := strings.Compare(a.task, b.task); d != 0 {
			return d
		}
		return strings.Compare(a.queue, b.queue)
	})
	return list
}
