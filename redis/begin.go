package redis

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// Begin notes the begin of a run that came back from a session whose lease had ended. It
// does nothing for other runs.
func (s *session) Begin(ctx context.Context, run *broker.TaskRun) (held bool, err error) {
	return s.mark(ctx, run, wire.HasBegun)
}

// Spared returns how many of the run's deliveries ended with the lease of a session whose
// consumer lived on. It sends one command.
func (s *session) Spared(ctx context.Context, run *broker.TaskRun) (int, error) {
	q, err := s.b.queue(run.Queue)
	if err != nil {
		return 0, fmt.Errorf("read what run %s is spared: %w", run.ID, err)
	}
	text, err := s.b.clients.Lease.Get(ctx, q.Spared(run.ID))
	if conn.IsMissing(err) {
		return 0, nil
	}
	if err != nil {
		return 0, s.b.fail(ctx, "read what run "+run.ID+" is spared", err)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, nil // somebody else wrote it
	}
	return max(n, 0), nil
}

// Clear notes that a run that has begun is not to blame if the session's lease ends. It
// does nothing for a run that did not come back.
func (s *session) Clear(ctx context.Context, run *broker.TaskRun) error {
	past, _ := s.pastOf(run)
	_, err := s.mark(ctx, run, min(past+clearedBy, wire.HasBegun-1))
	return err
}

// clearedBy is what Clear adds to the number that recoveries left in a run's flags. For a run
// that has begun it adds this once, however often it is called.
const clearedBy = 6

// Suspect reports whether the run came back from a session whose lease had ended, and
// whether the run was cleared there.
func (s *session) Suspect(run *broker.TaskRun) (suspect, cleared bool) {
	past, _ := s.pastOf(run)
	return past > 0, past > clearedBy
}

// pastOf returns the number that recoveries left in the flags of a run before it began here,
// and whether the session holds the run.
func (s *session) pastOf(run *broker.TaskRun) (past byte, held bool) {
	at, ok := run.Receipt.(*receipt)
	if !ok || at.session != s {
		return 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	past, began := at.batch.begun[at.index]
	if !began {
		past = at.batch.past[at.index]
	}
	return past, !at.batch.gone && !at.batch.done[at.index]
}

// mark writes the upper four bits of the flags of a run that came back.
func (s *session) mark(ctx context.Context, run *broker.TaskRun, bits byte) (held bool, err error) {
	past, held := s.pastOf(run)
	if past == 0 || !held {
		return held, nil
	}
	at, _ := run.Receipt.(*receipt)
	q := at.batch.lease.q
	v, err := s.b.repeat(ctx, s.b.scripts.MarkBegun, s.b.clients.Lease,
		script.MarkBegunKeys(&q.QueueKeys, at.batch.name), (&script.MarkBegunArgs{Index: at.index, Bits: int(bits)}).Append(nil)...)
	if err == nil {
		held, err = script.ParseMarkBegun(v)
	}
	if err != nil {
		return false, s.b.fail(ctx, "begin run "+run.ID, err)
	}
	s.mu.Lock()
	at.batch.begun[at.index], at.batch.past[at.index] = past, bits
	s.mu.Unlock()
	return held, nil
}

// keepPast keeps in a stored run that goes back the number that recoveries left in its flags.
// A run that had begun here goes back with 1.
func (at *receipt) keepPast(stored []byte) {
	if at.batch.past == nil {
		return
	}
	s := at.session
	s.mu.Lock()
	past := at.batch.past[at.index]
	if _, began := at.batch.begun[at.index]; began || past == wire.HasBegun {
		past = 1
	}
	s.mu.Unlock()
	stored[1] |= past << wire.PastShift
}

// sparedKept is how long the server keeps that a run was spared deliveries, unless the run
// ends before. The time counts from the last such delivery, or from when the run is due
// again.
const sparedKept = 30 * 24 * time.Hour

// keepSpared has the server keep the deliveries that runs were spared until after their
// delays, and forget those of ended runs. It ignores errors: the server keeps spared
// deliveries for long in any case.
func (s *session) keepSpared(ctx context.Context, outcomes []broker.Outcome, fenced []*broker.TaskRun) {
	var all []sparedExpiry
	for i := range outcomes {
		o := &outcomes[i]
		if at, ok := o.Run.Receipt.(*receipt); ok && mayBeSpared(o) && !slices.Contains(fenced, o.Run) {
			all = append(all, sparedExpiry{at.batch.lease.q.Spared(o.Run.ID), o})
		}
	}
	if len(all) == 0 {
		return
	}
	_ = s.b.clients.Lease.Send(ctx, func(pipe conn.Pipeline) {
		for _, e := range all {
			if e.outcome.Verdict == broker.Retry {
				pipe.PExpire(ctx, e.key, min(e.outcome.Delay, math.MaxInt64-sparedKept)+sparedKept)
			} else {
				pipe.Del(ctx, e.key)
			}
		}
	})
}

// sparedExpiry is the key of the deliveries that a run was spared, and the outcome after
// which the key expires.
type sparedExpiry struct {
	key     string
	outcome *broker.Outcome
}

// mayBeSpared reports whether the server may keep what the run of an outcome was spared, for
// too short or too long: without a fault each delivery has become an attempt or was taken
// back.
func mayBeSpared(o *broker.Outcome) bool {
	switch {
	case o.Run.Deliveries <= o.Run.Attempt:
		return false
	case o.Verdict == broker.Retry:
		return o.Delay > 0
	}
	return o.Run.Deliveries > 1 // else no delivery before it could have been spared
}

// Survived spares the runs that were recovered from the session, and those that it gave
// back. It sends two commands for each queue of which it held some.
func (s *session) Survived(ctx context.Context, back ...*broker.TaskRun) error {
	s.mu.Lock()
	var leases []*queueLease
	for _, ql := range s.leases {
		if ql.next > 1 || ql.unanswered {
			leases = append(leases, ql)
		}
	}
	s.mu.Unlock()
	errs := make([]error, len(leases))
	each(leases, func(i int, ql *queueLease) { errs[i] = s.survivedIn(ctx, ql.q, back) })
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("tell that the consumer survived: %w", err)
	}
	return nil
}

