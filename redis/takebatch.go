package redis

import (
	"context"
	"errors"
	"fmt"
	"github.com/taskgen/taskgen/redis/internal/script"
	"strconv"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/resp"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// tellFor is for how long a take relies on its word that it waits; the server
// keeps it for five minutes.
const tellFor = 2 * time.Minute

// What a take says of itself if it finds nothing; a take from several queues says by
// which element it watches the queue.
const (
	awake  = "0"
	asleep = "1"
)

// takeState is asleep unless producers for the queue know that somebody waits.
func (s *session) takeState(q *queue, r room) string {
	if s.isAnnounced(q, r) {
		return awake
	}
	return asleep
}

// isAnnounced reports whether producers for the queue know that somebody waits.
func (s *session) isAnnounced(q *queue, r room) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.leases[q]
	return h != nil && (r.io <= 0 || time.Since(h.announced[0]) <= tellFor) && (r.cpu <= 0 || time.Since(h.announced[1]) <= tellFor)
}

func (s *session) forgetAnnounced(q *queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.leases[q]; h != nil {
		h.announced = [2]time.Time{}
	}
}

// recallAll returns the batches that may have been taken unheard.
func (s *session) recallAll(ctx context.Context) (runs []*broker.TaskRun, failed error) {
	for _, q := range s.unheard() {
		if s.troubles.has(q) {
			continue
		}
		wait := time.Duration(0)
		if s.b.clients.Cluster {
			wait = tryOnce
		}
		found, _, err := s.takeBatch(ctx, s.leaseIn(q), room{}, awake, wait)
		if err != nil && s.passes(ctx, q, err) {
			err = nil
		}
		failed = errors.Join(failed, err)
		runs = append(runs, found...)
	}
	if len(runs) > 0 {
		return runs, nil // the next call meets the error again
	}
	return nil, failed
}

// unheard returns the queues in which a batch may be there whose reply was
// lost.
func (s *session) unheard() []*queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	var queues []*queue
	for q, h := range s.leases {
		if h.asked {
			queues = append(queues, q)
		}
	}
	return queues
}

// takeFrom takes from one queue, once if wait is tryOnce. next is when its first
// delayed run is due, -1 if it has none.
func (s *session) takeFrom(ctx context.Context, h *queueLease, r room, word string, wait time.Duration) (runs []*broker.TaskRun, next time.Duration, err error) {
	s.mu.Lock()
	if s.left {
		s.mu.Unlock()
		return nil, 0, errors.New("the session has left")
	}
	s.mu.Unlock()
	return s.takeBatch(ctx, h, r, word, wait)
}

// recall asks for a batch that was taken unheard, and for nothing new.
func (s *session) recall(ctx context.Context, h *queueLease) ([]*broker.TaskRun, time.Duration, error) {
	return s.takeBatch(ctx, h, room{}, awake, 0)
}

// tryOnce has a take fail at the first error, so that a node that is down does not
// hold up the queues of the others. It stands for a wait.
const tryOnce = -1

// takeBatch takes the next batch, after waiting for up to wait for a token. When
// it cannot be excluded that a take whose reply was not heard will still be
// executed, the queue stays asked.
func (s *session) takeBatch(ctx context.Context, h *queueLease, r room, word string, wait time.Duration) (runs []*broker.TaskRun, next time.Duration, err error) {
	s.mu.Lock()
	number, asked := h.next, h.asked
	h.asked = true
	s.mu.Unlock()

	member := s.id + ":" + strconv.FormatInt(number, 10)
	q, start := h.q, time.Now()
	apart := s.b.clients.Work.Direct()
	keys := script.TakeKeys(&q.QueueKeys, member)
	args := (&script.TakeArgs{
		Session: s.id, Slot: number, Lease: wire.Millis(s.lease), IO: max(r.io, 0), CPU: max(r.cpu, 0), Total: max(r.total, 0),
		Word: word, AheadIO: r.aheadIO, AheadCPU: r.aheadCPU, Apart: apart,
	}).Append(make([]any, 0, 10))
	take := s.b.scripts.Take
	if apart {
		take.Behind = resp.AppendBulk(resp.AppendBulk(resp.AppendArray(nil, 4), "LRANGE"), q.Batch(member))
		take.Behind = resp.AppendBulk(resp.AppendBulk(take.Behind, "0"), "-1")
	}
	var (
		v       any
		unheard bool
	)
	switch {
	case wait == tryOnce:
		v, err = s.b.runReading(ctx, take, s.b.clients.Work, readTakeReply, keys, args)
		unheard, err = conn.IsUnknown(err), s.b.blame(ctx, err, keys...)
	case wait > 0:
		v, err = s.b.runAfterWait(ctx, take, wakeKeys(q, r), wait, readTakeReply, keys, args)
		unheard = conn.IsUnknown(err)
	default:
		v, unheard, err = s.b.repeatKnowing(ctx, take, s.b.clients.Work, readTakeReply, keys, args...)
	}
	if unheard {
		s.mu.Lock()
		h.doubt = true
		s.mu.Unlock()
	}
	if err != nil {
		if !unheard && conn.IsUnsent(err) {
			s.mu.Lock()
			h.asked = asked
			s.mu.Unlock()
		}
		return nil, 0, s.b.fail(ctx, "take from queue "+q.Name, err)
	}
	reply, err := takeReplyOf(v)
	if err != nil {
		return nil, 0, fmt.Errorf("take from queue %s: %w", q.Name, err)
	}
	if reply.due == toMove {
		reply.due = s.moveOne(ctx, q)
	}
	if reply.due == usedUp && !asked && !unheard && !r.none() {
		s.stray(h)
	}
	if reply.due == usedUp || len(reply.stored) == 0 {
		return nil, s.noteEmptyTake(h, r, reply.due, word == asleep, unheard, start), nil
	}
	return s.receive(ctx, h, number, member, reply.stored), untilDue(reply.due), nil
}

