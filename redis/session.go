package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// Limits of one take.
const (
	maxTake    = 1000            // runs of each kind
	longestNap = 2 * time.Second // without asking the server again
)

// session is one consumer's hold. It has a hold a queue.
type session struct {
	b     *Broker
	id    string
	lease time.Duration

	mu    sync.Mutex
	holds map[*queue]*hold
	lost  bool // something was found recovered that Renew has not told of
	left  bool
}

// hold is what a session has of one queue.
type hold struct {
	q      *queue
	next   int64 // the slot of the next batch
	asked  bool  // a take with slot next may have been executed unheard
	slots  map[int64]*slot
	bad    []*outcome // entries that cannot be read, whose dead letter could not be written
	finish committer[*finishing]
}

// slot is one batch that the session took.
type slot struct {
	hold   *hold
	number int64
	member string       // "session:slot"
	done   []bool       // by index in the batch
	left   int          // not done
	busy   int          // outcomes are being applied
	turn   int          // how often that was begun
	doubts map[int]bool // indexes of which it is unknown whether they were
	gone   bool         // what was left of it was recovered
}

// receipt is how a delivery is recognised.
type receipt struct {
	session *session
	slot    *slot
	index   int
}

// Join makes a session. It sends nothing: a session exists on the server while
// it holds something. The lease is at least a millisecond.
func (b *Broker) Join(ctx context.Context, lease time.Duration) (broker.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	if b.isClosed() {
		return nil, fmt.Errorf("join: %w", broker.ErrClosed)
	}
	return b.join(lease)
}

func (b *Broker) join(lease time.Duration) (*session, error) {
	if lease < time.Millisecond {
		return nil, fmt.Errorf("join: a lease of %v is too short", lease)
	}
	id, err := newID()
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	second, err := newID()
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	return &session{b: b, id: id + second, lease: lease, holds: map[*queue]*hold{}}, nil
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

// room is what a take may still return.
type room struct{ io, cpu, total int }

func (r room) none() bool { return r.total <= 0 || r.io <= 0 && r.cpu <= 0 }

func (r *room) fill(runs []*broker.TaskRun) {
	for _, run := range runs {
		r.total--
		if run.Kind == broker.CPU {
			r.cpu--
		} else {
			r.io--
		}
	}
}

// Take leases due runs, at most 1,000 of each kind. A batch whose reply was
// lost is returned whole, even where it is more than is wanted now.
func (s *session) Take(ctx context.Context, want broker.Want) ([]*broker.TaskRun, error) {
	r := room{io: min(max(want.IO, 0), maxTake), cpu: min(max(want.CPU, 0), maxTake)}
	r.total = r.io + r.cpu
	runs, err := s.take(ctx, want.Queues, r)
	if err != nil {
		return nil, fmt.Errorf("take: %w", err)
	}
	return runs, nil
}

func (s *session) take(ctx context.Context, names []string, r room) ([]*broker.TaskRun, error) {
	queues := make([]*queue, len(names))
	for i, name := range names {
		q, err := s.b.queue(name)
		if err != nil {
			return nil, err
		}
		queues[i] = q
	}
	// Telling that the caller will sleep costs producers a wake-up, so with
	// several queues it is not told on the way through them.
	sleepy := len(queues) == 1
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		runs, nap, err := s.pass(ctx, queues, r, sleepy)
		if err != nil || len(runs) > 0 {
			return runs, err
		}
		if !sleepy || nap <= 0 {
			sleepy = true
			continue
		}
		if err := s.b.sleep.wait(ctx, queues, r, nap); err != nil {
			return nil, err
		}
	}
}

