package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/resp"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// session is one consumer's hold. It has a hold a queue.
type session struct {
	b     *Broker
	id    string
	lease time.Duration
	brief bool // nothing is held for longer than a call: it is never renewed, and needs no memory of ends

	mu    sync.Mutex
	holds map[*queue]*hold
	left  bool
	ends  pastEnds

	running running

	paces    conn.Backoff // Take's own, of waits that fail
	troubles troubles     // queues that cannot be taken from
	seek     *seek        // Take's own: what is known of the several queues it takes from
	apart    apart        // looks of takes from several nodes
}

// hold is what a session has of one queue.
type hold struct {
	q      *queue
	next   int64        // the slot of the next batch
	asked  bool         // a take with slot next may be executed unheard
	doubt  bool         // there ever was a take unheard, which may be executed late
	told   [2]time.Time // when producers were last told that it waits: for io, for cpu
	strays int          // how often in turn a slot was said to be used that never was
	listed listed       // when the server last listed all that it takes the session to hold
	mark   string       // when, by the server, some of it was last recovered
	took   [2]time.Time // the first take that no comparison has followed, and the last one
	slots  map[int64]*slot
	parked []time.Time // when runs are due that it handed back for others
	bad    []*outcome  // of entries that cannot be read, which could not be applied
	lost   bool        // something was found recovered that Renew has not told of
	finish committer[*finishing]

	attended atomic.Pointer[time.Time] // when it could not be attended to; nil: it could
}

// slot is one batch that the session took.
type slot struct {
	hold   *hold
	number int64
	member string           // "session:slot"
	done   []bool           // by index in the batch
	left   int              // not done
	busy   int              // outcomes are being applied
	turn   int              // how often that was begun
	doubts map[int]bool     // indexes of which it is unknown whether they were
	untold map[int]bool     // indexes that were finished by a call that returned an error
	gone   bool             // what was left of it was recovered
	kept   []kept           // those of its runs that have records
	runs   []broker.TaskRun // by index; what could not be read has no receipt
	group  *slotOutcomes    // while outcomes are sorted
	past   map[int]byte     // of the runs that recoveries gave back, what these left in their flags; not made later
	begun  map[int]byte     // of those of them that began, what it was before
}

// receipt is how a delivery is recognised.
type receipt struct {
	session *session
	slot    *slot
	index   int
}

// OpenSession makes a session, and returns an error when the server does not answer. A
// session exists on the server while it holds something. The lease is at least
// a millisecond.
func (b *Broker) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	if b.clients.IsClosed() {
		return nil, fmt.Errorf("open a session: %w", broker.ErrClosed)
	}
	if err := b.ping(ctx); err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	b.warm(ctx)
	return b.openSession(lease)
}

// warm has a connection for the first renewal, which would otherwise be dialed while
// tasks run already. If that fails the renewal dials it.
func (b *Broker) warm(ctx context.Context) {
	if c := b.clients.Renew; c.Direct() && !b.clients.Cluster {
		_, _ = c.Exec(ctx, "", func(out []byte) []byte { return resp.AppendBulk(resp.AppendArray(out, 1), "PING") }, conn.ReadAny, nil)
	}
}

// tells ends the name of a session that tells of the begin of runs that came
// back: the others' count as begun.
const tells = "+"

func (b *Broker) openSession(lease time.Duration) (*session, error) {
	if lease < time.Millisecond {
		return nil, fmt.Errorf("open a session: a lease of %v is too short", lease)
	}
	b.noteLease(lease)
	id, err := newID()
	if err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	second, err := newID()
	if err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	// With its lease in the name, recovery can tell when the server's clock was put back.
	length := "." + strconv.FormatInt(wire.Millis(lease), 10)
	return &session{b: b, id: id + second + length + tells, lease: lease, holds: map[*queue]*hold{}}, nil
}

// ID names the session.
func (s *session) ID() string { return s.id }

