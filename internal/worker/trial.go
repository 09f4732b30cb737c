package worker

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/poison"
	"github.com/taskgen/taskgen/internal/text"
)

// When a process dies, each of the runs that were in flight may have killed it. All of
// them start again, and the death counts for each. A run that becomes a dead letter at one
// more death is tried alone:
//
//   - it begins when everything else has executed for a while,
//   - nothing else begins until it has ended, or executed for a while itself.
//
// If the process dies then, the run has killed it, or a run that had executed for longer.
// If there is such a run, the run on trial is cleared of that death, once, and is tried again
// later.
const (
	// ageBeside is how long other runs have to have executed before a trial begins.
	ageBeside = time.Second
	// trialTime is how long a run on trial executes until others may begin. If the
	// process dies later, the run is cleared of that death, once.
	trialTime = 2 * time.Second
	// longTrialTime is trialTime of a run that was cleared before a process died: the
	// death then counts. The worker takes no other io runs in that time. A run that has
	// executed for so long is not expected to kill its process.
	longTrialTime = 15 * time.Second
	// ageCheckEvery is how often a worker checks how long the others have executed.
	ageCheckEvery = 5 * time.Millisecond
)

// trial is the execution of one run alone.
type trial struct {
	run    broker.TaskRun // as it was at first
	after  time.Duration  // trialTime or longTrialTime
	long   bool           // the run was cleared before a process died
	over   chan struct{}  // closed when others may begin
	wanted chan struct{}  // has a value when another run waits for the end
	ended  chan struct{}  // closed when the run has ended
	clears sync.WaitGroup
	logged sync.Once // that others wait
}

// trials are the trials of a worker. There is one at a time.
type trials struct {
	current atomic.Pointer[trial]
	refused atomic.Int64 // runs that lately found another on trial
}

// openTrial starts a trial. It returns nil while there is another.
func (s *session) openTrial(run *broker.TaskRun) *trial {
	t := &trial{run: *run, after: trialTime, over: make(chan struct{}), wanted: make(chan struct{}, 1), ended: make(chan struct{})}
	if tracker, ok := s.membership.(poison.Tracker); ok {
		if _, t.long = tracker.Suspect(run); t.long {
			t.after = longTrialTime
		}
	}
	all := &s.trials
	if !all.current.CompareAndSwap(nil, t) {
		if other := all.current.Load(); other != nil {
			other.want()
			s.logTrial(other)
		}
		return nil
	}
	all.refused.Store(all.refused.Load() / 2)
	if t.long {
		s.logTrial(t)
		s.slots[broker.IO].pause()
	}
	return t
}

// closeTrial lets others begin. Only the goroutine that opened the trial may call it
// again.
func (s *session) closeTrial(t *trial) {
	if s.trials.current.Load() != t {
		return
	}
	if t.long {
		s.slots[broker.IO].resume() // before the next trial may pause it
	}
	s.trials.current.Store(nil)
	close(t.over)
}

// logTrial logs, once, that others wait for a trial.
func (s *session) logTrial(t *trial) {
	t.logged.Do(func() {
		s.logger.Info("a run that may have ended consumers is tried alone: other io runs begin here when it ended or has gone on for a while",
			"task", t.run.Task, "run", t.run.ID, "for_at_most", t.after)
	})
}

// retryAfter draws the delay of a run that found another on trial. It grows with their
// number.
func (all *trials) retryAfter() time.Duration {
	most := min(time.Second+time.Duration(all.refused.Add(1))*20*time.Millisecond, time.Minute)
	return 100*time.Millisecond + rand.N(most)
}

// want notes that a run waits for the end of the trial.
func (t *trial) want() {
	select {
	case t.wanted <- struct{}{}:
	default:
	}
}

// inWay returns the trial beside which a run of the task must not begin, nil if there is
// none.
func (s *session) inWay(task *taskState, own *trial) *trial {
	if other := s.trials.current.Load(); other != own && task.kind == broker.IO {
		return other
	}
	return nil
}

