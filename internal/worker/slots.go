package worker

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// A consumer prefetches as many runs as its slots have lately executed in
// prefetchTime, so that short runs do not wait for the broker. If all slots stay busy
// for maxStartWait, the runs that wait for one go back: another consumer may have a
// free slot.
const (
	prefetchTime = 20 * time.Millisecond
	maxStartWait = 20 * time.Millisecond
	maxPrefetch  = 768
	// rateWindow is how long completions are counted, at least, to compute their rate.
	rateWindow = time.Millisecond
)

// slotPool executes the runs of one kind: it has a number of slots, and the runs that
// wait for one. A slot in use is a goroutine that executes one run after the other.
// Slots start when first needed, and their stacks stay grown. All sessions of a worker
// share its pools, so a task that outlives its session still occupies its slot.
type slotPool struct {
	size int

	mu        sync.Mutex
	unstarted []queuedRun // the runs that wait for a slot, from head on
	head      int
	slots     []*slot         // idle ones included
	idle      []chan struct{} // they wake idle slots, the latest at the end
	waking    bool            // a slot was woken and has not taken a run yet
	busy      int             // the number of runs that execute
	closed    bool

	done       int       // completions since counted
	counted    time.Time // when the rate was last computed
	rate       float64   // completions a nanosecond
	progressed bool      // a run was started since returnLate was last called

	refillAt int    // call notify when at most so many runs wait; negative: don't
	onFree   bool   // call notify when a slot is free
	notify   func() // wakes the fetcher; called with the lock held
	paused   bool   // no runs are wanted, while one is on trial

	lateTimer   *time.Timer // calls returnLate
	lateTimerOn bool
}

// slot is a goroutine that executes one run after the other.
type slot struct {
	wake    chan struct{}
	current atomic.Pointer[Attempt]
}

// queuedRun is a run with the session that holds it.
type queuedRun struct {
	run     *broker.TaskRun
	session *session
}

func newSlotPool(size int) *slotPool {
	p := &slotPool{size: size, refillAt: -1}
	p.lateTimer = time.AfterFunc(time.Hour, p.returnLate)
	p.lateTimer.Stop()
	return p
}

// put adds runs, to be executed in their order.
func (p *slotPool) put(queued []queuedRun) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.head == len(p.unstarted) {
		p.unstarted, p.head = p.unstarted[:0], 0
	}
	p.unstarted = append(p.unstarted, queued...)
	p.wakeOne()
	if !p.lateTimerOn {
		p.lateTimerOn = true
		p.lateTimer.Reset(maxStartWait)
	}
}

// returnLate gives back the runs that have waited too long. It is called again while
// any wait.
func (p *slotPool) returnLate() {
	p.mu.Lock()
	p.lateTimerOn = p.head < len(p.unstarted)
	late := p.lateTimerOn && p.busy >= p.size && !p.progressed && !p.unstarted[p.head].session.leaseless
	p.progressed = false
	var queued []queuedRun
	if late {
		queued = slices.Clone(p.unstarted[p.head:])
		clear(p.unstarted)
		p.unstarted, p.head = p.unstarted[:0], 0
		p.lateTimerOn = false
		p.rate = 0 // short runs have become long
	}
	if p.lateTimerOn {
		p.lateTimer.Reset(maxStartWait)
	}
	p.mu.Unlock()
	for _, same := range bySession(queued) {
		same[0].session.putReturned(runsOf(same))
	}
}

// wakeOne wakes or starts one slot if runs wait. A slot that takes a run wakes the next,
// so few slots execute short runs, and long runs still start at once. The lock is held.
func (p *slotPool) wakeOne() {
	switch {
	case p.waking || p.head == len(p.unstarted):
	case len(p.idle) > 0:
		p.waking = true
		last := len(p.idle) - 1
		p.idle[last] <- struct{}{}
		p.idle = p.idle[:last]
	case len(p.slots) < p.size:
		p.waking = true
		sl := &slot{wake: make(chan struct{}, 1)}
		p.slots = append(p.slots, sl)
		go p.work(sl)
	}
}

// work is a slot's goroutine. It ends when the pool is closed, or with a task that ends
// its goroutine.
func (p *slotPool) work(sl *slot) {
	p.mu.Lock()
	p.waking = false
	for {
		if q, ok := p.next(); ok {
			p.mu.Unlock()
			p.execute(sl, q)
			p.mu.Lock()
			p.freeSlot()
			continue
		}
		if p.closed {
			p.removeSlot(sl)
			p.mu.Unlock()
			return
		}
		p.idle = append(p.idle, sl.wake)
		p.mu.Unlock()
		<-sl.wake
		p.mu.Lock()
		p.waking = false
	}
}

// next takes the first run that waits. The lock is held.
func (p *slotPool) next() (queuedRun, bool) {
	if p.head == len(p.unstarted) {
		return queuedRun{}, false
	}
	q := p.unstarted[p.head]
	p.unstarted[p.head] = queuedRun{}
	p.head++
	p.busy++
	q.session.executing.Add(1)
	p.wakeOne()
	p.progressed = true
	if unstarted := len(p.unstarted) - p.head; unstarted <= p.refillAt {
		p.notifyFetcher()
	}
	return q, true
}

