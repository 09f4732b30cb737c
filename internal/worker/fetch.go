package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	goruntime "runtime"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/backoff"
)

const (
	// allKindsWait is how long the fetcher waits for capacity of all kinds before it asks
	// for runs of one kind alone: short runs free slots in that time, and one request
	// then serves both kinds. After a wait that brought nothing, the fetcher stops waiting
	// until all kinds have had capacity, so that long cpu runs do not delay io runs.
	allKindsWait = 20 * time.Millisecond
	// otherKindEvery is how often a worker whose tasks are all of one kind asks for a
	// run of the other: those queued before a task's kind was changed. If it gets one, it
	// asks for as many as it has slots for, until there are no more.
	otherKindEvery = 10 * time.Second
)

// Three signals wake the fetcher while it waits:
//
//   - capacityFreed ends its wait for capacity, once a pool has some.
//   - cancelFetch ends a Take without room for one of the kinds, once that kind has
//     capacity.
//   - refetch ends a Take from some queues only, once others match a pattern, or outcomes
//     no longer keep others out.
//
// The last two point to the function that cancels the Take's context: atomics hold
// pointers.

// fetchLoop takes runs while there is capacity and has them executed, until no more may
// start. Then it gives back those that have not started.
func (s *session) fetchLoop() {
	ctx := s.starting
	failed := false
	for wait := backoff.New(100*time.Millisecond, 5*time.Second); ctx.Err() == nil; {
		runs, err := s.fetch(ctx)
		if failed && err == nil {
			s.vitals.takeWorked()
			failed = false
		}
		s.dispatch(runs)
		goruntime.Gosched() // the runs first, then the request for more
		switch {
		case err == nil:
			wait.Reset()
		case ctx.Err() == nil:
			s.vitals.takeFailed()
			failed = true
			s.logger.Warn("cannot take runs from the broker, trying again", "error", err)
			wait.Sleep(ctx)
		}
	}
	for _, p := range s.slots {
		runs := p.withdraw(s)
		s.unstarted.Add(int64(len(runs)))
		s.putReturned(runs)
	}
}

// dispatch passes runs to the slots of their kinds.
func (s *session) dispatch(runs []*broker.TaskRun) {
	var queued [2][]queuedRun
	for _, run := range runs {
		if run.Kind != broker.IO && run.Kind != broker.CPU { // the broker breaks its contract
			s.putOutcome(s.DeadOutcome(context.Background(), run, broker.Failure{Kind: broker.FailureSchema, Message: fmt.Sprintf("the run is of kind %d, which there is not", run.Kind)}))
			continue
		}
		if queued[run.Kind] == nil {
			queued[run.Kind] = make([]queuedRun, 0, len(runs))
		}
		queued[run.Kind] = append(queued[run.Kind], queuedRun{run, s})
	}
	for kind, p := range s.slots {
		if len(queued[kind]) > 0 {
			p.put(queued[kind])
		}
	}
}

// fetch waits for capacity and then for runs. It returns without runs when the want has
// changed: another kind has capacity, or the queues are others.
func (s *session) fetch(ctx context.Context) ([]*broker.TaskRun, error) {
	want, ok := s.awaitCapacity(ctx)
	if !ok {
		return nil, nil
	}
	s.limitOtherKind(&want)
	want.Limits = s.cfg.Limits
	taking, stop := s.takeContext(ctx)
	defer stop()
	if s.isFull(broker.IO, want.IO, want.PrefetchIO) || s.isFull(broker.CPU, want.CPU, want.PrefetchCPU) {
		s.cancelFetch.Store(&stop)
		defer s.cancelFetch.Store(nil)
		select {
		case <-s.capacityFreed: // since awaitCapacity returned
			stop()
		default:
		}
	}
	s.setQueues(&want, &stop)
	if len(want.Queues) == 0 {
		<-taking.Done() // until a queue matches, or can be taken from again
		return nil, nil
	}
	runs, err := s.membership.Take(taking, want)
	if err != nil && taking.Err() != nil && errors.Is(err, taking.Err()) {
		err = nil // the want has changed, or the session ends
	}
	s.noteOtherKind(runs)
	return runs, err
}

// takeContext returns the context of one take. It ends when it is time to ask for a run of
// the kind that no task has.
func (s *session) takeContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.kinds[broker.IO] && s.kinds[broker.CPU] {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, otherKindEvery)
}

