package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/backoff"
)

// A broker may refuse one outcome for ever: a key of its run has the wrong type, or the
// dead letter is too large. The outcomes that are sent with it must not wait for it. A
// request that fails is therefore split, until the outcome is alone, and that outcome is
// deferred.
const (
	maxDeferred      = 8 // outcomes of a queue; if more fail, the broker fails
	minTriesAlone    = 5 // of an outcome that the broker refuses, before it is deferred
	maxFailuresInRow = 2 // parts that fail in a row, before the others wait for the next try
	maxUnsplitTries  = 5 // tries, before requests are split although the broker is away
	maxParts         = 16

	minDeferredWait = time.Second // between tries of deferred outcomes
	maxDeferredWait = time.Minute
)

const (
	maxOutcomes   = 1024            // in one request
	outcomeBytes  = 16 << 20        // in one request, unless one outcome alone has more
	finishTimeout = 5 * time.Second // of one try
)

// deferredOutcomes are outcomes of a queue that the broker does not record, although it
// records others.
type deferredOutcomes struct {
	outcomes []broker.Outcome
	wait     time.Duration
	timer    *time.Timer // to the next try; nil: there are no outcomes
}

// add adds an outcome. It returns false if there are too many.
func (d *deferredOutcomes) add(o broker.Outcome) bool {
	if len(d.outcomes) >= maxDeferred {
		return false
	}
	d.outcomes = append(d.outcomes, o)
	d.wait = minDeferredWait
	d.schedule()
	return true
}

// schedule sets the timer to the next try.
func (d *deferredOutcomes) schedule() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if len(d.outcomes) > 0 {
		d.timer = time.NewTimer(d.wait)
		d.wait = min(2*d.wait, maxDeferredWait)
	}
}

// wake returns a channel that has a value at the next try, nil if there is none.
func (d *deferredOutcomes) wake() <-chan time.Time {
	if d.timer == nil {
		return nil
	}
	return d.timer.C
}

// awaitRecorded blocks until the outcomes are closed and the last one is recorded or given
// up. Then it closes s.finished.
func (s *session) awaitRecorded() {
	defer close(s.finished)
	s.outcomes.wait()
}

// recordQueue records the outcomes of a queue, as many in a request as there are, until
// there are no more. When ctx ends it gives them up: their runs start again elsewhere.
func (s *session) recordQueue(ctx context.Context, q *queueOutcomes) {
	var d deferredOutcomes
	for {
		batch, more := q.get(d.wake())
		for rest := batch; len(rest) > 0; {
			n := requestSize(rest)
			s.recordAll(ctx, q, &d, rest[:n:n])
			rest = rest[n:]
		}
		clear(batch)
		if len(batch) == 0 && len(d.outcomes) > 0 {
			s.recordDeferred(ctx, q, &d, !more)
		}
		if !more {
			return
		}
	}
}

// requestSize returns how many of the outcomes go into one request, so that many large
// ones together are not more than a broker accepts.
func requestSize(outcomes []broker.Outcome) int {
	size := 0
	for i := range min(len(outcomes), maxOutcomes) {
		o := &outcomes[i]
		size += len(o.Result)
		for _, next := range o.Next {
			size += payloads(next)
		}
		if o.Verdict == broker.Dead || o.Verdict == broker.Retry {
			size += len(o.Run.Payload)
		}
		if size > outcomeBytes && i > 0 {
			return i
		}
	}
	return min(len(outcomes), maxOutcomes)
}

// payloads returns how many bytes the parameters of a run take, and of those within it.
func payloads(run *broker.TaskRun) int {
	size, links := len(run.Payload), run.Links
	if links == nil {
		return size
	}
	for _, m := range links.Members {
		size += payloads(m)
	}
	for _, c := range links.Then {
		size += payloads(c.Run)
	}
	return size
}

// recordAll records outcomes or defers them. It retries until ctx ends, also when the
// lease is lost: the broker fences outcomes that no longer count. While it fails, the
// session takes no runs of the queue.
func (s *session) recordAll(ctx context.Context, q *queueOutcomes, d *deferredOutcomes, batch []broker.Outcome) {
	err := s.record(ctx, batch, false)
	if err == nil {
		return
	}
	ps := &parts{list: [][]broker.Outcome{batch}}
	for wait := backoff.New(20*time.Millisecond, time.Second); ; wait.Sleep(ctx) {
		worked := ps.try(func(part []broker.Outcome) error {
			if ps.tries == 1 {
				return err
			}
			return s.record(ctx, part, true)
		})
		if ctx.Err() == nil {
			s.deferAlone(q, d, ps)
		}
		if len(ps.list) == 0 {
			if q.setFailing(false) {
				s.refetchNow()
			}
			return
		}
		if ctx.Err() != nil {
			s.giveUp(q, ps.err, ps.list...)
			return
		}
		q.setFailing(true)
		s.logger.Warn("cannot record the outcome of runs, trying again", "queue", q.queue, "runs", ps.outcomes(), "error", ps.err)
		if worked {
			wait.Reset()
		}
	}
}

// deferAlone defers the outcomes that fail alone.
func (s *session) deferAlone(q *queueOutcomes, d *deferredOutcomes, ps *parts) {
	ps.remove(func(o broker.Outcome) bool {
		if !d.add(o) {
			return false
		}
		s.logger.Error("cannot record the outcome of the run, going on with those of others and trying again now and then",
			"queue", q.queue, "task", o.Run.Task, "run", o.Run.ID, "error", ps.err)
		return true
	})
}

