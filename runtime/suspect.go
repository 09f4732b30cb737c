package runtime

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/poison"
)

// Of the runs that were in flight when a process died any may have killed it. They
// all start again, and each death counts for all of them. Before the death that
// would bury it, a run is tried alone: it begins when everything else has run for a
// while, and nothing else begins beside it until it ended or has run for a while
// itself. So what dies then dies by it, or by what has run for longer: a run is not to
// blame, once, while there is something of that kind. It is tried again then when there
// is nothing.
const (
	// settledAfter is how long a run has to go on until another is tried beside it.
	settledAfter = time.Second
	// clearedAfter is how long a run that is tried goes on until others begin beside
	// it. If the process dies after that, the run is not to blame for it, once.
	clearedAfter = 2 * time.Second
	// clearedLate is the same of a run that was cleared before a process died: it is
	// to blame for that too then. Meanwhile the consumer takes no other io runs. What has
	// gone on for so long is taken to kill no process any more.
	clearedLate = 15 * time.Second
	// settleEvery is how often the consumer looks whether the others have settled.
	settleEvery = 5 * time.Millisecond
)

// trial is the try of one run alone.
type trial struct {
	run    broker.TaskRun // as it was at first
	after  time.Duration  // how long the run has to go on
	long   bool           // it was cleared before a process died
	over   chan struct{}  // closed when others may begin
	wanted chan struct{}  // has a token when something waits for that
	ended  chan struct{}  // closed when the run has ended
	clears sync.WaitGroup
	told   sync.Once // that others wait
}

// trials are those of a consumer, one at a time.
type trials struct {
	current atomic.Pointer[trial]
	refused atomic.Int64 // runs that lately found another on trial
}

// openTrial starts a trial. It returns nil while there is another.
func (s *session) openTrial(run *broker.TaskRun) *trial {
	t := &trial{run: *run, after: clearedAfter, over: make(chan struct{}), wanted: make(chan struct{}, 1), ended: make(chan struct{})}
	if tracker, ok := s.lease.(poison.Tracker); ok {
		if _, t.long = tracker.Suspect(run); t.long {
			t.after = clearedLate
		}
	}
	ts := &s.trials
	if !ts.current.CompareAndSwap(nil, t) {
		if other := ts.current.Load(); other != nil {
			other.want()
			s.tellTrial(other)
		}
		return nil
	}
	ts.refused.Store(ts.refused.Load() / 2)
	if t.long {
		s.tellTrial(t)
		s.lanes[IO].hold()
	}
	return t
}

// closeTrial lets others begin. To repeat it is safe only for who opened the trial.
func (s *session) closeTrial(t *trial) {
	if s.trials.current.Load() != t {
		return
	}
	if t.long {
		s.lanes[IO].release() // before the next trial may hold it
	}
	s.trials.current.Store(nil)
	close(t.over)
}

// tellTrial logs once what others wait for.
func (s *session) tellTrial(t *trial) {
	t.told.Do(func() {
		s.logger.Info("a run that may have ended consumers is tried alone: other io runs begin here when it ended or has gone on for a while",
			"task", t.run.Task, "run", t.run.ID, "for_at_most", t.after)
	})
}

// retryAfter is after how long a run may try again that found another on trial:
// the later the more there are.
func (ts *trials) retryAfter() time.Duration {
	most := min(time.Second+time.Duration(ts.refused.Add(1))*20*time.Millisecond, time.Minute)
	return 100*time.Millisecond + rand.N(most)
}

func (t *trial) want() {
	select {
	case t.wanted <- struct{}{}:
	default:
	}
}

// waitTurn blocks while a run is on trial. It reports false when what waits is to go
// back instead: another consumer may have it sooner, or no more runs are to start.
func (s *session) waitTurn(t *trial) bool {
	s.tellTrial(t)
	if t.long {
		return false
	}
	t.want()
	select {
	case <-t.over:
	case <-s.starting.Done():
	}
	return s.starting.Err() == nil
}

// comeBack decides about a run that was handed out before without coming to an end.
// If the run can begin it returns true, with the trial if the run has to be tried
// alone, and how many of its deliveries it is spared; if not, it has handed over what
// becomes of the run.
func (s *session) comeBack(d *duty, run *broker.TaskRun) (t *trial, spared int, ok bool) {
	crashes := run.Deliveries - run.Attempt
	if crashes >= s.cfg.MaxCrashes {
		spared = s.spared(run)
	}
	crashes -= spared
	if crashes > s.cfg.MaxCrashes {
		s.finishUnstarted(s.crashed(d, run, crashes-1))
		return nil, 0, false
	}
	if crashes > 1 && crashes == s.cfg.MaxCrashes && s.suspect(d, run) {
		if t = s.openTrial(run); t == nil {
			s.finishUnstarted(handBack(run, s.trials.retryAfter()))
			return nil, 0, false
		}
		if !s.settle(t.beside()) {
			s.closeTrial(t)
			s.finishUnstarted(s.unstart(run))
			return nil, 0, false
		}
	}
	if o := s.tellBegin(run); o != nil {
		if t != nil {
			s.closeTrial(t)
		}
		s.finishUnstarted(*o)
		return nil, 0, false
	}
	if t != nil && !t.long && s.anyYounger(clearedLate) {
		s.clear(t)
	}
	return t, spared, true
}