// execute executes a run. A task that calls runtime.Goexit ends the goroutine, so another
// slot starts in its place.
func (p *slotPool) execute(sl *slot, q queuedRun) {
	returned := false
	defer func() {
		sl.current.Store(nil)
		q.session.executing.Done()
		if !returned {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.freeSlot()
			p.removeSlot(sl)
			p.wakeOne()
		}
	}()
	q.session.execute(sl, q.run)
	returned = true
}

// removeSlot removes a slot that ends. The lock is held.
func (p *slotPool) removeSlot(sl *slot) {
	p.slots = slices.DeleteFunc(p.slots, func(other *slot) bool { return other == sl })
}

// attempts returns the attempts that execute now: a session's, or all if s is nil.
func (p *slotPool) attempts(s *session) []*Attempt {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy == 0 {
		return nil
	}
	var all []*Attempt
	for _, sl := range p.slots {
		if a := sl.current.Load(); a != nil && (s == nil || a.session == s) {
			all = append(all, a)
		}
	}
	return all
}

// freeSlot frees a slot after its run has ended. The lock is held.
func (p *slotPool) freeSlot() {
	p.busy--
	p.done++
	if (p.refillAt >= 0 || p.onFree) && len(p.unstarted) == p.head {
		p.notifyFetcher()
	}
}

// notifyFetcher wakes the fetcher, once. The lock is held.
func (p *slotPool) notifyFetcher() {
	p.refillAt, p.onFree = -1, false
	p.notify()
}

// demand returns how many runs to fetch, and how many of these exceed the free slots. If
// enough runs wait, it returns 0 and has notify called once they do not. If the kind has
// limited tasks and no slot is free, notify is also called once one is: the broker hands
// out their runs for free slots only.
func (p *slotPool) demand(now time.Time, limited bool, notify func()) (n, more int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	unstarted := len(p.unstarted) - p.head
	more = p.prefetch(now)
	if p.paused {
		p.refillAt, p.onFree, p.notify = -1, false, notify
		return 0, 0
	}
	free := p.size - p.busy - unstarted
	if free <= 0 && (unstarted > more/4 || more == 0) {
		p.refillAt, p.notify = more/4, notify
		return 0, 0
	}
	p.refillAt, p.onFree = -1, false
	if n = free + more; n <= 0 {
		p.refillAt, p.notify = more/4, notify
		return 0, 0
	}
	if free <= 0 && limited {
		p.onFree, p.notify = true, notify
	}
	return n, min(more, n)
}

// pause makes demand return 0 until resume.
func (p *slotPool) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = true
}

// resume ends pause, and wakes the fetcher.
func (p *slotPool) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = false
	if p.notify != nil {
		p.notifyFetcher()
	}
}

// prefetch updates the rate of completions, and returns how many to expect in
// prefetchTime. The lock is held.
func (p *slotPool) prefetch(now time.Time) int {
	if elapsed := now.Sub(p.counted); elapsed >= rateWindow {
		rate := float64(p.done) / float64(elapsed)
		p.rate = (p.rate + rate) / 2
		p.counted, p.done = now, 0
	}
	return min(int(p.rate*float64(prefetchTime)), maxPrefetch)
}

// bySession splits runs by their sessions, in their order.
func bySession(queued []queuedRun) (parts [][]queuedRun) {
	for _, q := range queued {
		n := slices.IndexFunc(parts, func(part []queuedRun) bool { return part[0].session == q.session })
		if n < 0 {
			parts = append(parts, []queuedRun{q})
			continue
		}
		parts[n] = append(parts[n], q)
	}
	return parts
}

func runsOf(queued []queuedRun) []*broker.TaskRun {
	runs := make([]*broker.TaskRun, len(queued))
	for i, q := range queued {
		runs[i] = q.run
	}
	return runs
}

// countUnstarted returns how many runs wait. If some do, it has notify called once none
// does.
func (p *slotPool) countUnstarted(notify func()) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.unstarted) - p.head
	if n > 0 {
		p.refillAt, p.notify = 0, notify
	}
	return n
}

// withdraw removes and returns the runs of a session that have not started.
func (p *slotPool) withdraw(s *session) []*broker.TaskRun { return p.withdrawQueue(s, "") }

// withdrawQueue is withdraw for one queue, all if queue is empty.
func (p *slotPool) withdrawQueue(s *session, queue string) []*broker.TaskRun {
	p.mu.Lock()
	defer p.mu.Unlock()
	var runs []*broker.TaskRun
	kept := p.unstarted[:0]
	for _, q := range p.unstarted[p.head:] {
		if q.session == s && (queue == "" || q.run.Queue == queue) {
			runs = append(runs, q.run)
		} else {
			kept = append(kept, q)
		}
	}
	clear(p.unstarted[len(kept):])
	p.unstarted, p.head = kept, 0
	return runs
}

// running returns how many runs execute.
func (p *slotPool) running() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.busy
}

// open undoes close.
func (p *slotPool) open() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = false
}

// close ends idle slots, and the others when their runs have ended.
func (p *slotPool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.lateTimer.Stop()
	for _, wake := range p.idle {
		wake <- struct{}{}
	}
	p.idle = nil
}
