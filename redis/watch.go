package redis

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/taskgen/taskgen/redis/internal/script"
)

// watch is a set of queues of a single server that takes name together. The watch leaves
// its token in each queue. Whoever queues a run moves the token from there, watched:<kind>,
// to a list that all queues share, woken:<kind> (watched.lua). A take blocks on that list
// at the cost of one queue. All takes of a process that name the same queues share their
// watch.
type watch struct {
	b      *Broker
	id     string   // of the set of names, the same in every process
	queues []*queue // by name
	has    map[*queue]bool
	used   time.Time // last; the lock of watches is held

	mu           sync.Mutex
	watchedSince [2]time.Time // when tokens were last left in all queues: for io, for cpu

	probe queueProbe
}

// watches are those of a broker, by their ids.
type watches struct {
	mu   sync.Mutex
	list map[string]*watch
}

const (
	// queuesPerWatch is in how many queues one command leaves tokens.
	queuesPerWatch = 200
	// watchFor is how long a watch's token stays in a queue.
	watchFor = time.Hour
	// watchAgain is after how long a watch leaves its tokens again.
	watchAgain = 20 * time.Minute
	// watchLost takes the place of watchAgain after a take found a run without a wake token:
	// a token may have been lost.
	watchLost = time.Minute
	// unusedWatch is after how long without a take a watch is forgotten.
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
		ws.forgetUnused(now)
		w = newWatch(b, id, queues)
		set(&ws.list, id, w)
	}
	w.used = now
	return w
}

// forgetUnused forgets the watches that no take uses. The lock is held.
func (ws *watches) forgetUnused(now time.Time) {
	for id, w := range ws.list {
		if now.Sub(w.used) > unusedWatch {
			delete(ws.list, id)
		}
	}
}

func newWatch(b *Broker, id string, queues []*queue) *watch {
	w := &watch{b: b, id: id, queues: slices.Clone(queues), has: make(map[*queue]bool, len(queues))}
	slices.SortFunc(w.queues, func(a, b *queue) int { return strings.Compare(a.Name, b.Name) })
	w.queues = slices.Compact(w.queues)
	for _, q := range w.queues {
		w.has[q] = true
	}
	w.probe.turn = make(chan struct{}, 1)
	return w
}

// watchToken is the wake token that the watch leaves in a queue.
func (w *watch) watchToken(q *queue) string { return w.id + " " + q.Name }

// tokenLists returns the lists to which tokens of the watch come, for the kinds that there
// is room for.
func (w *watch) tokenLists(r room) (keys []string) {
	for _, kind := range r.kinds() {
		keys = append(keys, w.ownList(kind), w.b.woken(kind))
	}
	return keys
}

// ownList is the list to which other watches move tokens of this watch that they read.
func (w *watch) ownList(kind int) string { return w.b.woken(kind) + ":" + w.id }

// ensureWatched leaves the watch's tokens in all queues, for the kinds that there is room
// for, unless that was done of late. If it does so, it returns the queues in which a run
// waits already.
func (w *watch) ensureWatched(ctx context.Context, r room) ([]*queue, error) {
	start := time.Now()
	kinds := w.unwatchedKinds(r, start)
	if len(kinds) == 0 {
		return nil, nil
	}
	var found []*queue
	for page := range slices.Chunk(w.queues, queuesPerWatch) {
		some, err := w.watchQueues(ctx, kinds, page)
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, kind := range kinds {
		w.watchedSince[kind] = start
	}
	return found, nil
}

// unwatchedKinds returns the kinds that there is room for and of which the tokens have to be
// left again.
func (w *watch) unwatchedKinds(r room, now time.Time) (kinds []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, kind := range r.kinds() {
		if now.Sub(w.watchedSince[kind]) > watchAgain {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// watchQueues leaves tokens in a page of the queues, and returns those in which a run
// waits.
func (w *watch) watchQueues(ctx context.Context, kinds []int, page []*queue) ([]*queue, error) {
	var (
		keys   []string
		tokens []any
	)
	for _, q := range page {
		for _, kind := range kinds {
			keys = append(keys, q.Watched[kind])
		}
		keys = append(keys, queuedKeys(q)...)
		tokens = append(tokens, w.watchToken(q))
	}
	args := (&script.WatchArgs{Kinds: len(kinds), Keys: len(keys) / len(page), Keep: watchFor.Milliseconds()}).Append(nil)
	v, err := w.b.repeat(ctx, w.b.scripts.Watch, w.b.clients.Work, keys, append(args, tokens...)...)
	if err != nil {
		return nil, w.b.fail(ctx, "watch queues", err)
	}
	reply, err := script.ParseWatch(v, len(page))
	if err != nil {
		return nil, fmt.Errorf("watch queues: %w", err)
	}
	for _, f := range reply.Broken {
		q := page[f.Queue]
		w.b.logOddKey(ctx, q.Watched[kinds[0]], fmt.Errorf("runs of queue %s wake nobody: %s", q.Name, f.Why))
	}
	var found []*queue
	for _, place := range reply.Waiting {
		found = append(found, page[place])
	}
	return found, nil
}

// watchAgainSoon has the watch leave its tokens again after a minute, since the server may
// have lost them: a take found a run of which no wake token had come.
func (w *watch) watchAgainSoon() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for kind, at := range w.watchedSince {
		if time.Since(at) > watchLost {
			w.watchedSince[kind] = time.Time{}
		}
	}
}

// queueOf returns the queue that an entry of a list names, if it is of the watch. Otherwise it
// returns the own list of the watch that left the entry, empty if there is none.
func (w *watch) queueOf(list, entry string) (q *queue, ownList string) {
	id, name, ok := strings.Cut(entry, " ")
	if !ok {
		return nil, ""
	}
	if v, ok := w.b.queues.Load(name); ok && w.has[v.(*queue)] {
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
