package memory

import (
	"context"
	"fmt"
	"slices"

	"github.com/taskgen/taskgen/broker"
)

// shelf is the runs of a disabled task, as they were in the ready lists of its queue.
type shelf [2][priorities]readyList

// Pause sets whether the delivery of the queue's runs is stopped, also by GetTaskRuns.
func (b *Broker) Pause(ctx context.Context, queue string, paused bool) error {
	if err := checkNames(queue, "task"); err != nil {
		return fmt.Errorf("pause queue %.64q: %w", queue, err)
	}
	if err := b.enter(ctx); err != nil {
		return fmt.Errorf("pause queue %s: %w", queue, err)
	}
	defer b.mu.Unlock()
	q := b.queue(queue)
	q.paused = paused
	if !paused {
		q.fresh = q.ready
		b.wake(q, b.now())
	}
	return nil
}

// Disable sets whether the delivery of the task's runs, also by GetTaskRuns, and the
// claiming of its ticks are stopped.
func (b *Broker) Disable(ctx context.Context, queue, task string, disabled bool) error {
	if err := checkNames(queue, task); err != nil {
		return fmt.Errorf("disable task %.64q of queue %.64q: %w", task, queue, err)
	}
	if err := b.enter(ctx); err != nil {
		return fmt.Errorf("disable task %s of queue %s: %w", task, queue, err)
	}
	defer b.mu.Unlock()
	q := b.queue(queue)
	switch {
	case disabled && q.disabled[task] == nil:
		if q.disabled == nil {
			q.disabled = make(map[string]*shelf)
		}
		q.disabled[task] = newShelf()
	case !disabled && q.disabled[task] != nil:
		q.unshelve(task)
		b.wake(q, b.now())
	}
	return nil
}

func newShelf() *shelf {
	s := &shelf{}
	for k := range s {
		for p := range s[k] {
			s[k][p].waiting = true
		}
	}
	return s
}

// shelve moves a run that is next in its ready list to the shelf of its task, if that
// is disabled.
func (q *queue) shelve(e *storedRun, now clock) bool {
	s := q.disabled[e.run.Task]
	if s == nil {
		return false
	}
	q.removeReady(e)
	s[lower(e.run.Kind)][level(e.run.Priority)].add(e)
	q.waiting++
	q.eachLimit(e, func(l *limit) { q.tend(l, now) })
	return true
}

// unshelve puts the runs of a disabled task back where they were.
func (q *queue) unshelve(task string) {
	var back []*storedRun
	s := q.disabled[task]
	for k := range s {
		for p := range s[k] {
			s[k][p].each(func(e *storedRun) bool {
				back = append(back, e)
				return true
			})
		}
	}
	delete(q.disabled, task)
	slices.SortFunc(back, func(a, b *storedRun) int { return int(b.order - a.order) })
	for _, e := range back {
		e.in.readyList.remove(e)
		q.waiting--
		k, l := q.readyListOf(e)
		l.addAhead(e)
		q.ready[k]++
		q.fresh[k]++
	}
}

// Cancel ends a run, as [broker.Controls] says. If the run was cancelled before and is
// still held, the first failure stays.
func (b *Broker) Cancel(ctx context.Context, queue, id string, failure broker.Failure) error {
	if err := b.enter(ctx); err != nil {
		return fmt.Errorf("cancel run %.64q of queue %.64q: %w", id, queue, err)
	}
	defer b.mu.Unlock()
	q := b.queues[queue]
	if q == nil {
		return broker.ErrNoRecord // the caller knows what it asked for
	}
	e := q.find(id)
	if e == nil {
		return broker.ErrNoRecord // the caller knows what it asked for
	}
	now := b.now()
	b.cancel(q, e, failure, now)
	b.wake(q, now)
	return nil
}

// cancel ends a run that waits, and has the session learn of it that holds the run.
func (b *Broker) cancel(q *queue, e *storedRun, failure broker.Failure, now clock) {
	switch e.state() {
	case broker.StateRunning:
		if e.cancelled() == nil {
			e.getRare().cancel = &failure
			f := q.deliveryOf(e)
			f.s.asked = append(f.s.asked, f)
		}
		return
	case broker.StateDelayed:
		if e.at > 0 {
			q.delayed.remove(e)
		} else {
			delete(q.gathering, e)
		}
	default:
		q.removeWaiting(e, now)
	}
	b.conclude(q, e, &broker.Outcome{Run: &e.run, Verdict: broker.Dropped, Failure: &failure}, now)
}