// survivedIn is Survived for one queue.
func (s *session) survivedIn(ctx context.Context, q *queue, back []*broker.TaskRun) error {
	raised, err := s.b.clients.Lease.SMembers(ctx, q.Raised(s.id))
	if err == nil {
		err = s.spare(ctx, q, true, raised)
	}
	if err == nil {
		var own []string
		for _, run := range back {
			if run.Queue == q.Name {
				own = append(own, run.ID)
			}
		}
		err = s.spare(ctx, q, false, own)
	}
	if err != nil {
		return s.b.fail(ctx, "spare runs of queue "+q.Name, err)
	}
	return nil
}

// spare spares each of the runs a delivery, a page of them at a time. Those that
// recoveries raised are listed.
func (s *session) spare(ctx context.Context, q *queue, listed bool, ids []string) error {
	for page := range slices.Chunk(ids, 500) {
		keys, args := []string{q.Raised(s.id)}, (&script.SpareArgs{Keep: sparedKept.Milliseconds(), Listed: listed}).Append(nil)
		for _, id := range page {
			keys, args = append(keys, q.Spared(id)), append(args, id)
		}
		v, err := s.b.run(ctx, s.b.scripts.Spare, s.b.clients.Lease, keys, args...)
		if err == nil {
			_, err = script.ParseSpare(v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// How long a run waits at most after the leases of its sessions ended. After the first it
// does not wait, because most leases end by no fault of a run.
const (
	firstWait   = time.Second
	longestWait = time.Minute
)

// recoveryDelays returns for how long runs of a batch are delayed that began in a session
// whose lease has ended: the index of each, and the time.
func recoveryDelays(stored []string) []any {
	var args []any
	var names broker.Decoder
	for i, e := range stored {
		var run broker.TaskRun
		if len(e) <= wire.HeaderSize || e[1]>>wire.PastShift == 0 || wire.ParseRun(&names, []byte(e), &run) != nil {
			continue
		}
		args = append(args, i, wire.Millis(waitAfter(run.Deliveries+1-run.Attempt)))
	}
	return args
}

// waitAfter draws the wait after so many deliveries without an outcome.
func waitAfter(crashes int) time.Duration {
	longest := firstWait << min(max(crashes-2, 0), 6)
	return 1 + rand.N(min(longest, longestWait))
}
