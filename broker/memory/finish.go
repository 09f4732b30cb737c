package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/taskgen/taskgen/broker"
)

// Finish applies each outcome once and returns the runs the session holds no longer. If
// an outcome cannot be stored it returns an error that names it, and applies none.
func (s *Session) Finish(ctx context.Context, outcomes ...broker.Outcome) (broker.Finished, error) {
	for i := range outcomes {
		if err := checkOutcome(&outcomes[i]); err != nil {
			return broker.Finished{}, fmt.Errorf("finish run %d of %d: %w", i+1, len(outcomes), err)
		}
	}
	if err := s.b.enter(ctx); err != nil {
		return broker.Finished{}, fmt.Errorf("finish runs: %w", err)
	}
	defer s.b.mu.Unlock()
	for i := range outcomes {
		if f := s.holds(outcomes[i].Run); f != nil && !sameRun(&f.e.run, outcomes[i].Run) {
			return broker.Finished{}, fmt.Errorf("finish run %s of queue %s: it is now run %.64q of queue %.64q",
				f.e.run.ID, f.e.run.Queue, outcomes[i].Run.ID, outcomes[i].Run.Queue)
		}
	}
	var done broker.Finished
	now := s.b.now()
	s.b.expire(now, len(outcomes))
	for i := range outcomes {
		o := &outcomes[i]
		if f := s.holds(o.Run); f != nil {
			s.b.apply(f, o, now)
			continue
		}
		if f, ok := o.Run.Receipt.(*delivery); ok && f.s == s && f.lost {
			f.lost = false
			s.lost--
		}
		done.Fenced = append(done.Fenced, o.Run)
	}
	done.Skipped, s.b.skipped = s.b.skipped, nil
	return done, nil
}

// holds returns the delivery the run's receipt stands for if the session still
// holds it.
func (s *Session) holds(r *broker.TaskRun) *delivery {
	if f, ok := r.Receipt.(*delivery); ok && f.s == s && f.e != nil {
		return f
	}
	return nil
}

func sameRun(a, b *broker.TaskRun) bool { return a.ID == b.ID && a.Queue == b.Queue }

func checkOutcome(o *broker.Outcome) error {
	switch {
	case o.Run == nil:
		return errors.New("the outcome has no run")
	case o.Verdict < broker.Succeeded || o.Verdict > broker.Retry:
		return fmt.Errorf("run %.64q has the unknown verdict %d", o.Run.ID, o.Verdict)
	case o.Verdict == broker.Retry && o.Delay < 0:
		return fmt.Errorf("run %.64q has a negative delay", o.Run.ID)
	case o.Verdict == broker.Retry:
		if err := o.Run.Validate(); err != nil {
			return fmt.Errorf("run %.64q: %w", o.Run.ID, err)
		}
	case o.Verdict == broker.Succeeded:
		if err := checkNext(o.Run, o.Next); err != nil {
			return fmt.Errorf("run %.64q: %w", o.Run.ID, err)
		}
	}
	return nil
}

func checkNext(of *broker.TaskRun, next []*broker.TaskRun) error {
	for i, r := range next {
		if r == nil {
			return fmt.Errorf("next run %d of %d is nil", i+1, len(next))
		}
		if err := r.Validate(); err != nil {
			return fmt.Errorf("next run %.64q: %w", r.ID, err)
		}
	}
	if err := broker.CheckBatch(next); err != nil {
		return fmt.Errorf("next runs: %w", err)
	}
	if _, err := of.TakesPlace(next); err != nil {
		return fmt.Errorf("next runs: %w", err)
	}
	return nil
}

// apply applies an outcome to the run of a delivery.
func (b *Broker) apply(f *delivery, o *broker.Outcome, now clock) {
	q := b.queues[f.e.run.Queue]
	s, h := f.s, f.h
	e := f.remove()
	if o.Verdict == broker.Retry {
		f.was = e
	}
	if h.head == nil {
		delete(q.holds, s)
	}
	if len(e.limits()) > 0 {
		q.countEnd(e, now)
		b.wake(q, now)
	}
	switch {
	case o.Verdict == broker.Retry && e.cancelled() != nil:
		b.conclude(q, e, &broker.Outcome{Run: o.Run, Verdict: broker.Dropped, Failure: e.cancelled()}, now)
	case o.Verdict == broker.Retry:
		b.retry(q, e, o, now)
	default:
		b.conclude(q, e, o, now)
	}
}

