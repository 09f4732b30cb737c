package memory

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// waiter is one blocked call. It is in the list of every queue and kind it has room for,
// and leaves all of them when it is woken.
type waiter struct {
	woken chan struct{}
	free  [2]bool // by kind: it has a slot for a run, and not only room to prefetch
	nodes []waitNode
}

type waitNode struct {
	w          *waiter
	list       *waitList // nil once it is out
	prev, next *waitNode
}

// waitList has the call that has waited longest at its head.
type waitList struct{ head, tail *waitNode }

func (l *waitList) push(n *waitNode) {
	n.list, n.prev = l, l.tail
	if l.tail == nil {
		l.head = n
	} else {
		l.tail.next = n
	}
	l.tail = n
}

func (n *waitNode) remove() {
	if n.list == nil {
		return
	}
	if n.prev == nil {
		n.list.head = n.next
	} else {
		n.prev.next = n.next
	}
	if n.next == nil {
		n.list.tail = n.prev
	} else {
		n.next.prev = n.prev
	}
	n.list, n.prev, n.next = nil, nil, nil
}

// leave removes the waiter from its lists. It reports whether it was in them, which is
// while it is not woken.
func (w *waiter) leave() bool {
	was := w.nodes[0].list != nil
	for i := range w.nodes {
		w.nodes[i].remove()
	}
	return was
}

func (w *waiter) wake() {
	if w.leave() {
		close(w.woken)
	}
}

// await calls try under the lock, at once and each time it is woken, until try
// has taken something, or ctx, the session or the broker ends.
//
// A waiter that was woken must try. If it ends without a try, or leaves runs behind, it
// passes the wake-up on, so that none is lost.
func (b *Broker) await(ctx context.Context, queues []string, want room, s *Session, try func(now clock) bool) error {
	if len(queues) == 0 || want.total <= 0 {
		return errNoRoom
	}
	if err := b.enter(ctx); err != nil {
		return err
	}
	for relay := false; ; relay = true {
		if s != nil && s.left {
			b.passOn(queues, relay)
			b.mu.Unlock()
			return s.errLeft()
		}
		now := b.now()
		took := try(now)
		b.passOn(queues, relay && took)
		if took {
			b.mu.Unlock()
			return nil
		}
		if relay {
			b.leaveLimited(queues, want)
		}
		w := b.block(queues, want, now)
		if s != nil {
			s.blocked = w
		}
		b.mu.Unlock()
		if err := b.sleep(ctx, w, queues); err != nil {
			return err
		}
	}
}

// sleep waits until w is woken, and returns with the lock held unless there is
// an error.
func (b *Broker) sleep(ctx context.Context, w *waiter, queues []string) error {
	var err error
	select {
	case <-w.woken:
	case <-ctx.Done():
		err = ctx.Err()
	}
	b.mu.Lock()
	switch {
	case b.closed:
		err = broker.ErrClosed
	case err != nil:
		b.passOn(queues, !w.leave())
	default:
		return nil
	}
	b.mu.Unlock()
	return err
}

// block adds a waiter to the lists of the queues and kinds that it has room for.
func (b *Broker) block(queues []string, want room, now clock) *waiter {
	w := &waiter{woken: make(chan struct{}), nodes: make([]waitNode, 0, 2*len(queues))}
	for k := range w.free {
		w.free[k] = want.kind[k] > want.ahead[k]
	}
	for _, name := range queues {
		q := b.queue(name)
		for k := range q.waiters {
			if want.kind[k] > 0 {
				w.nodes = append(w.nodes, waitNode{w: w})
				q.waiters[k].push(&w.nodes[len(w.nodes)-1])
			}
		}
		b.alarmFor(q, now)
	}
	return w
}

// wake wakes a waiter for each fresh run of the queue, while there are runs and waiters,
// and sets the alarm for the runs that are not yet due.
func (b *Broker) wake(q *queue, now clock) {
	q.wakeWaiters()
	b.alarmFor(q, now)
}

func (q *queue) wakeWaiters() {
	if q.paused {
		return
	}
	for k := range q.waiters {
		for n := min(q.fresh[k], q.ready[k]); n > 0 && q.waiters[k].head != nil; n-- {
			q.waiters[k].head.w.wake()
		}
		q.fresh[k] = 0
	}
}

// passOn wakes other waiters for the runs that a call found and left behind. A call that
// was woken itself passes that on too: the run it was woken for may still be there.
func (b *Broker) passOn(queues []string, relay bool) {
	for _, name := range queues {
		q := b.queues[name]
		if q == nil {
			continue
		}
		if relay {
			for k := range q.fresh {
				q.fresh[k] = max(q.fresh[k], 1)
			}
		}
		q.wakeWaiters()
		if len(q.windows) > 0 {
			b.alarmFor(q, b.now())
		}
	}
}

// leaveLimited wakes other waiters for the runs that a woken call left behind because they
// have limits and it only prefetches. Each of the others has a slot, so that two such
// calls do not wake each other for ever.
func (b *Broker) leaveLimited(queues []string, want room) {
	for _, name := range queues {
		q := b.queues[name]
		for k := range want.kind {
			if q == nil || q.paused || q.ready[k] == 0 || want.kind[k] == 0 {
				continue
			}
			for n := q.waiters[k].head; n != nil; n = n.next {
				if n.w.free[k] {
					n.w.wake()
					break
				}
			}
		}
	}
}

// alarm is the one timer of the broker. It is set only while a call is blocked
// on a queue with runs that are not yet due.
type alarm struct {
	timer *time.Timer
	set   bool
	at    int64          // by the monotonic clock
	rings sync.WaitGroup // those to come and those that run
}

// maxSleep is the longest time to the next alarm. The wall clock may have been set, so
// the clocks are read again then.
const maxSleep = 30 * time.Second

// alarmFor sets the alarm for the run of the queue that is due next, or the limit that may
// open next, if a waiter waits for it and no earlier alarm is set.
func (b *Broker) alarmFor(q *queue, now clock) {
	if !b.timers {
		return
	}
	first := q.delayed.first(now)
	if first == nil && len(q.windows) == 0 || q.waiters[broker.IO].head == nil && q.waiters[broker.CPU].head == nil {
		return
	}
	until := int64(math.MaxInt64)
	if first != nil {
		until = now.until(first.due())
	}
	if len(q.windows) > 0 {
		until = min(until, q.windows[0].rings-now.mono)
	}
	d := time.Duration(min(max(until, 1), int64(maxSleep)))
	a := &b.alarm
	at := now.mono + int64(d)
	if a.set && a.at <= at {
		return
	}
	a.set, a.at = true, at
	if a.timer == nil {
		a.rings.Add(1)
		a.timer = time.AfterFunc(d, b.ring)
	} else if !a.timer.Reset(d) {
		a.rings.Add(1)
	}
}

func (a *alarm) stop() {
	if a.timer != nil && a.timer.Stop() {
		a.rings.Done()
	}
}

// ring wakes waiters for the runs that have become due, or no longer have to wait for a
// limit.
func (b *Broker) ring() {
	defer b.alarm.rings.Done()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.alarm.set, b.alarm.at = false, math.MaxInt64
	now := b.now()
	for _, q := range b.queues {
		if q.delayed.len() > 0 || len(q.windows) > 0 {
			q.promote(now)
			b.wake(q, now)
		}
	}
}

func (s *Session) errLeft() error {
	return fmt.Errorf("session %s has left: %w", s.id, broker.ErrLeaseLost)
}