// waitTurn blocks while a run is on trial. It returns false if the waiting run has to go
// back: the trial is long, so another consumer may execute the run sooner, or no more
// runs may start.
func (s *session) waitTurn(t *trial) bool {
	s.logTrial(t)
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

// startAgain decides whether a run can begin whose earlier delivery did not end. It
// returns the trial if the run has to be tried alone. If the run cannot begin, startAgain
// puts its outcome and returns false.
func (s *session) startAgain(a *Attempt) (t *trial, ok bool) {
	if a.Crashes() >= s.cfg.MaxCrashes {
		a.spared = int16(min(s.spared(a.run), math.MaxInt16))
	}
	a.countLost()
	crashes := a.Crashes()
	if crashes > s.cfg.MaxCrashes {
		s.putUnstarted(s.crashed(a, crashes-1))
		return nil, false
	}
	if crashes > 1 && crashes == s.cfg.MaxCrashes && s.isSuspect(a) {
		if t = s.openTrial(a.run); t == nil {
			s.putUnstarted(ReturnOutcome(a.run, s.trials.retryAfter()))
			return nil, false
		}
		if !s.awaitAge(t.beside()) {
			s.closeTrial(t)
			s.putUnstarted(s.unstartedOutcome(a.run))
			return nil, false
		}
	}
	if o := s.noteBegin(a.run); o != nil {
		if t != nil {
			s.closeTrial(t)
		}
		s.putUnstarted(*o)
		return nil, false
	}
	if t != nil && !t.long && s.anyYounger(longTrialTime) {
		s.clear(t)
	}
	return t, true
}

// crashed buries a run whose deliveries did not end too often.
func (s *session) crashed(a *Attempt, times int) broker.Outcome {
	a.run.Deliveries-- // this delivery is not executed
	a.addLost()
	a.task.setLast(a.run, time.Now(), 0, broker.FailureCrashed)
	message := fmt.Sprintf("handed out %d times without coming to an end: each time its process died, or its consumer stopped renewing its lease and did not come back", times)
	if lost := a.run.Deliveries - a.run.Attempt - times; lost > 0 {
		message += fmt.Sprintf("; %s of consumers that live is not counted", text.Count(lost, "lost lease"))
	}
	return s.DeadOutcome(context.Background(), a.run, broker.Failure{Kind: broker.FailureCrashed, Message: message})
}

// isSuspect reports whether a run may have killed its consumer. A cpu run may only if it
// was recovered.
func (s *session) isSuspect(a *Attempt) bool {
	if tracker, ok := s.membership.(poison.Tracker); ok {
		suspect, _ := tracker.Suspect(a.run)
		return suspect
	}
	return a.task.kind == broker.IO
}

// spared returns how many deliveries of the run ended without a death. If the broker
// cannot be asked, it counts all of them: a run too many is better than one that is
// buried wrongly.
func (s *session) spared(run *broker.TaskRun) int {
	survivor, ok := s.membership.(poison.Survivor)
	if !ok {
		return 0
	}
	ctx, cancel := context.WithTimeout(s.base, finishTimeout)
	defer cancel()
	n, err := survivor.Spared(ctx, run)
	if err != nil {
		s.LogSampled(slog.LevelWarn, "cannot ask the broker which lost leases of the run were deaths", run, "error", err)
		return run.Deliveries - run.Attempt - 1
	}
	return min(n, run.Deliveries-run.Attempt-1)
}

// noteBegin notes at the broker that a run begins whose consumer died. Deaths do not
// count for runs that had not begun. If that fails, it returns the run's outcome.
func (s *session) noteBegin(run *broker.TaskRun) *broker.Outcome {
	tracker, ok := s.membership.(poison.Tracker)
	if !ok {
		return nil
	}
	return s.noteStart(run, tracker.Begin)
}

// beside returns how long others have to have executed before the trial begins.
func (t *trial) beside() time.Duration {
	if t.long { // the next death counts, whoever dies of it
		return longTrialTime
	}
	return ageBeside
}

// awaitAge blocks until each io run here has executed for d. It returns false when no
// more runs may start.
func (s *session) awaitAge(d time.Duration) bool {
	ticker := time.NewTicker(ageCheckEvery)
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

// anyYounger reports whether an io run executes here for less than d.
func (s *session) anyYounger(d time.Duration) bool {
	for _, a := range s.slots[broker.IO].attempts(nil) {
		if time.Since(a.started) < d {
			return true
		}
	}
	return false
}

// clear notes at the broker that the next death does not count for the run on trial.
func (s *session) clear(t *trial) {
	tracker, ok := s.membership.(poison.Tracker)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(s.base, finishTimeout)
	defer cancel()
	if err := tracker.Clear(ctx, &t.run); err != nil && s.base.Err() == nil {
		s.logger.Debug("cannot report to the broker that the run on trial is not to blame for a death", "run", t.run.ID, "error", err)
	}
}

// watchTrial ends a trial once the run has executed for long enough, if any run waits,
// and in any case when it has ended. The caller calls the returned function then.
func (s *session) watchTrial(t *trial) (end func()) {
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

// goesOn blocks until the run on trial has executed for long enough and another run
// waits, or until it has ended. It reports whether the run goes on. A long trial ends
// without another run that waits: they have gone back.
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