// record records outcomes once. Each try has its own time limit, so that a try that
// hangs leaves the next one its time.
func (s *session) record(ctx context.Context, batch []broker.Outcome, again bool) error {
	try, cancel := context.WithTimeout(ctx, finishTimeout)
	defer cancel()
	began := time.Now()
	done, err := s.membership.Finish(try, batch...)
	s.count.operations[opFinish].observe(began, err)
	s.notifySkipped(done.Skipped)
	if len(batch) == 1 && len(batch[0].Next) > 0 && errors.Is(err, broker.ErrBatchTooLarge) {
		failure := broker.Failure{Kind: broker.FailureFailed, Message: fmt.Sprintf(
			"the runs that are to follow cannot be stored: %v; return less, or keep it elsewhere and return where, then queue the run before them again (dead retry)", err)}
		failHistory(batch[0].Run, failure)
		batch[0] = s.DeadOutcome(context.Background(), batch[0].Run, failure)
		return s.record(ctx, batch, again)
	}
	if err != nil {
		return err
	}
	s.exec.Replied(batch, func(run *broker.TaskRun) Reply {
		if slices.Contains(done.Fenced, run) {
			return Fenced
		}
		return Recorded
	})
	s.logFenced(done.Fenced, again)
	return nil
}

// logFenced logs outcomes that came too late to count. After a try whose reply was lost
// they may be those that the try has recorded.
func (s *session) logFenced(fenced []*broker.TaskRun, again bool) {
	level, message := slog.LevelWarn, "outcome of the run was not applied: its lease was lost, or the broker had it from a try whose reply was lost"
	if again {
		level, message = slog.LevelDebug, "outcome of the run was recorded by an earlier try, or its lease was lost"
	}
	s.noteRecovered(fenced)
	s.count.fenced.Add(int64(len(fenced)))
	for _, run := range fenced {
		s.LogSampled(level, message, run)
	}
}

// recordDeferred tries to record deferred outcomes, each alone. If last, it gives up
// those that fail.
func (s *session) recordDeferred(ctx context.Context, q *queueOutcomes, d *deferredOutcomes, last bool) {
	var failed error
	d.outcomes = slices.DeleteFunc(d.outcomes, func(o broker.Outcome) bool {
		err := s.record(ctx, []broker.Outcome{o}, true)
		failed = errors.Join(failed, err)
		return err == nil
	})
	n := len(d.outcomes)
	switch {
	case n == 0:
	case last || ctx.Err() != nil:
		s.giveUp(q, failed, d.outcomes)
		d.outcomes = nil
	default:
		s.logger.Warn("cannot record the deferred outcome of runs, trying again later", "queue", q.queue, "runs", n, "error", failed)
	}
	d.schedule()
}

// giveUp counts and logs outcomes that are not recorded.
func (s *session) giveUp(q *queueOutcomes, why error, batches ...[]broker.Outcome) {
	n := 0
	for _, batch := range batches {
		n += len(batch)
		s.exec.Replied(batch, unknown)
	}
	s.count.unrecorded.Add(int64(n))
	s.logger.Error("cannot record the outcome of runs, they may run again", "queue", q.queue, "runs", n, "error", why)
	s.outcomes.mu.Lock()
	defer s.outcomes.mu.Unlock()
	s.unrecorded += n
	s.recordErr = why
}

// parts are the outcomes of a request that failed, split into smaller requests: until each
// outcome that makes a request fail is alone.
type parts struct {
	list   [][]broker.Outcome
	failed [][]broker.Outcome // those of list that failed in the last try
	tries  int
	worked bool  // some were recorded
	err    error // of the last that failed
}

// try records the parts, but stops after maxFailuresInRow. It splits those that failed,
// if others are recorded or the broker refuses them. It reports whether some were
// recorded.
func (ps *parts) try(record func([]broker.Outcome) error) (worked bool) {
	ps.tries++
	ps.failed = ps.failed[:0]
	row := 0
	var rest [][]broker.Outcome
	for i, part := range ps.list {
		if row == maxFailuresInRow {
			rest = ps.list[i:]
			break
		}
		if err := record(part); err != nil {
			row++
			ps.err = err
			ps.failed = append(ps.failed, part)
			continue
		}
		row, worked = 0, true
	}
	ps.worked = ps.worked || worked
	ps.split(rest)
	return worked
}

// split sets the parts of the next try: the rest that was not tried, and then the halves
// of what failed.
func (ps *parts) split(rest [][]broker.Outcome) {
	n := len(ps.failed) + len(rest)
	ps.list = slices.Clone(rest)
	for _, part := range ps.failed {
		half := len(part) / 2
		if half > 0 && (ps.worked || n < maxParts && (isRefused(ps.err) || ps.tries > maxUnsplitTries)) {
			ps.list = append(ps.list, part[:half], part[half:])
			n++
		} else {
			ps.list = append(ps.list, part)
		}
	}
}

// remove removes the outcomes for which take returns true. It offers take those that failed
// alone in the last try, if others were recorded or the broker has refused them often enough.
func (ps *parts) remove(take func(broker.Outcome) bool) {
	if !ps.worked && (ps.tries < minTriesAlone || !isRefused(ps.err)) {
		return
	}
	for _, part := range ps.failed {
		if len(part) == 1 && take(part[0]) {
			ps.list = slices.DeleteFunc(ps.list, func(other []broker.Outcome) bool { return &other[0] == &part[0] && len(other) == 1 })
		}
	}
}

// outcomes returns how many outcomes the parts have.
func (ps *parts) outcomes() (n int) {
	for _, part := range ps.list {
		n += len(part)
	}
	return n
}

// isRefused reports whether an error is the broker's answer, and not the lack of one.
func isRefused(err error) bool {
	return !errors.Is(err, broker.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
}
