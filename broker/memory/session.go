package memory

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// Session is a [broker.Session]: one consumer's membership, and its lease on the runs that it
// took. Its methods may be called concurrently, Take by one goroutine at a time.
type Session struct {
	b     *Broker
	id    string
	lease time.Duration

	// Guarded by the broker's mutex.
	ends    instant      // of the lease
	lost    int          // deliveries recovered that it has not tried to finish since
	gone    []*storedRun // the runs recovered from it, until it reports that it survived
	left    bool
	asked   []*delivery // those it held that were cancelled
	blocked *waiter     // its last blocked Take
}

// delivery is one delivery of a run, which its receipt points to.
type delivery struct {
	s          *Session
	e          *storedRun // nil once finished or given back
	was        *storedRun // e before it went back
	h          *hold
	place      int64 // in the order of its hold
	lost       bool  // recovered, and the session does not know yet
	prev, next *delivery
}

// hold is the runs of one queue that one session holds, in the order taken.
type hold struct {
	head, tail *delivery
	n          int
	last       int64 // place that was given
}

func (h *hold) push(f *delivery) {
	h.n++
	h.last++
	f.place = h.last
	f.h, f.prev = h, h.tail
	if h.tail == nil {
		h.head = f
	} else {
		h.tail.next = f
	}
	h.tail = f
}

// remove takes the delivery out of its hold and returns the run it carried.
func (f *delivery) remove() *storedRun {
	f.h.n--
	if f.prev == nil {
		f.h.head = f.next
	} else {
		f.prev.next = f.next
	}
	if f.next == nil {
		f.h.tail = f.prev
	} else {
		f.next.prev = f.prev
	}
	e := f.e
	f.e, f.h, f.prev, f.next = nil, nil, nil, nil
	return e
}

// OpenSession opens a session. It returns an error unless the lease is positive.
func (b *Broker) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	if lease <= 0 {
		return nil, fmt.Errorf("open a session: the lease %v is not positive", lease)
	}
	if err := b.enter(ctx); err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	defer b.mu.Unlock()
	return &Session{b: b, id: rand.Text(), lease: lease, ends: b.now().after(lease)}, nil
}

// ID returns the session's id. No other session has the same.
func (s *Session) ID() string { return s.id }

// Take leases due runs, as [broker.Session] says. After Close it returns an
// error that wraps [broker.ErrLeaseLost]. It returns an error if no queue is named or
// want has no room.
func (s *Session) Take(ctx context.Context, want broker.Want) ([]*broker.TaskRun, error) {
	io, cpu := max(want.IO, 0), max(want.CPU, 0)
	space := room{kind: [2]int{broker.IO: io, broker.CPU: cpu}, total: io + min(cpu, math.MaxInt-io)}
	space.ahead = [2]int{broker.IO: min(max(want.PrefetchIO, 0), io), broker.CPU: min(max(want.PrefetchCPU, 0), cpu)}
	var runs []broker.TaskRun
	err := s.b.await(ctx, want.Queues, space, s, func(now clock) bool {
		s.b.useLimits(s, want.Limits, now)
		runs = s.lift(s.b.pick(want.Queues, space, s, now), now)
		s.ends = now.after(s.lease)
		return len(runs) > 0
	})
	if err != nil {
		return nil, fmt.Errorf("take runs: %w", err)
	}
	return copyOut(runs), nil
}

// Start frees the unique key of a run, as [broker.Starter] says.
func (s *Session) Start(ctx context.Context, run *broker.TaskRun) (held bool, err error) {
	if err := s.b.enter(ctx); err != nil {
		return false, fmt.Errorf("start run %s: %w", run.ID, err)
	}
	defer s.b.mu.Unlock()
	f, ok := run.Receipt.(*delivery)
	if !ok || f.s != s || f.e == nil {
		return false, nil
	}
	if f.e.rare != nil {
		s.b.queues[f.e.run.Queue].unlockKey(f.e)
	}
	return true, nil
}

// lift leases the runs picked and returns them, sharing memory with the
// broker's.
func (s *Session) lift(picked []*storedRun, now clock) []broker.TaskRun {
	deliveries := make([]delivery, len(picked))
	runs := make([]broker.TaskRun, len(picked))
	queue, h := "", (*hold)(nil)
	for i, e := range picked {
		e.run.Deliveries++
		e.order = now.wall
		if h == nil || e.run.Queue != queue {
			queue = e.run.Queue
			h = s.b.queues[queue].holdOf(s)
		}
		deliveries[i].s, deliveries[i].e = s, e
		h.push(&deliveries[i])
		runs[i] = e.run
		runs[i].Receipt = &deliveries[i]
	}
	return runs
}

// holdOf returns what a session holds of the queue.
func (q *queue) holdOf(s *Session) *hold {
	h := q.holds[s]
	if h == nil {
		h = &hold{}
		q.holds[s] = h
	}
	return h
}