// pass goes through the queues once, after those of which a reply was lost. It
// returns how long it is until a delayed run is due, if it found nothing.
func (s *session) pass(ctx context.Context, queues []*queue, r room, sleepy bool) ([]*broker.TaskRun, time.Duration, error) {
	var (
		runs []*broker.TaskRun
		nap  = longestNap
	)
	for _, q := range s.unheard() {
		// Only what was taken unheard, nothing new.
		found, _, err := s.takeFrom(ctx, s.hold(q), room{}, false)
		if err != nil {
			return nil, 0, err
		}
		runs = append(runs, found...)
	}
	if len(runs) > 0 {
		return runs, 0, nil
	}
	for _, q := range queues {
		if r.none() {
			break
		}
		found, next, err := s.takeFrom(ctx, s.hold(q), r, sleepy)
		if err != nil && len(runs) == 0 {
			return nil, 0, err
		}
		if err != nil {
			return runs, 0, nil // the next call meets the error again
		}
		runs = append(runs, found...)
		r.fill(found)
		if next >= 0 {
			nap = min(nap, next)
		}
	}
	return runs, nap, nil
}

// unheard returns the queues in which a batch may be there whose reply was
// lost.
func (s *session) unheard() []*queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	var queues []*queue
	for q, h := range s.holds {
		if h.asked {
			queues = append(queues, q)
		}
	}
	return queues
}

// takeFrom takes from one queue. next is when its first delayed run is due, -1
// if it has none.
func (s *session) takeFrom(ctx context.Context, h *hold, r room, sleepy bool) (runs []*broker.TaskRun, next time.Duration, err error) {
	s.mu.Lock()
	if s.left {
		s.mu.Unlock()
		return nil, 0, errors.New("the session has left")
	}
	number := h.next
	h.asked = true
	s.mu.Unlock()

	member := s.id + ":" + strconv.FormatInt(number, 10)
	asleep := "0"
	if sleepy {
		asleep = "1"
	}
	q := h.q
	v, err := s.b.repeat(ctx, s.b.scripts.take, s.b.clients.work,
		q.keys(q.flights, q.leases, q.ops, q.batch(member), q.dead, q.dropped),
		s.id, number, millis(s.lease), max(r.io, 0), max(r.cpu, 0), max(r.total, 0), asleep, s.b.cfg.MaxDead, s.b.bad)
	if err != nil {
		return nil, 0, s.b.fail(ctx, "take from queue "+q.name, err)
	}
	reply, ok := v.([]any)
	if !ok || len(reply) == 0 {
		return nil, 0, fmt.Errorf("take from queue %s: unexpected reply %T of the take script", q.name, v)
	}
	ms, _ := reply[0].(int64)
	if ms == -2 {
		s.mu.Lock()
		h.next, h.asked = number+1, false
		s.mu.Unlock()
		return nil, 0, nil // to be asked again at once
	}
	next = time.Duration(ms) * time.Millisecond
	if ms < 0 {
		next = -1
	}
	if len(reply) == 1 {
		s.setAsked(h, false)
		return nil, next, nil
	}
	return s.receive(ctx, h, number, member, reply[1:]), next, nil
}

func (s *session) setAsked(h *hold, asked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.asked = asked
}

// receive makes runs of a batch. What cannot be read is made a dead letter.
func (s *session) receive(ctx context.Context, h *hold, number int64, member string, elements []any) []*broker.TaskRun {
	sl := &slot{hold: h, number: number, member: member, done: make([]bool, len(elements)), left: len(elements)}
	s.mu.Lock()
	h.slots[number] = sl
	h.next, h.asked = number+1, false
	s.mu.Unlock()

	var (
		receipts = make([]receipt, len(elements))
		runs     = make([]*broker.TaskRun, 0, len(elements))
		bad      []*outcome
		records  []string
	)
	for i, e := range elements {
		element, _ := e.(string)
		receipts[i] = receipt{s, sl, i}
		run, err := parseElement(element)
		if err == nil && run.Queue != h.q.name {
			err = fmt.Errorf("decode run: it is of queue %q", run.Queue)
		}
		if err != nil {
			bad = append(bad, unreadable(&receipts[i], element, err))
			continue
		}
		run.Deliveries++
		run.Receipt = &receipts[i]
		if run.Keep > 0 {
			records = append(records, h.q.record(run.ID))
		}
		runs = append(runs, run)
	}
	if len(bad) > 0 {
		s.bury(ctx, h, bad)
	}
	if len(records) > 0 {
		// A state for people: the runs are taken whether it is noted or not.
		_, _ = s.b.scripts.started.run(ctx, s.b.clients.work,
			append([]string{h.q.batch(member)}, records...))
	}
	return runs
}