// What the take script returns instead of when a delayed run is due.
const (
	usedUp = -2 // the slot can be used no more
	quiet  = -3 // there is none, and nothing in flight either
	toMove = -4 // there is none where it looked, but there are those of large calls
)

// moveOne moves a page of the runs of a large call, and returns when to take again as
// the take script does. Why it cannot recoveries report, as other queues may do.
func (s *session) moveOne(ctx context.Context, q *queue) int64 {
	if some, _ := s.b.moveStaged(ctx, q, 1); some {
		return 0
	}
	return -1
}

// untilDue is the time until the next delayed run is due, -1 if there is none.
func untilDue(ms int64) time.Duration {
	if ms < 0 {
		return -1
	}
	return time.Duration(ms) * time.Millisecond
}

// stray notes that the server says of a slot that it is used, though it never was: what
// it knows of the session's slots is wrong. The session goes on behind that, twice as far
// ahead each time.
func (s *session) stray(h *queueLease) {
	s.mu.Lock()
	first := h.strays == 0
	h.next += 1<<min(h.strays, maxStrays) - 1
	h.strays++
	s.mu.Unlock()
	if first {
		s.b.damage.add(maintenance.Damage{Queue: h.q.Name, Key: h.q.Ops, Why: "it said of session " + s.id + " that it had used a slot that it had not"})
	}
}

// maxStrays is up to when the distance doubles: it is beyond what the take script believes.
const maxStrays = 40

// noteEmptyTake notes the reply to a take that was sent at start and found
// nothing, and returns when to ask again at the latest.
func (s *session) noteEmptyTake(h *queueLease, r room, due int64, sleepy, unheard bool, start time.Time) time.Duration {
	if due == quiet {
		s.b.quiet.note(h.q, start)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if due == usedUp {
		h.next, h.asked = h.next+1, false
		return 0 // at once
	}
	h.asked, h.strays = unheard, 0
	if sleepy && r.io > 0 {
		h.announced[0] = start
	}
	if sleepy && r.cpu > 0 {
		h.announced[1] = start
	}
	return h.afterOthers(time.Now(), untilDue(due))
}

// receive makes runs of a batch. What cannot be read is made a dead letter, or
// left to who can.
func (s *session) receive(ctx context.Context, h *queueLease, number int64, member string, stored [][]byte) []*broker.TaskRun {
	bt := &batch{lease: h, number: number, member: member, done: make([]bool, len(stored)), left: len(stored)}
	var (
		names    broker.Decoder
		receipts = make([]receipt, len(stored))
		made     = make([]broker.TaskRun, len(stored))
		runs     = make([]*broker.TaskRun, 0, len(stored))
		bad      []unread
	)
	bt.runs = made
	for i, stored := range stored {
		run := &made[i]
		receipts[i] = receipt{s, bt, i}
		err := wire.ParseRun(&names, stored, run)
		if err == nil && run.Queue != h.q.Name {
			err = fmt.Errorf("decode run: it is of queue %q", run.Queue)
		}
		if err != nil {
			bad = append(bad, unread{&receipts[i], stored, run, err})
			continue
		}
		if past := stored[1] >> wire.PastShift; past > 0 {
			if bt.past == nil {
				bt.past, bt.begun = map[int]byte{}, map[int]byte{}
			}
			bt.past[i] = past
		}
		run.Deliveries++
		run.Receipt = &receipts[i]
		if run.Keep > 0 {
			bt.kept = append(bt.kept, kept{i, run.ID})
		}
		runs = append(runs, run)
	}
	s.mu.Lock()
	h.batches[number] = bt
	h.next, h.asked, h.strays = number+1, false, 0
	s.noteTake(h)
	s.mu.Unlock()
	if len(bad) > 0 {
		s.endUnread(ctx, h, bad)
	}
	if len(bt.kept) > 0 {
		s.noteLater(bt)
	}
	return runs
}
