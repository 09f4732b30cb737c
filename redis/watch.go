package redis

import (
	"context"
	"fmt"
	"github.com/taskgen/taskgen/redis/internal/script"
	"slices"
	"strings"
	"sync"
	"time"
)

// watch is the queues that a take names together, of a single server. A token of each
// of them goes to one list, which takes of many queues can block on at the cost of one:
// a producer moves there what watched:<kind> of its queue holds (wake.lua). All takes
// of a process that name the same queues share their watch.
type watch struct {
	b      *Broker
	id     string   // of the set of names, in every process
	queues []*queue // by name
	in     map[*queue]bool
	used   time.Time // last, under the lock of watches

	mu    sync.Mutex
	since [2]time.Time // when every queue was last made to wake for io, for cpu

	probe queueProbe
}

// watches are those of a broker, by their ids.
type watches struct {
	mu   sync.Mutex
	list map[string]*watch
}

const (
	// watchPage is how many queues are watched in one command.
	watchPage = 200
	// watchFor is for how long a queue's element stays; it is looked after long
	// before that.
	watchFor   = time.Hour
	watchAgain = 20 * time.Minute
	// watchLost is how soon all queues are watched again when something was found
	// that had woken nobody.
	watchLost = time.Minute
	// unusedWatch is after how long a watch that nobody asks for is forgotten.
	unusedWatch = 5 * time.Minute
)

// get returns the watch of the queues.
func (ws *watches) get(b *Broker, queues []*queue) *watch {
	sum := uint64(len(queues))
	for _, q := range queues {
		sum += q.mix
	}
	id := fmt.Sprintf("%016x", sum)
	ws.mu.Lock()
	defer ws.mu.Unlock()
	now := time.Now()
	w := ws.list[id]
	if w == nil {
		for id, old := range ws.list {
			if now.Sub(old.used) > unusedWatch {
				delete(ws.list, id)
			}
		}
		w = &watch{b: b, id: id, queues: slices.Clone(queues), in: make(map[*queue]bool, len(queues))}
		slices.SortFunc(w.queues, func(a, b *queue) int { return strings.Compare(a.Name, b.Name) })
		w.queues = slices.Compact(w.queues)
		for _, q := range w.queues {
			w.in[q] = true
		}
		w.probe.turn = make(chan struct{}, 1)
		if ws.list == nil {
			ws.list = map[string]*watch{}
		}
		ws.list[id] = w
	}
	w.used = now
	return w
}

// tokenFor is what is left in a queue to be woken by it.
func (w *watch) tokenFor(q *queue) string { return w.id + " " + q.Name }

// lists returns the lists whose elements wake takes with that room.
func (w *watch) lists(r room) (keys []string) {
	for _, kind := range r.kinds() {
		keys = append(keys, w.own(kind), w.b.woken(kind))
	}
	return keys
}

// own is the list to which others move elements of this watch that they came upon.
func (w *watch) own(kind int) string { return w.b.woken(kind) + ":" + w.id }

// begin has every queue wake takes with that room, unless that was done of late, and
// returns the queues in which a run waits already if it was not.
func (w *watch) begin(ctx context.Context, r room) ([]*queue, error) {
	var kinds []int
	start := time.Now()
	w.mu.Lock()
	for _, kind := range r.kinds() {
		if start.Sub(w.since[kind]) > watchAgain {
			kinds = append(kinds, kind)
		}
	}
	w.mu.Unlock()
	if len(kinds) == 0 {
		return nil, nil
	}
	var waiting []*queue
	for page := range slices.Chunk(w.queues, watchPage) {
		found, err := w.beginPage(ctx, kinds, page)
		if err != nil {
			return nil, err
		}
		waiting = append(waiting, found...)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, kind := range kinds {
		w.since[kind] = start
	}
	return waiting, nil
}

func (w *watch) beginPage(ctx context.Context, kinds []int, page []*queue) ([]*queue, error) {
	var (
		keys []string
		more []any // elements
	)
	for _, q := range page {
		for _, kind := range kinds {
			keys = append(keys, q.Watched[kind])
		}
		keys = append(keys, waitKeys(q)...)
		more = append(more, w.tokenFor(q))
	}
	args := (&script.WatchArgs{Kinds: len(kinds), Keys: len(keys) / len(page), Keep: watchFor.Milliseconds()}).Append(nil)
	args = append(args, more...)
	v, err := w.b.repeat(ctx, w.b.scripts.Watch, w.b.clients.Work, keys, args...)
	if err != nil {
		return nil, w.b.fail(ctx, "watch queues", err)
	}
	reply, _ := v.([]any)
	if len(reply) != 2 {
		return nil, fmt.Errorf("watch queues: unexpected reply %T", v)
	}
	var waiting []*queue
	places, _ := reply[0].([]any)
	for _, v := range places {
		if n, ok := v.(int64); ok && n >= 1 && int(n) <= len(page) {
			waiting = append(waiting, page[n-1])
		}
	}
	failed, _ := reply[1].([]any)
	for pair := range slices.Chunk(failed, 2) {
		if n, ok := pair[0].(int64); ok && len(pair) == 2 && n >= 1 && int(n) <= len(page) {
			q := page[n-1]
			w.b.logOddKey(ctx, q.Watched[kinds[0]], fmt.Errorf("runs of queue %s wake nobody: %v", q.Name, pair[1]))
		}
	}
	return waiting, nil
}

// lost has all queues watched again soon: a run was found that had woken nobody, so
// the server may have lost the elements.
func (w *watch) lost() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for kind, at := range w.since {
		if time.Since(at) > watchLost {
			w.since[kind] = time.Time{}
		}
	}
}

// queueOf returns the queue that an element of a list names, if it is one of these, and
// else the list of those who left it there.
func (w *watch) queueOf(list, stored string) (q *queue, theirs string) {
	id, name, ok := strings.Cut(stored, " ")
	if !ok {
		return nil, ""
	}
	if v, ok := w.b.queues.Load(name); ok && w.in[v.(*queue)] {
		return v.(*queue), ""
	}
	if id == w.id || len(id) != len(w.id) {
		return nil, "" // of an earlier set that has the same id, or it was made up
	}
	for kind := range 2 {
		if strings.HasPrefix(list, w.b.woken(kind)) {
			return nil, w.b.woken(kind) + ":" + id
		}
	}
	return nil, ""
}

// waitKeys returns the keys of which one exists while a run of the queue waits.
func waitKeys(q *queue) []string { return append(q.Fixed[:7:7], q.Waiting, q.Enabling, q.Staged) }

// flightKeys returns those of which one exists while there is something to recover.
func flightKeys(q *queue) []string { return []string{q.InFlight, q.Outbox, q.Pending, q.Stages} }

// queueProbe is what was last seen of the queues of a watch. Queues in which there was
// something are asked one by one, so that it does not take a search to find them again.
type queueProbe struct {
	turn chan struct{} // has a value while somebody looks

	// Of whom has the turn.
	at      time.Time
	next    int             // where the next probe goes on, if there are too many queues
	known   map[*queue]bool // there was something
	waiting []*queue        // in which a run waits that is due, or may be
	later   []*queue        // in which runs wait that are delayed
	back    []*queue        // with something in flight, in the outbox, or in doubt
}
