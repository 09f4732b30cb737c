package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// takeRequest is one execution of the take script.
type takeRequest struct {
	room     room          // the zero value takes nothing new: it asks for a batch whose reply was lost
	announce string        // left in the queue if there is nothing: announceNothing, announceWaiting, or a watch's token
	wait     time.Duration // first block for a wake token, for at most so long
	once     bool          // fail at the first error, so that a node that is down does not hold up other nodes' queues
}

// What a take from one queue announces if it finds nothing. A take from several queues
// of a server leaves its watch's token instead.
const (
	announceNothing = "0"
	announceWaiting = "1" // the server keeps it for five minutes
)

// announcedFor is how long a session relies on its announcement.
const announcedFor = 2 * time.Minute

// announcementFor returns what a take announces: announceNothing if producers for the
// queue know already that somebody waits.
func (s *session) announcementFor(q *queue, r room) string {
	if s.isAnnounced(q, r) {
		return announceNothing
	}
	return announceWaiting
}

// isAnnounced reports whether producers for the queue know that somebody waits for runs of
// each kind that there is room for.
func (s *session) isAnnounced(q *queue, r room) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ql := s.leases[q]
	return ql != nil && (r.io <= 0 || time.Since(ql.announcedAt[0]) <= announcedFor) && (r.cpu <= 0 || time.Since(ql.announcedAt[1]) <= announcedFor)
}

// forgetAnnounced has the next take that finds nothing announce itself again.
func (s *session) forgetAnnounced(q *queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ql := s.leases[q]; ql != nil {
		ql.announcedAt = [2]time.Time{}
	}
}