// bury makes dead letters of entries that cannot be read. What fails is tried
// again at the next renewal.
func (s *session) bury(ctx context.Context, h *hold, bad []*outcome) {
	f := &finishing{outcomes: bad}
	if err := h.finish.do(ctx, s.b, f, 0); err == nil && f.err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h.bad = append(h.bad, bad...)
}

// Renew extends the lease of what the session holds, in one command a queue.
func (s *session) Renew(ctx context.Context) error {
	s.mu.Lock()
	var holds []*hold
	for _, h := range s.holds {
		if len(h.slots) > 0 {
			holds = append(holds, h)
		}
	}
	lost := s.lost
	s.lost = false
	s.mu.Unlock()

	var failed error
	for _, h := range holds {
		gone, err := s.renewIn(ctx, h)
		lost = lost || gone
		failed = errors.Join(failed, err)
	}
	if lost {
		return fmt.Errorf("renew: %w", broker.ErrLeaseLost)
	}
	if failed != nil {
		return fmt.Errorf("renew: %w", failed)
	}
	return nil
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
	v, err := s.b.repeat(ctx, s.b.scripts.renew, s.b.clients.lease,
		[]string{h.q.leases, h.q.lost(s.id)}, s.id, millis(s.lease))
	if err != nil {
		return false, s.b.fail(ctx, "renew lease in queue "+h.q.name, err)
	}
	if v != int64(0) {
		return false, nil
	}
	return s.findLost(ctx, h)
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
	pipe := s.b.clients.lease.Pipeline()
	for _, sl := range slots {
		pipe.Exists(ctx, h.q.batch(sl.member))
	}
	replies, err := pipe.Exec(ctx)
	if err != nil {
		s.mu.Lock()
		s.lost = true // some is, and the mark of it is gone
		s.mu.Unlock()
		return false, s.b.fail(ctx, "find lost batches in queue "+h.q.name, err)
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

// Leave gives back what the session holds, unfinished runs at the head of their
// queue, and ends it. Called again it tries again what failed.
func (s *session) Leave(ctx context.Context) error {
	s.mu.Lock()
	s.left = true
	holds := make([]*hold, 0, len(s.holds))
	for _, h := range s.holds {
		holds = append(holds, h)
	}
	s.mu.Unlock()
	var failed error
	for _, h := range holds {
		failed = errors.Join(failed, s.leaveQueue(ctx, h))
	}
	if failed != nil {
		return fmt.Errorf("leave: %w", failed)
	}
	return nil
}

func (s *session) leaveQueue(ctx context.Context, h *hold) error {
	s.mu.Lock()
	used := h.next > 1 || h.asked
	var members []string
	if h.asked {
		members = append(members, s.id+":"+strconv.FormatInt(h.next, 10))
	}
	slots := make([]*slot, 0, len(h.slots))
	for _, sl := range h.slots {
		slots = append(slots, sl)
	}
	s.mu.Unlock()
	if !used {
		return nil
	}
	// The batch taken last first, as each goes to the head.
	slices.SortFunc(slots, func(a, b *slot) int { return int(b.number - a.number) })
	for _, sl := range slots {
		members = append(members, sl.member)
	}
	for _, member := range members {
		if _, err := s.b.giveBack(ctx, h.q, s.id, member, "leave"); err != nil {
			return err
		}
	}
	s.mu.Lock()
	for _, sl := range slots {
		sl.gone = true
		delete(h.slots, sl.number)
	}
	h.asked = false
	s.mu.Unlock()
	pipe := s.b.clients.lease.Pipeline()
	pipe.ZRem(ctx, h.q.leases, s.id)
	pipe.HDel(ctx, h.q.ops, s.id)
	pipe.Del(ctx, h.q.lost(s.id))
	if _, err := pipe.Exec(ctx); err != nil {
		return s.b.fail(ctx, "end lease in queue "+h.q.name, err)
	}
	return nil
}