// isFull reports whether some of the worker's tasks of the kind cannot start: all if no
// run is wanted, the limited ones if each wanted run would be prefetched.
func (s *session) isFull(kind broker.Kind, want, prefetch int) bool {
	return (s.kinds[kind] || s.foundOtherKind) && (want == 0 || s.limited[kind] && want == prefetch)
}

// setQueues sets which queues to take from. If these change while the fetch waits, stop is
// called.
func (s *session) setQueues(want *broker.Want, stop *context.CancelFunc) {
	queues := s.queues.order()
	known := len(queues)
	want.Queues = s.outcomes.withoutBlocked(queues)
	if !s.queues.hasPatterns() && len(want.Queues) == known {
		return
	}
	s.refetch.Store(stop)
	if len(want.Queues) < known { // one may have been unblocked before refetch was set
		want.Queues = s.outcomes.withoutBlocked(s.queues.order())
	}
}

// awaitCapacity blocks until there is capacity: within allKindsWait for all kinds of the
// worker's tasks, else for some. It returns false when ctx ends first.
func (s *session) awaitCapacity(ctx context.Context) (want broker.Want, ok bool) {
	var waited <-chan time.Time
	for patient := !s.skipAllKindsWait; ; {
		if s.leaseless && !s.awaitAllStarted(ctx) {
			return want, false
		}
		want = s.demand(time.Now())
		io, cpu := want.IO > 0, want.CPU > 0
		all := (io || !s.kinds[broker.IO]) && (cpu || !s.kinds[broker.CPU])
		some := io && s.kinds[broker.IO] || cpu && s.kinds[broker.CPU]
		if some && (all || !patient) {
			s.skipAllKindsWait = !all
			return want, true
		}
		if some && waited == nil {
			timer := time.NewTimer(allKindsWait)
			defer timer.Stop()
			waited = timer.C
		}
		select {
		case <-s.capacityFreed:
		case <-waited:
			patient = false
		case <-ctx.Done():
			return want, false
		}
	}
}

// demand returns how many runs of each kind to take.
func (s *session) demand(now time.Time) (want broker.Want) {
	want.IO, want.PrefetchIO = s.slots[broker.IO].demand(now, s.limited[broker.IO], s.notifyCapacity)
	want.CPU, want.PrefetchCPU = s.slots[broker.CPU].demand(now, s.limited[broker.CPU], s.notifyCapacity)
	return want
}

// awaitAllStarted blocks until all runs that were taken have started. A broker of three
// methods loses taken runs with the process, so the session takes none while some wait.
// awaitAllStarted returns false when ctx ends first.
func (s *session) awaitAllStarted(ctx context.Context) bool {
	for s.slots[broker.IO].countUnstarted(s.notifyCapacity)+s.slots[broker.CPU].countUnstarted(s.notifyCapacity) > 0 {
		select {
		case <-s.capacityFreed:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// notifyCapacity wakes the fetcher, if it waits for capacity or for runs of one kind. It
// does not block.
func (s *session) notifyCapacity() {
	select {
	case s.capacityFreed <- struct{}{}:
	default:
	}
	if cancel := s.cancelFetch.Load(); cancel != nil {
		(*cancel)()
	}
}

// noteOtherKind notes whether a request returned runs of the kind that no task has, of tasks
// that the worker has: others are left to other consumers.
func (s *session) noteOtherKind(runs []*broker.TaskRun) {
	if s.kinds[broker.IO] && s.kinds[broker.CPU] || len(runs) == 0 {
		return
	}
	s.foundOtherKind = slices.ContainsFunc(runs, func(run *broker.TaskRun) bool {
		return (run.Kind == broker.IO || run.Kind == broker.CPU) && !s.kinds[run.Kind] && s.byName[run.Task] != nil
	})
}

// limitOtherKind asks for one run of the kind that no task has every otherKindEvery, for
// all that there is room for if the last request returned some, and else for none. It
// changes nothing if there are tasks of both kinds.
func (s *session) limitOtherKind(want *broker.Want) {
	if s.kinds[broker.IO] && s.kinds[broker.CPU] {
		return
	}
	other := 0
	if s.foundOtherKind {
		s.lastOtherKind, other = time.Now(), math.MaxInt
	} else if time.Since(s.lastOtherKind) >= otherKindEvery {
		s.lastOtherKind = time.Now()
		other = 1
	}
	if !s.kinds[broker.IO] {
		want.IO, want.PrefetchIO = min(want.IO-want.PrefetchIO, other), 0
	}
	if !s.kinds[broker.CPU] {
		want.CPU, want.PrefetchCPU = min(want.CPU-want.PrefetchCPU, other), 0
	}
}