// recallBatches returns the runs of all batches that may have been taken by takes whose
// replies were lost.
func (s *session) recallBatches(ctx context.Context) (runs []*broker.TaskRun, failed error) {
	for _, q := range s.unansweredQueues() {
		if s.failing.avoids(q) {
			continue
		}
		found, _, err := s.takeBatch(ctx, s.leaseIn(q), takeRequest{announce: announceNothing, once: s.b.clients.Cluster})
		if err != nil && s.canSkip(ctx, q, err) {
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

// unansweredQueues returns the queues in which there may be a batch whose reply was lost.
func (s *session) unansweredQueues() []*queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	var queues []*queue
	for q, ql := range s.leases {
		if ql.unanswered {
			queues = append(queues, q)
		}
	}
	return queues
}

// recallBatch asks one queue for a batch whose reply was lost, and for nothing new.
func (s *session) recallBatch(ctx context.Context, ql *queueLease) ([]*broker.TaskRun, time.Duration, error) {
	return s.takeBatch(ctx, ql, takeRequest{announce: announceNothing})
}

// takeUnlessClosed is takeBatch for a session that may have been closed.
func (s *session) takeUnlessClosed(ctx context.Context, ql *queueLease, req takeRequest) (runs []*broker.TaskRun, next time.Duration, err error) {
	if s.isClosed() {
		return nil, 0, errors.New("the session has left")
	}
	return s.takeBatch(ctx, ql, req)
}

// takeBatch takes the next batch from one queue. next is the time until the queue's first
// delayed run is due, -1 if there is none. If a take whose reply was lost may still be
// executed, the queue stays unanswered, and the next take asks for the same batch.
func (s *session) takeBatch(ctx context.Context, ql *queueLease, req takeRequest) (runs []*broker.TaskRun, next time.Duration, err error) {
	start := time.Now()
	number, unanswered := s.noteTakeSent(ql)
	name := s.id + ":" + strconv.FormatInt(number, 10)
	v, replyLost, err := s.sendTake(ctx, ql.q, number, name, req)
	if replyLost {
		s.noteReplyLost(ql)
	}
	if err != nil {
		if !replyLost && !unanswered && conn.IsUnsent(err) {
			s.noteTakeUnsent(ql)
		}
		return nil, 0, s.b.fail(ctx, "take from queue "+ql.q.Name, err)
	}
	reply, err := script.ParseTake(v)
	if err != nil {
		return nil, 0, fmt.Errorf("take from queue %s: %w", ql.q.Name, err)
	}
	if reply.Next == script.TakeStaged {
		reply.Next = s.moveStagedPage(ctx, ql.q)
	}
	if reply.Next == script.TakeUsedUp && !unanswered && !replyLost && !req.room.none() {
		s.skipFalselyUsed(ql)
	}
	if reply.Next == script.TakeUsedUp || len(reply.Stored) == 0 {
		return nil, s.noteEmptyTake(ql, req, reply.Next, replyLost, start), nil
	}
	return s.receive(ctx, ql, number, name, reply.Stored), untilDue(reply.Next), nil
}

// noteTakeSent notes that a take is about to be sent. It returns the number of the batch
// to take, and whether an earlier take of that number may have been executed.
func (s *session) noteTakeSent(ql *queueLease) (number int64, unanswered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	unanswered = ql.unanswered
	ql.unanswered = true
	return ql.next, unanswered
}

func (s *session) noteReplyLost(ql *queueLease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ql.mayTakeLate = true
}

func (s *session) noteTakeUnsent(ql *queueLease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ql.unanswered = false
}

// sendTake executes the take script. replyLost reports that the server may have executed
// it, or may do so later, and that no reply came.
func (s *session) sendTake(ctx context.Context, q *queue, number int64, name string, req takeRequest) (v any, replyLost bool, err error) {
	r, apart := req.room, s.b.clients.Work.Direct()
	keys := script.TakeKeys(&q.QueueKeys, name)
	args := (&script.TakeArgs{
		Session: s.id, Number: number, Lease: wire.Millis(s.lease), IO: max(r.io, 0), CPU: max(r.cpu, 0), Total: max(r.total, 0),
		Announce: req.announce, PrefetchIO: r.prefetchIO, PrefetchCPU: r.prefetchCPU, Apart: apart,
		Limits: s.limits.text,
	}).Append(make([]any, 0, 11))
	take := s.b.scripts.Take
	if apart {
		take.Behind = script.AppendReadBatch(nil, q.Batch(name))
	}
	switch {
	case req.once:
		v, err = s.b.runReading(ctx, take, s.b.clients.Work, script.ReadTake, keys, args)
		return v, conn.IsUnknown(err), s.b.blame(ctx, err, keys...)
	case req.wait > 0:
		v, err = s.b.runAfterWait(ctx, take, wakeSetsOf(q, r), req.wait, script.ReadTake, keys, args)
		return v, conn.IsUnknown(err), err
	}
	return s.b.repeatTracked(ctx, take, s.b.clients.Work, script.ReadTake, keys, args...)
}

// moveStagedPage moves a page of the runs of a large call. It returns when to take again, as the
// take script does. It reports no error: recoveries move these runs too, and report it.
func (s *session) moveStagedPage(ctx context.Context, q *queue) int64 {
	if some, _ := s.b.moveStaged(ctx, q, 1); some {
		return 0
	}
	return -1
}

// untilDue is the time until the first delayed run is due, -1 if there is none.
func untilDue(ms int64) time.Duration {
	if ms < 0 {
		return -1
	}
	return time.Duration(ms) * time.Millisecond
}

// skipFalselyUsed skips batch numbers after the server replied that one is used, though
// the session never used it. The server has lost its place, and there may be more such
// numbers: the distance doubles each time.
func (s *session) skipFalselyUsed(ql *queueLease) {
	s.mu.Lock()
	first := ql.falselyUsed == 0
	ql.next += 1<<min(ql.falselyUsed, maxFalselyUsed) - 1
	ql.falselyUsed++
	s.mu.Unlock()
	if first {
		s.b.damage.add(maintenance.Damage{Queue: ql.q.Name, Key: ql.q.Takes, Why: "it said of session " + s.id + " that it had used the number of a batch that it had not"})
	}
}

// maxFalselyUsed is how often the distance doubles at most. The last distance is more than
// the take script believes.
const maxFalselyUsed = 40

// noteEmptyTake notes a reply without runs to a take that was sent at start. It returns
// after which time to ask again at the latest, -1 if there is no such time.
func (s *session) noteEmptyTake(ql *queueLease, req takeRequest, due int64, replyLost bool, start time.Time) time.Duration {
	if due == script.TakeQuiet {
		s.b.quiet.note(ql.q, start)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if due == script.TakeUsedUp {
		ql.next, ql.unanswered = ql.next+1, false
		return 0
	}
	ql.unanswered, ql.falselyUsed = replyLost, 0
	if req.announce == announceWaiting {
		for _, kind := range req.room.kinds() {
			ql.announcedAt[kind] = start
		}
	}
	return ql.afterOthers(time.Now(), untilDue(due))
}

// receive makes runs of a batch. A stored run that cannot be read becomes a dead letter, or
// is left to a consumer that can read it.
func (s *session) receive(ctx context.Context, ql *queueLease, number int64, name string, stored [][]byte) []*broker.TaskRun {
	bt := &batch{
		lease: ql, number: number, name: name, done: make([]bool, len(stored)), left: len(stored),
		runs: make([]broker.TaskRun, len(stored)), takenAt: time.Now(),
	}
	runs, unreadable := s.decodeBatch(bt, stored)
	s.addBatch(bt)
	if len(unreadable) > 0 {
		s.endUnread(ctx, ql, unreadable)
	}
	if len(bt.kept) > 0 {
		s.noteLater(bt)
	}
	return runs
}

// decodeBatch decodes the stored runs into the batch. It returns the runs, and what it
// could not read.
func (s *session) decodeBatch(bt *batch, stored [][]byte) (runs []*broker.TaskRun, failed []unread) {
	var names broker.Decoder
	receipts := make([]receipt, len(stored))
	runs = make([]*broker.TaskRun, 0, len(stored))
	for i, stored := range stored {
		run, at := &bt.runs[i], &receipts[i]
		*at = receipt{s, bt, i}
		err := wire.ParseRun(&names, stored, run)
		if err == nil && run.Queue != bt.lease.q.Name {
			err = fmt.Errorf("decode run: it is of queue %q", run.Queue)
		}
		if err != nil {
			failed = append(failed, unread{at, stored, run, err})
			continue
		}
		bt.notePast(i, stored[1]>>wire.PastShift)
		run.Deliveries++
		run.Receipt = at
		if run.Keep > 0 {
			bt.kept = append(bt.kept, kept{i, run.ID})
		}
		runs = append(runs, run)
	}
	return runs, failed
}

// notePast notes what recoveries left in the flags of a run that they gave back, 0 for
// another run.
func (bt *batch) notePast(index int, past byte) {
	if past == 0 {
		return
	}
	if bt.past == nil {
		bt.past, bt.begun = map[int]byte{}, map[int]byte{}
	}
	bt.past[index] = past
}

// addBatch adds a batch to what the session holds.
func (s *session) addBatch(bt *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ql := bt.lease
	ql.batches[bt.number] = bt
	ql.next, ql.unanswered, ql.falselyUsed = bt.number+1, false, 0
	s.noteTake(ql)
}