// removeWaiting removes a run that is due from its ready list, backlog or shelf.
func (q *queue) removeWaiting(e *storedRun, now clock) {
	l := e.in.readyList
	if !l.waiting {
		q.removeReady(e)
		q.eachLimit(e, func(l *limit) { q.tend(l, now) })
		return
	}
	l.remove(e)
	if l.backlog == nil {
		q.waiting--
		return
	}
	by := l.backlog.limit
	q.leftBacklog(l.backlog)
	q.tend(by, now)
}

// find returns the live run with the id, nil if there is none. Runs without OwnID and
// Keep are in no index, so that they cost nothing; find searches them.
func (q *queue) find(id string) *storedRun {
	found := q.live[id]
	look := func(e *storedRun) bool {
		if e.run.ID == id {
			found = e
		}
		return found == nil
	}
	if found == nil {
		q.eachWaiting(look)
	}
	for _, h := range []dueHeap{q.delayed.mono, q.delayed.wall} {
		for i := 0; found == nil && i < len(h); i++ {
			look(h[i])
		}
	}
	for e := range q.gathering {
		if found == nil {
			look(e)
		}
	}
	for _, h := range q.holds {
		for f := h.head; found == nil && f != nil; f = f.next {
			look(f.e)
		}
	}
	return found
}

// eachWaiting calls fn for the runs that are due, ready list by ready list, until it
// returns false.
func (q *queue) eachWaiting(fn func(e *storedRun) bool) {
	for p := range priorities {
		q.eachReadyList(p, func(l *readyList) bool { return l.each(fn) })
	}
}

// eachReadyList calls fn for the lists of runs of a priority that are due, ready or waiting,
// until it returns false.
func (q *queue) eachReadyList(p int, fn func(l *readyList) bool) {
	for k := range q.readyLists {
		if !fn(&q.readyLists[k][p]) {
			return
		}
	}
	for _, bl := range q.backlogs {
		if !fn(&bl.readyLists[p]) {
			return
		}
	}
	for _, s := range q.disabled {
		for k := range s {
			if !fn(&s[k][p]) {
				return
			}
		}
	}
}

// each calls fn for the runs of a ready list, value by value, until fn returns false. It
// reports whether fn never did.
func (l *readyList) each(fn func(e *storedRun) bool) bool {
	for s := l.first; s != nil; s = s.next {
		for e := s.head; e != nil; e = e.next {
			if !fn(e) {
				return false
			}
		}
	}
	return true
}

// deliveryOf returns the delivery of a run that a session holds.
func (q *queue) deliveryOf(e *storedRun) *delivery {
	for _, h := range q.holds {
		for f := h.head; f != nil; f = f.next {
			if f.e == e {
				return f
			}
		}
	}
	return nil
}

// Heartbeat stores the report and returns the cancelled runs, as [broker.Heartbeater]
// says. It ignores progress of a run that the session holds no longer, or that has no
// record. After Close it returns an error that wraps [broker.ErrLeaseLost].
func (s *Session) Heartbeat(ctx context.Context, report broker.Report) ([]*broker.TaskRun, error) {
	for i := range report.Last {
		if err := checkNames(report.Last[i].Queue, report.Last[i].Task); err != nil {
			return nil, fmt.Errorf("store last run %.64q: %w", report.Last[i].ID, err)
		}
	}
	cancelled, err := s.heartbeat(ctx, report)
	if err != nil {
		return nil, fmt.Errorf("send heartbeat: %w", err)
	}
	return copyOut(cancelled), nil
}

func (s *Session) heartbeat(ctx context.Context, report broker.Report) ([]broker.TaskRun, error) {
	if err := s.b.enter(ctx); err != nil {
		return nil, err
	}
	defer s.b.mu.Unlock()
	if s.left {
		return nil, s.errLeft()
	}
	for i := range report.Progress {
		p := &report.Progress[i]
		if f := s.holds(p.Run); f != nil && f.e.run.Keep > 0 {
			f.e.getRare().progress = cloneProgress(&p.Progress)
		}
	}
	for _, l := range report.Last {
		q := s.b.queue(l.Queue)
		if known, ok := q.last[l.Task]; ok && !l.Started.After(known.Started) {
			continue
		}
		if q.last == nil {
			q.last = make(map[string]broker.LastRun)
		}
		l.Started = l.Started.Round(0).UTC()
		q.last[l.Task] = l
	}
	s.asked = slices.DeleteFunc(s.asked, func(f *delivery) bool { return f.e == nil })
	cancelled := make([]broker.TaskRun, len(s.asked))
	for i, f := range s.asked {
		cancelled[i] = f.e.run
		cancelled[i].Receipt = f
	}
	return cancelled, nil
}
