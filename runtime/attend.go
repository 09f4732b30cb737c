package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

const (
	heartbeatEvery   = 400 * time.Millisecond // how often a session looks at what it executes
	heartbeatTimeout = 2 * time.Second        // of one request
	// longRun is how long a run has to go on before anybody can ask for its
	// end. Shorter ones cost no request.
	longRun = 200 * time.Millisecond
	// overdueAfter is how long a run may go on after its context has ended before
	// that is said.
	overdueAfter = time.Second
)

// taskState is a task of a consumer, with its latest run that has ended here.
type taskState struct {
	task *Task

	mu     sync.Mutex
	last   broker.LastRun
	unsent bool // the broker does not know it yet
}

// newTaskStates returns the tasks by their names and aliases.
func newTaskStates(tasks taskSet) map[string]*taskState {
	byTask := make(map[*Task]*taskState, len(tasks.list))
	for _, t := range tasks.list {
		byTask[t] = &taskState{task: t}
	}
	states := make(map[string]*taskState, len(tasks.byName))
	for name, t := range tasks.byName {
		states[name] = byTask[t]
	}
	return states
}

// noteLast keeps what became of a run that has ended, for the next report.
func (x *execution) noteLast(o *broker.Outcome, took time.Duration) {
	if o.Verdict == broker.Retry {
		return
	}
	failure := ""
	if o.Verdict != broker.Succeeded {
		failure = o.Failure.Kind
	}
	x.state.note(x.stored, x.started, took, failure)
}

// note keeps how a run ended as the latest one here. Those that ended without
// having started anywhere are none.
func (d *taskState) note(run *broker.TaskRun, started time.Time, took time.Duration, failure string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unsent = true
	d.last = broker.LastRun{Queue: run.Queue, Task: d.task.spec.Name, ID: run.ID, Started: started, Took: took, Failure: failure}
}

// markUnsent has the broker told again of last runs, as it was not.
func (s *session) markUnsent(runs []broker.LastRun) {
	for _, run := range runs {
		d := s.states[run.Task]
		d.mu.Lock()
		d.unsent = true
		d.mu.Unlock()
	}
}

// unsentLastRuns returns the last runs that the broker does not know yet.
func (s *session) unsentLastRuns() []broker.LastRun {
	var runs []broker.LastRun
	for _, d := range s.states {
		d.mu.Lock()
		if d.unsent {
			runs = append(runs, d.last)
			d.unsent = false // also under its aliases
		}
		d.mu.Unlock()
	}
	return runs
}

// heartbeatLoop tells the broker how runs get on, and ends those whose end was
// asked for, until ctx ends. While nothing has run for long and there is no
// news it asks for nothing.
func (s *session) heartbeatLoop(ctx context.Context) {
	attender, ok := s.lease.(broker.Attender)
	if !ok {
		attender = noHeartbeat{}
	}
	ticker := time.NewTicker(heartbeatEvery)
	defer ticker.Stop()
	for failing := false; ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		err := s.heartbeat(ctx, attender)
		if err != nil && ctx.Err() == nil && !failing {
			s.logger.Warn("cannot tell the broker of progress, nor hear which runs are cancelled, trying again", "error", err)
		}
		failing = err != nil
	}
}

func (s *session) heartbeat(ctx context.Context, attender broker.Attender) error {
	now := time.Now()
	executions := append(s.slots[IO].executions(s), s.slots[CPU].executions(s)...)
	var report broker.Report
	long := false
	for _, x := range executions {
		s.warnOverdue(x, now)
		long = long || now.Sub(x.started) >= longRun
		if p := x.unsentProgress(); p != nil {
			report.Progress = append(report.Progress, broker.ProgressOf{Run: x.stored, Progress: *p})
			x.sentProgress.Store(p)
		}
	}
	report.Last = s.unsentLastRuns()
	if !long && len(report.Last) == 0 && len(report.Progress) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, heartbeatTimeout)
	defer cancel()
	cancelled, err := attender.Attend(ctx, report)
	if err != nil {
		for _, x := range executions {
			x.sentProgress.Store(nil) // to be told again
		}
		s.markUnsent(report.Last)
	}
	for _, run := range cancelled {
		for _, x := range executions {
			if x.stored.ID == run.ID && x.stored.Queue == run.Queue {
				x.stop(fmt.Errorf("%w on request", ErrCancelled))
			}
		}
	}
	return err
}

// unsentProgress returns what a run said of its progress that the broker does not know;
// nil if there is nothing.
func (x *execution) unsentProgress() *broker.Progress {
	p := x.progress.Load()
	if p == nil || x.stored.Keep == 0 || p == x.sentProgress.Load() {
		return nil
	}
	return p
}

// sendProgress tells the broker the last of a run's progress before its end: the
// loop does not come to it any more.
func (x *execution) sendProgress() {
	p := x.unsentProgress()
	attender, ok := x.session.lease.(broker.Attender)
	if p == nil || !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.base), heartbeatTimeout)
	defer cancel()
	report := broker.Report{Progress: []broker.ProgressOf{{Run: x.stored, Progress: *p}}}
	if _, err := attender.Attend(ctx, report); err != nil {
		x.session.logger.Debug("cannot tell the broker of a run's last progress", "run", x.stored.ID, "error", err)
	}
}

// warnOverdue says once of a run that it goes on although it was to end.
func (s *session) warnOverdue(x *execution, now time.Time) {
	if late := now.Sub(x.deadline); late > overdueAfter && !x.overdue {
		x.overdue = true
		s.logger.Warn("run is overdue: it goes on after its timeout and keeps its slot", "task", x.stored.Task, "run", x.stored.ID, "late", late.Round(time.Millisecond))
	}
}

// sendLastRuns tells the broker what it does not know yet of what has ended.
func (s *session) sendLastRuns(ctx context.Context) {
	attender, ok := s.lease.(broker.Attender)
	if !ok {
		return
	}
	if runs := s.unsentLastRuns(); len(runs) > 0 {
		if _, err := attender.Attend(ctx, broker.Report{Last: runs}); err != nil && !errors.Is(err, broker.ErrLeaseLost) {
			s.logger.Debug("cannot tell the broker of the last runs", "error", err)
		}
	}
}

// noHeartbeat is for brokers whose sessions hear nothing while runs go on.
type noHeartbeat struct{}

func (noHeartbeat) Attend(context.Context, broker.Report) ([]*broker.TaskRun, error) { return nil, nil }
