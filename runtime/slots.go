package runtime

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// A consumer takes more runs than it has free slots for, as many as its slots
// used up lately in the time ahead, so that short runs do not wait for the
// broker. What then waits longer than patience because its slots are held up
// goes back to the queue, where another consumer may have room.
const (
	prefetchTime = 20 * time.Millisecond
	maxReadyWait = 20 * time.Millisecond
	// maxPrefetch bounds what a consumer takes ahead, however short its runs.
	maxPrefetch = 768
	// rateWindow is how long completions are counted at least to know the rate.
	rateWindow = time.Millisecond
)

// slotPool is what a consumer executes of one kind: so many slots, and the runs
// that wait for one. Each slot in use is a goroutine that executes
// one run after the other: they start when first needed, and their stacks stay
// grown. All sessions of a consumer share its lanes, so a handler that outlives
// its session still holds its slot.
type slotPool struct {
	size int

	mu     sync.Mutex
	ready  []queuedRun // from head on, in order
	head   int
	slots  []*slot         // idle ones included
	idle   []chan struct{} // of slots that wait, the latest at the end
	waking bool            // a slot was woken and has not looked for a run yet
	busy   int             // runs that execute
	closed bool

	done       int       // completions since counted
	counted    time.Time // when the rate was last computed
	rate       float64   // completions a nanosecond
	progressed bool      // a run was started since returnLate last looked

	refillAt int    // while not negative: call room when at most so many runs are ready
	onFree   bool   // call room when a slot is free
	notify   func() // wakes the fetcher; called with the lock held
	paused   bool   // take none

	lateTimer   *time.Timer // looks for runs that wait too long
	lateTimerOn bool
}

// slot is a goroutine that executes one run after the other.
type slot struct {
	wake    chan struct{}
	current atomic.Pointer[execution] // what it executes
}

// queuedRun is a run with the session that holds it.
type queuedRun struct {
	run     *broker.TaskRun
	session *session
}

func newSlotPool(size int) *slotPool {
	l := &slotPool{size: size, refillAt: -1}
	l.lateTimer = time.AfterFunc(time.Hour, l.returnLate)
	l.lateTimer.Stop()
	return l
}

// put adds runs that were taken, to be executed in their order.
func (l *slotPool) put(queued []queuedRun) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head == len(l.ready) {
		l.ready, l.head = l.ready[:0], 0
	}
	l.ready = append(l.ready, queued...)
	l.wakeOne()
	if !l.lateTimerOn {
		l.lateTimerOn = true
		l.lateTimer.Reset(maxReadyWait)
	}
}

// returnLate gives back the runs that wait too long, and looks again while any
// wait.
func (l *slotPool) returnLate() {
	l.mu.Lock()
	l.lateTimerOn = l.head < len(l.ready)
	late := l.lateTimerOn && l.busy >= l.size && !l.progressed && !l.ready[l.head].session.leaseless
	l.progressed = false
	var queued []queuedRun
	if late {
		queued = slices.Clone(l.ready[l.head:])
		clear(l.ready)
		l.ready, l.head = l.ready[:0], 0
		l.lateTimerOn = false
		l.rate = 0 // what was short has become long
	}
	if l.lateTimerOn {
		l.lateTimer.Reset(maxReadyWait)
	}
	l.mu.Unlock()
	for _, same := range bySession(queued) {
		same[0].session.giveBack(runsOf(same))
	}
}

// wakeOne gets one more slot to look for a run, if there is one to find. Each
// that finds one wakes the next, so short runs are executed by few slots and
// long ones are started at once all the same. The lock is held.
func (l *slotPool) wakeOne() {
	switch {
	case l.waking || l.head == len(l.ready):
	case len(l.idle) > 0:
		l.waking = true
		last := len(l.idle) - 1
		l.idle[last] <- struct{}{}
		l.idle = l.idle[:last]
	case len(l.slots) < l.size:
		l.waking = true
		w := &slot{wake: make(chan struct{}, 1)}
		l.slots = append(l.slots, w)
		go l.work(w)
	}
}

// work is a slot's goroutine. It ends with the lane, or with a task that ends its
// goroutine.
func (l *slotPool) work(w *slot) {
	l.mu.Lock()
	l.waking = false
	for {
		if j, ok := l.next(); ok {
			l.mu.Unlock()
			l.execute(w, j)
			l.mu.Lock()
			l.freeSlot()
			continue
		}
		if l.closed {
			l.removeSlot(w)
			l.mu.Unlock()
			return
		}
		l.idle = append(l.idle, w.wake)
		l.mu.Unlock()
		<-w.wake
		l.mu.Lock()
		l.waking = false
	}
}

// next takes the first run that is ready. The lock is held.
func (l *slotPool) next() (queuedRun, bool) {
	if l.head == len(l.ready) {
		return queuedRun{}, false
	}
	j := l.ready[l.head]
	l.ready[l.head] = queuedRun{}
	l.head++
	l.busy++
	j.session.handlers.Add(1)
	l.wakeOne()
	l.progressed = true
	if waiting := len(l.ready) - l.head; waiting <= l.refillAt {
		l.notifyFetcher()
	}
	return j, true
}

