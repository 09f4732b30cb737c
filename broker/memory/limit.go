package memory

import (
	"container/heap"
	"math"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// limit is the state of one key of [broker.Limit]. It exists while runs count against
// it or wait for it.
type limit struct {
	q        *queue
	key      string
	stem     string             // of the key
	running  int                // runs that sessions hold
	starts   []int64            // when runs were taken, by the monotonic clock, for as long as keep
	keep     time.Duration      // the longest time asked for
	let      [2][priorities]int // runs that left their backlogs, and are not yet taken
	backlogs []*backlog         // whose heads this limit holds back
	turns    map[string]uint64  // when the values of Fair had their turn; nil while there are none
	turn     uint64             // the last one

	rings int64 // when to check it again, by the monotonic clock
	at    int   // in the queue's windows; -1: not there
}

// backlog is the runs of one kind and with the same limits that wait for a limit. It
// belongs to the limit that its head waits for, so that a limit checks one run for each
// backlog, however many wait.
type backlog struct {
	name       string // its kind and keys
	kind       broker.Kind
	readyLists [priorities]readyList
	n          int
	limit      *limit
}

// head returns the run of the backlog that starts next.
func (bl *backlog) head() *storedRun {
	for p := range bl.readyLists {
		if e := bl.readyLists[p].head(); e != nil {
			return e
		}
	}
	return nil
}

// backlogName returns the kind and keys that the runs of one backlog share. No key has a
// space.
func backlogName(r *broker.TaskRun) []byte {
	name := make([]byte, 0, 64)
	name = append(name, '0'+byte(lower(r.Kind)))
	for _, l := range r.Rules.OrZero().Limits {
		name = append(append(name, ' '), l.Key...)
	}
	return name
}

// blocks reports whether a run has to wait for the limit. A run that left its backlog
// counts among those that left theirs.
func (l *limit) blocks(e *storedRun, now clock) bool {
	let := 0
	if e.rare == nil || !e.rare.let {
		for _, n := range l.let[lower(e.run.Kind)][:level(e.run.Priority)+1] {
			let += n // these come before it
		}
	}
	for i := range e.limits() {
		if e.limits()[i].Key != l.key {
			continue
		}
		asked := l.numbers(e.limits()[i])
		n := l.running
		if asked.Per > 0 {
			n = l.within(asked.Per, now)
		}
		if n+let >= asked.Max {
			return true
		}
	}
	return false
}

// numbers returns what holds for this limit, which a run brings.
func (l *limit) numbers(asked broker.Limit) broker.Limit { return l.q.program.Of(l.stem, asked) }

// within returns how many runs were taken in the time before now.
func (l *limit) within(d time.Duration, now clock) int {
	n, _ := slices.BinarySearch(l.starts, now.mono-int64(d)+1)
	return len(l.starts) - n
}

// opens returns when time alone lets a run start that waits for the limit, or the end of
// time if it does not.
func (l *limit) opens(e *storedRun, now clock) int64 {
	at := int64(0)
	for i := range e.limits() {
		if e.limits()[i].Key != l.key {
			continue
		}
		asked := l.numbers(e.limits()[i])
		switch {
		case asked.Per == 0 && l.running >= asked.Max:
			return math.MaxInt64
		case asked.Per > 0 && l.within(asked.Per, now) >= asked.Max:
			at = max(at, instant{at: l.starts[len(l.starts)-asked.Max]}.plus(asked.Per).at)
		}
	}
	if at == 0 {
		return math.MaxInt64 // for those that left before it: they will be taken, or wait again
	}
	return at
}

// forget drops starts that are too old to count.
func (l *limit) forget(now clock) {
	n, _ := slices.BinarySearch(l.starts, now.mono-int64(l.keep)+1)
	l.starts = l.starts[n:]
	if len(l.starts) == 0 {
		l.starts, l.keep = nil, 0
	}
}

// next returns the backlog whose head may start next: by priority, then by turn, then by
// order.
func (l *limit) next(now clock) *backlog {
	var best *backlog
	for _, bl := range l.backlogs {
		e := bl.head()
		if !l.blocks(e, now) && (best == nil || l.before(e, best.head())) {
			best = bl
		}
	}
	return best
}

func (l *limit) before(a, b *storedRun) bool {
	if la, lb := level(a.run.Priority), level(b.run.Priority); la != lb {
		return la < lb
	}
	if a.fair() != b.fair() {
		return l.turnOf(a.fair()) < l.turnOf(b.fair())
	}
	return a.order < b.order
}

// turnOf returns when a value last had its turn: for a new one, just now.
func (l *limit) turnOf(fair string) uint64 {
	at, ok := l.turns[fair]
	if !ok {
		at = l.hadTurn(fair)
	}
	return at
}

func (l *limit) hadTurn(fair string) uint64 {
	if l.turns == nil {
		l.turns = make(map[string]uint64)
	}
	if len(l.turns) > 4*len(l.backlogs)+64 { // most are gone
		waiting := make(map[string]uint64, len(l.backlogs))
		for _, bl := range l.backlogs {
			v := bl.head().fair()
			waiting[v] = l.turns[v]
		}
		l.turns = waiting
	}
	l.turn++
	l.turns[fair] = l.turn
	return l.turn
}

func (l *limit) adopt(bl *backlog) {
	bl.limit = l
	l.backlogs = append(l.backlogs, bl)
}

func (l *limit) drop(bl *backlog) {
	i := slices.Index(l.backlogs, bl)
	l.backlogs = slices.Delete(l.backlogs, i, i+1)
	bl.limit = nil
	if len(l.backlogs) == 0 {
		l.turns = nil
	}
}

// limitOf returns the limit of a key. It makes one if there is none.
func (q *queue) limitOf(key string) *limit {
	l := q.limits[key]
	if l == nil {
		if q.limits == nil {
			q.limits, q.backlogs = make(map[string]*limit), make(map[string]*backlog)
		}
		l = &limit{q: q, key: key, stem: broker.LimitStem(key), at: -1}
		q.limits[key] = l
	}
	return l
}

// eachLimit calls fn for each key of the run, once for one it has twice.
func (q *queue) eachLimit(e *storedRun, fn func(l *limit)) {
	for i := range e.limits() {
		key := e.limits()[i].Key
		if !slices.ContainsFunc(e.limits()[:i], func(o broker.Limit) bool { return o.Key == key }) {
			fn(q.limitOf(key))
		}
	}
}

// blocking returns a limit that the run has to wait for, nil if there is none.
func (q *queue) blocking(e *storedRun, now clock) *limit {
	for i := range e.limits() {
		if l := q.limits[e.limits()[i].Key]; l != nil && l.blocks(e, now) {
			return l
		}
	}
	return nil
}

// moveToBacklog moves a run that is next in its ready list to its backlog, if it has to
// wait for a limit.
func (q *queue) moveToBacklog(e *storedRun, now clock) bool {
	by := q.blocking(e, now)
	if by == nil {
		return false
	}
	again := e.rare != nil && e.rare.let
	q.removeReady(e)
	bl := q.backlogOf(e)
	if readyList := &bl.readyLists[level(e.run.Priority)]; again {
		readyList.addAhead(e)
	} else {
		readyList.add(e)
	}
	bl.n++
	q.waiting++
	if bl.head() == e && bl.limit != by {
		if bl.limit != nil {
			bl.limit.drop(bl)
		}
		by.adopt(bl)
	}
	q.arm(by, now)
	if again {
		q.eachLimit(e, func(l *limit) { q.tend(l, now) })
	}
	return true
}

// backlogOf returns the backlog of a run. It makes one if there is none; a new one
// belongs to no limit.
func (q *queue) backlogOf(e *storedRun) *backlog {
	name := backlogName(&e.run)
	bl := q.backlogs[string(name)]
	if bl == nil {
		bl = &backlog{name: string(name), kind: lower(e.run.Kind)}
		for p := range bl.readyLists {
			bl.readyLists[p].waiting, bl.readyLists[p].backlog = true, bl
		}
		q.backlogs[bl.name] = bl
	}
	return bl
}

// tend moves runs from the backlogs of a limit to the head of their ready lists, as far
// as their limits allow. It is called whenever the limit has changed.
func (q *queue) tend(l *limit, now clock) {
	for bl := l.next(now); bl != nil; bl = l.next(now) {
		e := bl.head()
		if other := q.blocking(e, now); other != nil {
			l.drop(bl)
			other.adopt(bl)
			q.arm(other, now)
			continue
		}
		if e.fair() != "" || l.turns != nil {
			l.hadTurn(e.fair())
		}
		e.in.readyList.removeInTurn(e)
		q.leftBacklog(bl)
		e.getRare().let = true
		q.eachLimit(e, func(l *limit) { l.let[bl.kind][level(e.run.Priority)]++ })
		q.readyLists[bl.kind][level(e.run.Priority)].addAhead(e)
		q.ready[bl.kind]++
		q.fresh[bl.kind]++
	}
	q.arm(l, now)
}

// leftBacklog notes that a run is no longer in the backlog.
func (q *queue) leftBacklog(bl *backlog) {
	q.waiting--
	if bl.n--; bl.n == 0 {
		bl.limit.drop(bl)
		delete(q.backlogs, bl.name)
	}
}

// unlet notes that a run that left its backlog is taken, or has left its ready list. The
// caller tends its limits.
func (q *queue) unlet(e *storedRun) {
	e.rare.let = false
	q.eachLimit(e, func(l *limit) { l.let[lower(e.run.Kind)][level(e.run.Priority)]-- })
}

// countStart counts a run that was taken against its limits: as running if a session
// leases it, and as a start for as long as the limits ask.
func (q *queue) countStart(e *storedRun, leased bool, now clock) {
	q.eachLimit(e, func(l *limit) {
		if leased {
			l.running++
		}
		for i := range e.limits() {
			if asked := e.limits()[i]; asked.Key == l.key {
				l.keep = max(l.keep, l.numbers(asked).Per)
			}
		}
		if l.keep > 0 {
			l.starts = append(l.starts, now.mono)
		}
		q.tend(l, now)
	})
}

// countEnd notes that a session no longer holds the run.
func (q *queue) countEnd(e *storedRun, now clock) {
	if len(e.limits()) == 0 {
		return
	}
	q.eachLimit(e, func(l *limit) {
		l.running--
		q.tend(l, now)
	})
}

// arm sets when the limit is checked again because time has changed it, and drops a limit
// that no run counts against.
func (q *queue) arm(l *limit, now clock) {
	l.forget(now)
	at := int64(math.MaxInt64)
	for _, bl := range l.backlogs {
		at = min(at, l.opens(bl.head(), now))
	}
	if len(l.backlogs) == 0 && l.running == 0 && l.let == [2][priorities]int{} {
		if len(l.starts) == 0 {
			delete(q.limits, l.key)
		} else {
			at = instant{at: l.starts[len(l.starts)-1]}.plus(l.keep).at
		}
	}
	switch {
	case l.at >= 0 && l.rings <= at && at < math.MaxInt64:
		// It is checked earlier, and then again.
	case l.at >= 0 && at == math.MaxInt64:
		heap.Remove(&q.windows, l.at)
	case l.at >= 0:
		l.rings = at
		heap.Fix(&q.windows, l.at)
	case at < math.MaxInt64:
		l.rings = at
		heap.Push(&q.windows, l)
	}
}

// openWindows checks the limits that time has changed.
func (q *queue) openWindows(now clock) {
	for len(q.windows) > 0 && q.windows[0].rings <= now.mono {
		q.tend(heap.Pop(&q.windows).(*limit), now)
	}
}

// windowHeap has the limit that is to be checked first at its head.
type windowHeap []*limit

func (h windowHeap) Len() int           { return len(h) }
func (h windowHeap) Less(i, j int) bool { return h[i].rings < h[j].rings }
func (h windowHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}
func (h *windowHeap) Push(l any) {
	l.(*limit).at = len(*h)
	*h = append(*h, l.(*limit))
}
func (h *windowHeap) Pop() any {
	last := len(*h) - 1
	l := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	l.at = -1
	return l
}