// copyOut gives the runs memory of their own. It needs no lock, because it reads only what
// is never changed in place.
func copyOut(runs []broker.TaskRun) []*broker.TaskRun {
	size := 0
	for i := range runs {
		size += len(runs[i].Payload)
	}
	payloads := make([]byte, 0, size)
	out := make([]*broker.TaskRun, len(runs))
	for i := range runs {
		receipt := runs[i].Receipt
		payloads = detach(&runs[i], payloads)
		runs[i].Receipt = receipt
		out[i] = &runs[i]
	}
	return out
}

// Renew extends the lease. After Close, and if runs of the session were recovered that it
// has not tried to finish since, it extends nothing and returns [broker.ErrLeaseLost].
func (s *Session) Renew(ctx context.Context) error {
	if err := s.b.enter(ctx); err != nil {
		return fmt.Errorf("renew lease: %w", err)
	}
	defer s.b.mu.Unlock()
	if s.left {
		return fmt.Errorf("renew lease: %w", s.errLeft())
	}
	if s.lost > 0 {
		return fmt.Errorf("renew lease of session %s, of which %d runs were recovered: %w", s.id, s.lost, broker.ErrLeaseLost)
	}
	s.ends = s.b.now().after(s.lease)
	return nil
}

// Close gives back the runs that the session holds and ends the session. A blocked Take
// ends too. Closing again does nothing.
func (s *Session) Close(ctx context.Context) error {
	b := s.b
	if err := b.enter(ctx); err != nil {
		return fmt.Errorf("leave session: %w", err)
	}
	defer b.mu.Unlock()
	s.left = true
	if s.blocked != nil {
		s.blocked.wake()
	}
	now := b.now()
	for _, q := range b.queues {
		if h := q.holds[s]; h != nil {
			for f := h.tail; f != nil; f = h.tail {
				e := f.remove()
				e.run.Deliveries--
				b.giveBack(q, e, now)
			}
			delete(q.holds, s)
			b.wake(q, now)
		}
	}
	return nil
}

// Survived notes that deliveries of runs were no deaths, as poison.Survivor says.
func (s *Session) Survived(ctx context.Context, back ...*broker.TaskRun) error {
	if err := s.b.enter(ctx); err != nil {
		return fmt.Errorf("tell that the consumer survived: %w", err)
	}
	defer s.b.mu.Unlock()
	for _, e := range s.gone {
		e.getRare().spared++
	}
	s.gone = nil
	for _, run := range back {
		if f, ok := run.Receipt.(*delivery); ok && f.s == s && f.was != nil {
			f.was.getRare().spared++
		}
	}
	return nil
}

// Spared returns how many of the run's deliveries ended with a lease but not with
// the life of a consumer.
func (s *Session) Spared(ctx context.Context, run *broker.TaskRun) (int, error) {
	if err := s.b.enter(ctx); err != nil {
		return 0, fmt.Errorf("read what run %s is spared: %w", run.ID, err)
	}
	defer s.b.mu.Unlock()
	if f := s.holds(run); f != nil && f.e.rare != nil {
		return f.e.rare.spared, nil
	}
	return 0, nil
}

// Recover gives back the runs of sessions whose lease has ended, as [broker.Leaser] says.
func (b *Broker) Recover(ctx context.Context, queues []string) (broker.Recovered, error) {
	var recovered broker.Recovered
	for _, name := range queues {
		if err := b.enter(ctx); err != nil {
			return recovered, fmt.Errorf("recover runs of queue %s: %w", name, err)
		}
		if q := b.queues[name]; q != nil {
			recovered.Runs += b.recoverQueue(q, b.now())
		}
		b.mu.Unlock() // let others in between queues
	}
	return recovered, nil
}

func (b *Broker) recoverQueue(q *queue, now clock) int {
	back, ended := 0, false
	for s, h := range q.holds {
		if now.until(s.ends) > 0 {
			continue
		}
		for f := h.tail; f != nil; f = h.tail {
			f.lost = true
			s.lost++
			e := f.remove()
			if b.giveBack(q, e, now) {
				s.gone = append(s.gone, e)
				back++
			} else {
				ended = true
			}
		}
		delete(q.holds, s)
	}
	if back > 0 || ended {
		b.wake(q, now)
	}
	return back
}

// giveBack puts a run that a session held at the head of its ready list, or ends it if it
// was cancelled. It reports which: true for the first.
func (b *Broker) giveBack(q *queue, e *storedRun, now clock) bool {
	q.countEnd(e, now)
	if cancel := e.cancelled(); cancel != nil {
		b.conclude(q, e, &broker.Outcome{Run: &e.run, Verdict: broker.Dropped, Failure: cancel}, now)
		return false
	}
	q.pushFront(e)
	return true
}