// execute executes a run, and sees to it that a task which calls runtime.Goexit
// takes no slot with it.
func (l *slotPool) execute(w *slot, j queuedRun) {
	returned := false
	defer func() {
		w.current.Store(nil)
		j.session.handlers.Done()
		if !returned {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.freeSlot()
			l.removeSlot(w)
			l.wakeOne()
		}
	}()
	j.session.execute(w, j.run)
	returned = true
}

// removeSlot forgets a slot that ends. The lock is held.
func (l *slotPool) removeSlot(w *slot) {
	l.slots = slices.DeleteFunc(l.slots, func(other *slot) bool { return other == w })
}

// executions returns what a session's runs of this lane execute now, all sessions'
// if it is nil.
func (l *slotPool) executions(s *session) []*execution {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy == 0 {
		return nil
	}
	var all []*execution
	for _, w := range l.slots {
		if x := w.current.Load(); x != nil && (s == nil || x.session == s) {
			all = append(all, x)
		}
	}
	return all
}

// freeSlot frees the slot of a run that has ended. The lock is held.
func (l *slotPool) freeSlot() {
	l.busy--
	l.done++
	if (l.refillAt >= 0 || l.onFree) && len(l.ready) == l.head {
		l.notifyFetcher()
	}
}

// notifyFetcher tells the fetcher that there is room. The lock is held.
func (l *slotPool) notifyFetcher() {
	l.refillAt, l.onFree = -1, false
	l.notify()
}

// demand returns how many runs to take, and how many of these are ahead of free
// slots. While what is ready will do for now it returns 0, and room is called
// when it will not. With limited it is also called when there was no free slot
// and then is one: runs with a limit are handed out for those only.
func (l *slotPool) demand(now time.Time, limited bool, notify func()) (n, more int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting := len(l.ready) - l.head
	more = l.prefetch(now)
	if l.paused {
		l.refillAt, l.onFree, l.notify = -1, false, notify
		return 0, 0
	}
	free := l.size - l.busy - waiting
	if free <= 0 && (waiting > more/4 || more == 0) {
		l.refillAt, l.notify = more/4, notify
		return 0, 0
	}
	l.refillAt, l.onFree = -1, false
	if n = free + more; n <= 0 {
		l.refillAt, l.notify = more/4, notify
		return 0, 0
	}
	if free <= 0 && limited {
		l.onFree, l.notify = true, notify
	}
	return n, min(more, n)
}

// pause has no more runs wanted until resume.
func (l *slotPool) pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = true
}

// resume tells the fetcher that runs are wanted again.
func (l *slotPool) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = false
	if l.notify != nil {
		l.notifyFetcher()
	}
}

// prefetch updates the rate at which runs are completed, and returns how many
// will be in the time ahead. The lock is held.
func (l *slotPool) prefetch(now time.Time) int {
	if elapsed := now.Sub(l.counted); elapsed >= rateWindow {
		rate := float64(l.done) / float64(elapsed)
		l.rate = (l.rate + rate) / 2
		l.counted, l.done = now, 0
	}
	return min(int(l.rate*float64(prefetchTime)), maxPrefetch)
}

// bySession parts queued runs by the session that holds them, in their order.
func bySession(queued []queuedRun) (parts [][]queuedRun) {
	for _, j := range queued {
		n := slices.IndexFunc(parts, func(part []queuedRun) bool { return part[0].session == j.session })
		if n < 0 {
			parts = append(parts, []queuedRun{j})
			continue
		}
		parts[n] = append(parts[n], j)
	}
	return parts
}

func runsOf(queued []queuedRun) []*broker.TaskRun {
	runs := make([]*broker.TaskRun, len(queued))
	for i, j := range queued {
		runs[i] = j.run
	}
	return runs
}

// countReady is how many runs are ready. Unless it is 0, room is called when it
// is.
func (l *slotPool) countReady(notify func()) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.ready) - l.head
	if n > 0 {
		l.refillAt, l.notify = 0, notify
	}
	return n
}

// withdraw returns the runs of a session that have not started, and no longer
// keeps them.
func (l *slotPool) withdraw(s *session) []*broker.TaskRun { return l.withdrawQueue(s, "") }

// withdrawQueue is withdraw for the runs of one queue, of all if that is empty.
func (l *slotPool) withdrawQueue(s *session, queue string) []*broker.TaskRun {
	l.mu.Lock()
	defer l.mu.Unlock()
	var runs []*broker.TaskRun
	kept := l.ready[:0]
	for _, j := range l.ready[l.head:] {
		if j.session == s && (queue == "" || j.run.Queue == queue) {
			runs = append(runs, j.run)
		} else {
			kept = append(kept, j)
		}
	}
	clear(l.ready[len(kept):])
	l.ready, l.head = kept, 0
	return runs
}

// running is how many runs execute.
func (l *slotPool) running() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.busy
}

// open lets the lane be used again after close.
func (l *slotPool) open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = false
}

// close ends the slots that execute nothing, and the others when their runs
// have ended.
func (l *slotPool) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.lateTimer.Stop()
	for _, wake := range l.idle {
		wake <- struct{}{}
	}
	l.idle = nil
}