// finishUnstarted hands over what becomes of a run that did not start.
func (s *session) finishUnstarted(o broker.Outcome) {
	defer s.finish(o) // also when OnEvent calls runtime.Goexit
	s.tellEnd(&o, nil, 0)
}

// crashed buries a run that was handed out too often without coming to an end.
func (s *session) crashed(d *duty, run *broker.TaskRun, times int) broker.Outcome {
	run.Deliveries-- // it is not handed out to be executed this time
	d.note(run, time.Now(), 0, Crashed)
	message := fmt.Sprintf("handed out %d times without coming to an end: each time its process died, or its consumer stopped renewing its lease and did not come back", times)
	if lost := run.Deliveries - run.Attempt - times; lost > 0 {
		message += fmt.Sprintf("; %s of consumers that live is not counted", count(lost, "lost lease"))
	}
	return s.dead(run, broker.Failure{Kind: Crashed, Message: message})
}

// suspect reports whether a run may have killed its consumer. A run in a child
// process may do so only if a recovery gave it back.
func (s *session) suspect(d *duty, run *broker.TaskRun) bool {
	if tracker, ok := s.lease.(poison.Tracker); ok {
		suspect, _ := tracker.Suspect(run)
		return suspect
	}
	return d.task.spec.Kind == IO
}

// spared returns how many deliveries of the run were no deaths. If the broker cannot
// be asked, none of them was one: better once too often than buried.
func (s *session) spared(run *broker.TaskRun) int {
	survivor, ok := s.lease.(poison.Survivor)
	if !ok {
		return 0
	}
	ctx, cancel := context.WithTimeout(s.base, finishTimeout)
	defer cancel()
	n, err := survivor.Spared(ctx, run)
	if err != nil {
		s.notices.say(slog.LevelWarn, "cannot ask the broker which lost leases of the run were deaths", run, "error", err)
		return run.Deliveries - run.Attempt - 1
	}
	return min(n, run.Deliveries-run.Attempt-1)
}

// tellBegin tells the broker that a run begins which came back from a consumer
// that died, if it wants to know: those that it did not hear of were only near.
// It returns what becomes of the run if it cannot begin.
func (s *session) tellBegin(run *broker.TaskRun) *broker.Outcome {
	tracker, ok := s.lease.(poison.Tracker)
	if !ok {
		return nil
	}
	return s.mayStart(run, tracker.Begin)
}

// beside is how long the runs have gone on that a trial may begin beside.
func (t *trial) beside() time.Duration {
	if t.long { // the next death is its own
		return clearedLate
	}
	return settledAfter
}

// settle waits until each run that executes here has gone on for so long. It reports
// false when no more runs are to start.
func (s *session) settle(d time.Duration) bool {
	ticker := time.NewTicker(settleEvery)
	defer ticker.Stop()
	for s.starting.Err() == nil {
		if !s.anyYounger(d) {
			return true
		}
		select {
		case <-ticker.C:
		case <-s.starting.Done():
		}
	}
	return false
}

// anyYounger reports whether an io run executes here that has not gone on for so long.
func (s *session) anyYounger(d time.Duration) bool {
	for _, x := range s.lanes[IO].executions(nil) {
		if time.Since(x.started) < d {
			return true
		}
	}
	return false
}

// clear tells the broker that the run on trial is not to blame for the next death.
func (s *session) clear(t *trial) {
	tracker, ok := s.lease.(poison.Tracker)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(s.base, finishTimeout)
	defer cancel()
	if err := tracker.Clear(ctx, &t.run); err != nil && s.base.Err() == nil {
		s.logger.Debug("cannot tell the broker that a run which is tried is not to blame for a death", "run", t.run.ID, "error", err)
	}
}

// try lets others begin beside a run on trial once it has gone on for long enough,
// if any wait, and in any case when it has ended. The caller calls the returned
// function then.
func (s *session) try(t *trial) (end func()) {
	t.clears.Go(func() {
		defer s.closeTrial(t)
		if !t.goesOn() || !t.long {
			s.clear(t)
		}
	})
	return func() {
		close(t.ended)
		t.clears.Wait()
	}
}

// goesOn blocks until the run on trial has gone on for as long as it has to and
// something waits to begin, or the run has ended. It reports which. In a long trial
// nothing waits here.
func (t *trial) goesOn() bool {
	timer := time.NewTimer(t.after)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.ended:
		return false
	}
	if t.long {
		return true
	}
	select {
	case <-t.wanted:
		return true
	case <-t.ended:
		return false
	}
}
