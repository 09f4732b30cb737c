package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// An outcome can be one that the broker records never: a key of its run has the wrong
// type, or the dead letter is too large. Those that are sent with it are not to wait for
// it: a request that fails is sent again in parts, until the outcome is alone, and that
// is set aside.

const (
	mostAside    = 8 // outcomes of a queue; if more fail it is the broker that does
	triesAlone   = 5 // of an outcome that the broker refuses, before it is set aside
	mostFailures = 2 // parts that fail in a row, before the others wait for the next try
	mostUnsplit  = 5 // tries, before parts are made also if the broker is away
	mostParts    = 16

	shortestAside = time.Second // between tries of what is set aside
	longestAside  = time.Minute
)

// aside are the outcomes of a queue that the broker does not record though it records
// others.
type aside struct {
	outcomes []broker.Outcome
	wait     time.Duration
	timer    *time.Timer // to the next try; nil: there are none
}

// add adds an outcome, unless there are too many.
func (a *aside) add(o broker.Outcome) bool {
	if len(a.outcomes) >= mostAside {
		return false
	}
	a.outcomes = append(a.outcomes, o)
	a.wait = shortestAside
	a.again()
	return true
}

// again sets the timer to the next try, if there is to be one.
func (a *aside) again() {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
	if len(a.outcomes) > 0 {
		a.timer = time.NewTimer(a.wait)
		a.wait = min(2*a.wait, longestAside)
	}
}

// wake has a value when the outcomes are to be tried again. It is nil if there are none.
func (a *aside) wake() <-chan time.Time {
	if a.timer == nil {
		return nil
	}
	return a.timer.C
}

// finishQueue applies the outcomes of a queue, as many as there are in one request,
// until the last one is applied, or ctx ends: then the runs start elsewhere, whatever
// became of them here.
func (s *session) finishQueue(ctx context.Context, q *outgoing) {
	var a aside
	for {
		batch, more := q.get(a.wake())
		for rest := batch; len(rest) > 0; {
			n := portion(rest)
			s.apply(ctx, q, &a, rest[:n:n])
			rest = rest[n:]
		}
		clear(batch)
		if len(batch) == 0 && len(a.outcomes) > 0 {
			s.applyAside(ctx, q, &a, !more)
		}
		if !more {
			return
		}
	}
}

// apply retries until the broker has answered or ctx ends, also when the lease
// is lost: an outcome that no longer counts is fenced. While it fails the session takes
// no runs of the queue. What is to blame alone it sets aside.
func (s *session) apply(ctx context.Context, q *outgoing, a *aside, batch []broker.Outcome) {
	err := s.record(ctx, batch, false)
	if err == nil {
		return
	}
	p := &parts{list: [][]broker.Outcome{batch}}
	for wait := newBackoff(20*time.Millisecond, time.Second); ; wait.sleep(ctx) {
		worked := p.try(func(part []broker.Outcome) error {
			if p.tries == 1 {
				return err
			}
			return s.record(ctx, part, true)
		})
		if ctx.Err() == nil {
			p.setAside(func(o broker.Outcome) bool {
				if !a.add(o) {
					return false
				}
				s.logger.Error("cannot record the outcome of the run, going on with those of others and trying again now and then",
					"queue", q.queue, "task", o.Run.Task, "run", o.Run.ID, "error", p.err)
				return true
			})
		}
		if len(p.list) == 0 {
			if q.fails(false) {
				s.askAgain()
			}
			return
		}
		n := p.outcomes()
		if ctx.Err() != nil {
			s.giveUp(n, p.err)
			s.logger.Error("cannot record the outcome of runs, they may run again", "queue", q.queue, "runs", n, "error", p.err)
			return
		}
		q.fails(true)
		s.logger.Warn("cannot record the outcome of runs, trying again", "queue", q.queue, "runs", n, "error", p.err)
		if worked {
			wait.reset()
		}
	}
}