// conclude ends a run that no session holds and that waits nowhere.
func (b *Broker) conclude(q *queue, e *storedRun, o *broker.Outcome, now clock) {
	if o.Verdict == broker.Dead {
		l := deadLetter{DeadLetter: b.letter(o)}
		if e.rare != nil && e.rare.awaits != nil {
			l.group, e.rare.awaits = e.rare.awaits, nil
			b.lay(l.group, now)
		}
		q.dead.add(l, b.maxDead)
	}
	var g *group
	member := 0
	if e.rare != nil {
		g, member = e.rare.group, e.rare.member
	}
	var rec, final *broker.Record
	if o.Run.Keep > 0 || g != nil {
		rec = e.endedRecord(o, now)
	}
	if o.Run.Keep > 0 {
		final = rec
		b.keep(q, rec, now.after(o.Run.Keep))
	}
	q.forget(e, final)
	passed := false
	if o.Verdict == broker.Succeeded {
		passed, _ = o.Run.TakesPlace(o.Next)
	}
	if g != nil && !passed {
		b.endMember(g, member, rec, now)
	}
	if o.Verdict == broker.Succeeded && len(o.Next) > 0 {
		b.queueEach(copyIn(o.Next), now)
	}
}

// skip notes that a run was not queued, because its claim returned this error. It returns a
// record of that.
func (b *Broker) skip(q *queue, e *storedRun, err error, now clock) *broker.Record {
	by := inTheWay(e.run.ID, err)
	rec := e.record(broker.StateFailed)
	rec.Failure, rec.EndedAt = &broker.Failure{Kind: broker.FailureDuplicate, Message: by}, fromWall(now.wall)
	if live := q.live[e.run.ID]; e.run.Keep > 0 && (live == nil || live.run.Keep == 0) {
		b.keep(q, rec, now.after(e.run.Keep))
	}
	run := e.run
	run.Payload, run.Links = nil, nil // they share memory with other runs of the chunk
	b.skipped = append(b.skipped, broker.SkippedDuplicate{Run: &run, LiveID: by})
	return rec
}

// retry stores the run as it is now.
func (b *Broker) retry(q *queue, e *storedRun, o *broker.Outcome, now clock) {
	was := indexed(&e.run)
	e.run = *o.Run
	detach(&e.run, make([]byte, 0, len(o.Run.Payload)))
	e.failure = cloneFailure(o.Failure)
	switch is := indexed(&e.run); {
	case was && !is && q.live[e.run.ID] == e:
		delete(q.live, e.run.ID)
	case is && !was && q.live[e.run.ID] == nil:
		q.live[e.run.ID] = e
	}
	e.setDue(now.after(o.Delay))
	if o.Delay > 0 {
		b.delay(q, e)
	} else {
		q.pushFront(e)
	}
	b.wake(q, now)
}

func (b *Broker) letter(o *broker.Outcome) *broker.DeadLetter {
	l := &broker.DeadLetter{ID: o.Run.ID, Run: cloneRun(o.Run), At: b.time().UTC()}
	if o.Failure != nil {
		l.Failure = *o.Failure
	}
	return l
}

func cloneFailure(f *broker.Failure) *broker.Failure {
	if f == nil {
		return nil
	}
	c := *f
	return &c
}

func cloneRecord(r *broker.Record) *broker.Record {
	c := *r
	c.Result, c.Failure, c.Progress = slices.Clone(r.Result), cloneFailure(r.Failure), cloneProgress(r.Progress)
	c.Successors, c.Attempts, c.Payload = slices.Clone(r.Successors), slices.Clone(r.Attempts), slices.Clone(r.Payload)
	return &c
}

func cloneProgress(p *broker.Progress) *broker.Progress {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}