// hold returns the session's hold of a queue.
func (s *session) hold(q *queue) *hold {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.holds[q]
	if h == nil {
		h = &hold{q: q, next: 1, slots: map[int64]*slot{}}
		h.finish.run = func(ctx context.Context, items []*finishing) { s.sendOutcomes(ctx, h, items) }
		s.holds[q] = h
	}
	return h
}

// Renew extends the lease of what the session holds, in one command a queue, and
// compares what the server takes the session to hold with what the session knows.
// The server may have forgotten the latest ends, in a failover or a crash: they are
// applied again as far as the session remembers them, else their runs are given back.
func (s *session) Renew(ctx context.Context) error {
	now := time.Now()
	s.mu.Lock()
	var holds []*hold
	failed := broker.QueueErrors{}
	for _, h := range s.holds {
		if len(h.slots) > 0 || s.worksOn(h) {
			holds = append(holds, h)
		}
		if h.lost {
			failed[h.q.Name] = fmt.Errorf("renew in queue %s: %w", h.q.Name, broker.ErrLeaseLost)
			h.lost = false
		}
	}
	s.ends.forget(now.Add(-remembered * s.lease))
	s.mu.Unlock()

	// At once: a queue whose node is down must not cost the others their lease.
	renewed := 0
	for i, err := range s.renewEach(ctx, holds) {
		if err != nil && failed[holds[i].q.Name] == nil {
			failed[holds[i].q.Name] = err
		}
		if failed[holds[i].q.Name] == nil {
			renewed++
		}
	}
	switch {
	case len(failed) == 0:
		return nil
	case renewed > 0 || s.b.clients.Cluster: // the session may hold nothing where it could renew
		return fmt.Errorf("renew: %w", failed)
	case errors.Is(failed, broker.ErrLeaseLost):
		return fmt.Errorf("renew: %w", broker.ErrLeaseLost)
	}
	return fmt.Errorf("renew: %w", errors.Join(failed.Unwrap()...))
}

// renewEach renews in each queue, and returns each one's error. On a cluster it does
// not wait long for some once others have succeeded: these go on in the background.
func (s *session) renewEach(ctx context.Context, holds []*hold) []error {
	errs := make([]error, len(holds))
	if !s.b.clients.Cluster || len(holds) < 2 {
		each(holds, func(i int, h *hold) { errs[i] = s.renewOne(ctx, h) })
		return errs
	}
	type end struct {
		i   int
		err error
	}
	ends := make(chan end, len(holds))
	for i, h := range holds {
		errs[i] = fmt.Errorf("renew lease in queue %s: no reply yet", h.q.Name)
		if !s.b.clients.Spawn(func() { ends <- end{i, s.renewOne(ctx, h)} }) {
			ends <- end{i, broker.ErrClosed}
		}
	}
	var late <-chan time.Time
	for range holds {
		select {
		case e := <-ends:
			errs[e.i] = e.err
			if e.err == nil && late == nil {
				timer := time.NewTimer(s.lease / 5)
				defer timer.Stop()
				late = timer.C
			}
		case <-late:
			return errs
		}
	}
	return errs
}

// renewOne renews in one queue. Its error is [broker.ErrLeaseLost] if some of it was
// recovered.
func (s *session) renewOne(ctx context.Context, h *hold) error {
	lost, err := s.renewIn(ctx, h)
	if lost {
		return fmt.Errorf("renew in queue %s: %w", h.q.Name, broker.ErrLeaseLost)
	}
	return err
}

// renewIn renews in one queue and reports whether some of it was recovered.
func (s *session) renewIn(ctx context.Context, h *hold) (lost bool, err error) {
	s.mu.Lock()
	bad := h.bad
	h.bad = nil
	s.mu.Unlock()
	if len(bad) > 0 {
		s.bury(ctx, h, bad)
	}
	c := s.compare(h)
	mark, err := c.ask(ctx)
	if err != nil {
		return false, s.b.fail(ctx, "renew lease in queue "+h.q.Name, err)
	}
	s.mu.Lock()
	same := mark == h.mark
	s.mu.Unlock()
	if unlisted := c.unlisted(); !same || len(unlisted) > 0 {
		if lost, err = s.findLost(ctx, h); err != nil {
			return lost, err
		}
		c.list(ctx, unlisted)
		s.mu.Lock()
		h.mark = mark
		s.mu.Unlock()
	}
	c.mend(ctx)
	return lost, nil
}