// record applies outcomes once. Each try has a time of its own, so that one that hangs does
// not use up the next one's.
func (s *session) record(ctx context.Context, batch []broker.Outcome, again bool) error {
	try, cancel := context.WithTimeout(ctx, finishTimeout)
	defer cancel()
	done, err := s.lease.Finish(try, batch...)
	s.reportSkipped(done.Skipped...)
	if len(batch) == 1 && len(batch[0].Next) > 0 && errors.Is(err, broker.ErrBatchTooLarge) {
		batch[0] = s.dead(batch[0].Run, broker.Failure{Kind: Failed, Message: fmt.Sprintf(
			"the runs that are to follow cannot be stored: %v; return less, or keep it elsewhere and return where, then queue the run before them again (dead retry)", err)})
		return s.record(ctx, batch, again)
	}
	if err != nil {
		return err
	}
	s.logFenced(done.Fenced, again)
	return nil
}

// applyAside tries again what is set aside, each outcome alone; at the end for the last
// time.
func (s *session) applyAside(ctx context.Context, q *outgoing, a *aside, last bool) {
	var failed error
	a.outcomes = slices.DeleteFunc(a.outcomes, func(o broker.Outcome) bool {
		err := s.record(ctx, []broker.Outcome{o}, true)
		failed = errors.Join(failed, err)
		return err == nil
	})
	n := len(a.outcomes)
	switch {
	case n == 0:
	case last || ctx.Err() != nil:
		s.giveUp(n, failed)
		s.logger.Error("cannot record the outcome of runs, they may run again", "queue", q.queue, "runs", n, "error", failed)
		a.outcomes = nil
	default:
		s.logger.Warn("cannot record the outcome of runs that were set aside, trying again later", "queue", q.queue, "runs", n, "error", failed)
	}
	a.again()
}

// parts are outcomes whose recording fails, on the way to that which is to blame.
type parts struct {
	list   [][]broker.Outcome
	failed [][]broker.Outcome // of these, those of the last tries
	tries  int
	worked bool  // some have been recorded
	err    error // of the last that failed
}

// try tries the parts, not many that fail in a row, and makes smaller ones of those, if
// not all fail or the broker refuses them. It reports whether some were recorded.
func (p *parts) try(record func([]broker.Outcome) error) (worked bool) {
	p.tries++
	p.failed = p.failed[:0]
	row := 0
	var rest [][]broker.Outcome
	for i, part := range p.list {
		if row == mostFailures {
			rest = p.list[i:]
			break
		}
		if err := record(part); err != nil {
			row++
			p.err = err
			p.failed = append(p.failed, part)
			continue
		}
		row, worked = 0, true
	}
	p.worked = p.worked || worked
	n := len(p.failed) + len(rest)
	p.list = slices.Clone(rest) // these come first the next time
	for _, part := range p.failed {
		half := len(part) / 2
		if half > 0 && (p.worked || n < mostParts && (refused(p.err) || p.tries > mostUnsplit)) {
			p.list = append(p.list, part[:half], part[half:])
			n++
		} else {
			p.list = append(p.list, part)
		}
	}
	return worked
}

// setAside removes the outcomes that failed alone although others did not, or often
// enough, where set can set them aside.
func (p *parts) setAside(set func(broker.Outcome) bool) {
	if !p.worked && (p.tries < triesAlone || !refused(p.err)) {
		return
	}
	for _, part := range p.failed {
		if len(part) == 1 && set(part[0]) {
			p.list = slices.DeleteFunc(p.list, func(other []broker.Outcome) bool { return &other[0] == &part[0] && len(other) == 1 })
		}
	}
}

func (p *parts) outcomes() (n int) {
	for _, part := range p.list {
		n += len(part)
	}
	return n
}

// refused reports whether an error is the broker's answer, and not the lack of one.
func refused(err error) bool {
	return !errors.Is(err, broker.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
}
