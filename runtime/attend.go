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
	attendEvery   = 400 * time.Millisecond // how often a session looks at what it executes
	attendTimeout = 2 * time.Second        // of one request
	// attended is how long a run has to go on before anybody can ask for its
	// end. Shorter ones cost no request.
	attended = 200 * time.Millisecond
	// overdueAfter is how long a run may go on after its context has ended before
	// that is said.
	overdueAfter = time.Second
)

// duty is a task of a consumer, with its latest run that has ended here.
type duty struct {
	task *Task

	mu   sync.Mutex
	last broker.LastRun
	news bool // the broker does not know it yet
}

// dutiesOf returns the tasks by their names and aliases.
func dutiesOf(tasks taskSet) map[string]*duty {
	byTask := make(map[*Task]*duty, len(tasks.list))
	for _, t := range tasks.list {
		byTask[t] = &duty{task: t}
	}
	duties := make(map[string]*duty, len(tasks.byName))
	for name, t := range tasks.byName {
		duties[name] = byTask[t]
	}
	return duties
}

// noteLast keeps what became of a run that has ended, for the next report.
func (x *execution) noteLast(o *broker.Outcome, took time.Duration) {
	if o.Verdict == broker.Retry {
		return
	}
	var failure FailureKind
	if o.Verdict != broker.Succeeded {
		failure = o.Failure.Kind
	}
	x.duty.note(x.stored, x.started, took, failure)
}

// note keeps how a run ended as the latest one here. Those that ended without
// having started anywhere are none.
func (d *duty) note(run *broker.TaskRun, started time.Time, took time.Duration, failure FailureKind) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.news = true
	d.last = broker.LastRun{Queue: run.Queue, Task: d.task.spec.Name, ID: run.ID, Started: started, Took: took, Failure: failure}
}

// retell has the broker told again of last runs, as it was not.
func (s *session) retell(runs []broker.LastRun) {
	for _, run := range runs {
		d := s.duties[run.Task]
		d.mu.Lock()
		d.news = true
		d.mu.Unlock()
	}
}

// news returns the last runs that the broker does not know yet.
func (s *session) news() []broker.LastRun {
	var runs []broker.LastRun
	for _, d := range s.duties {
		d.mu.Lock()
		if d.news {
			runs = append(runs, d.last)
			d.news = false // also under its aliases
		}
		d.mu.Unlock()
	}
	return runs
}

// attendLoop tells the broker how runs get on, and ends those whose end was
// asked for, until ctx ends. While nothing has run for long and there is no
// news it asks for nothing.
func (s *session) attendLoop(ctx context.Context) {
	heartbeater, ok := s.lease.(broker.Heartbeater)
	if !ok {
		heartbeater = noHeartbeat{}
	}
	ticker := time.NewTicker(attendEvery)
	defer ticker.Stop()
	for failing := false; ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		err := s.attend(ctx, heartbeater)
		if err != nil && ctx.Err() == nil && !failing {
			s.logger.Warn("cannot tell the broker of progress, nor hear which runs are cancelled, trying again", "error", err)
		}
		failing = err != nil
	}
}

func (s *session) attend(ctx context.Context, heartbeater broker.Heartbeater) error {
	now := time.Now()
	executions := append(s.lanes[IO].executions(s), s.lanes[CPU].executions(s)...)
	var report broker.Report
	long := false
	for _, x := range executions {
		s.warnOverdue(x, now)
		long = long || now.Sub(x.started) >= attended
		if p := x.untold(); p != nil {
			report.Progress = append(report.Progress, broker.ProgressOf{Run: x.stored, Progress: *p})
			x.told.Store(p)
		}
	}
	report.Last = s.news()
	if !long && len(report.Last) == 0 && len(report.Progress) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, attendTimeout)
	defer cancel()
	cancelled, err := heartbeater.Heartbeat(ctx, report)
	if err != nil {
		for _, x := range executions {
			x.told.Store(nil) // to be told again
		}
		s.retell(report.Last)
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

// untold returns what a run said of its progress that the broker does not know;
// nil if there is nothing.
func (x *execution) untold() *broker.Progress {
	p := x.progress.Load()
	if p == nil || x.stored.Keep == 0 || p == x.told.Load() {
		return nil
	}
	return p
}

// tellProgress tells the broker the last of a run's progress before its end: the
// loop does not come to it any more.
func (x *execution) tellProgress() {
	p := x.untold()
	heartbeater, ok := x.session.lease.(broker.Heartbeater)
	if p == nil || !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.base), attendTimeout)
	defer cancel()
	report := broker.Report{Progress: []broker.ProgressOf{{Run: x.stored, Progress: *p}}}
	if _, err := heartbeater.Heartbeat(ctx, report); err != nil {
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

// tellLast tells the broker what it does not know yet of what has ended.
func (s *session) tellLast(ctx context.Context) {
	heartbeater, ok := s.lease.(broker.Heartbeater)
	if !ok {
		return
	}
	if runs := s.news(); len(runs) > 0 {
		if _, err := heartbeater.Heartbeat(ctx, broker.Report{Last: runs}); err != nil && !errors.Is(err, broker.ErrLeaseLost) {
			s.logger.Debug("cannot tell the broker of the last runs", "error", err)
		}
	}
}

// noHeartbeat is for brokers whose sessions hear nothing while runs go on.
type noHeartbeat struct{}

func (noHeartbeat) Heartbeat(context.Context, broker.Report) ([]*broker.TaskRun, error) {
	return nil, nil
}