// each does f for all holds at the same time, and waits.
func each(holds []*hold, f func(int, *hold)) {
	if len(holds) == 1 {
		f(0, holds[0])
		return
	}
	var all sync.WaitGroup
	for i, h := range holds {
		all.Go(func() { f(i, h) })
	}
	all.Wait()
}

// findLost asks which of the session's batches are still there, and reports
// whether one is not.
func (s *session) findLost(ctx context.Context, h *hold) (bool, error) {
	s.mu.Lock()
	var (
		slots []*slot
		turns []int
	)
	for _, sl := range h.slots {
		slots = append(slots, sl)
		turns = append(turns, sl.turn)
	}
	s.mu.Unlock()
	pipe := s.b.clients.Lease.Pipeline()
	for _, sl := range slots {
		pipe.Exists(ctx, h.q.Batch(sl.member))
	}
	replies, err := conn.WithGrace(ctx, s.b.clients, pipe.Exec)
	if err != nil {
		return false, s.b.fail(ctx, "find lost batches in queue "+h.q.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := false
	for i, sl := range slots {
		there, ok := replies[i].(interface{ Val() int64 })
		if !ok || there.Val() > 0 || h.slots[sl.number] != sl || sl.busy > 0 || sl.turn != turns[i] {
			continue // its outcomes tell more than that it is not there
		}
		sl.gone = true
		delete(h.slots, sl.number)
		lost = lost || sl.left > sl.doubted()
	}
	return lost, nil
}

// doubted is how many of the runs that are left may be finished.
func (sl *slot) doubted() int {
	n := 0
	for index := range sl.doubts {
		if !sl.done[index] {
			n++
		}
	}
	return n
}

// Close gives back what the session holds, unfinished runs at the head of their
// queue, and ends it. Called again it tries again what failed.
func (s *session) Close(ctx context.Context) error {
	s.mu.Lock()
	s.left = true
	queues := slices.Collect(maps.Keys(s.holds))
	s.mu.Unlock()
	failed := errors.Join(s.b.eachQueue(ctx, queues, func(_ int, q *queue) error { return s.leaveQueue(ctx, s.hold(q)) })...)
	if failed != nil {
		return fmt.Errorf("leave: %w", failed)
	}
	return nil
}

func (s *session) leaveQueue(ctx context.Context, h *hold) error {
	s.mu.Lock()
	used, asked := h.next > 1 || h.asked, h.asked
	s.mu.Unlock()
	if !used {
		return nil
	}
	if asked {
		if _, _, err := s.recall(ctx, h); err != nil {
			return err
		}
	}
	s.mu.Lock()
	slots := make([]*slot, 0, len(h.slots))
	for _, sl := range h.slots {
		slots = append(slots, sl)
	}
	s.mu.Unlock()
	// The batch taken last first, as each goes to the head.
	slices.SortFunc(slots, func(a, b *slot) int { return int(b.number - a.number) })
	for _, sl := range slots {
		if _, err := s.b.giveBack(ctx, h.q, s.id, sl.member, "leave"); err != nil {
			return err
		}
		s.mu.Lock()
		sl.gone = true
		delete(h.slots, sl.number)
		s.mu.Unlock()
	}
	s.mu.Lock()
	doubt := h.doubt
	s.mu.Unlock()
	pipe := s.b.clients.Lease.Pipeline()
	pipe.Del(ctx, h.q.Lost(s.id), h.q.Cancels(s.id))
	if !doubt { // else these keep a late take from taking, and go by themselves
		pipe.ZRem(ctx, h.q.Leases, s.id)
		pipe.HDel(ctx, h.q.Ops, s.id)
	}
	if _, err := conn.WithGrace(ctx, s.b.clients, pipe.Exec); err != nil {
		return s.b.fail(ctx, "end lease in queue "+h.q.Name, s.b.blameIn(ctx, err, h.q))
	}
	return nil
}
