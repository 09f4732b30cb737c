package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

const (
	heartbeatEvery   = 400 * time.Millisecond
	heartbeatTimeout = 2 * time.Second // of one request
	// longRun is how long a run has to go on before it can be cancelled. Shorter runs
	// cost no request.
	longRun = 200 * time.Millisecond
	// overdueAfter is how long a run may go on after its deadline before that is
	// logged.
	overdueAfter = time.Second
)

// taskState is a task of a worker, with the latest of its runs that has ended here.
type taskState struct {
	name string
	kind broker.Kind

	mu     sync.Mutex
	last   broker.LastRun
	unsent bool // the broker does not have last yet
	counts tallyCounts
}

// setLast sets how the latest run ended. Runs that ended without having started are not
// set.
func (ts *taskState) setLast(run *broker.TaskRun, started time.Time, took time.Duration, failure broker.FailureKind) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.setLastLocked(run, started, took, failure)
}

// setLastLocked is setLast while the lock is held.
func (ts *taskState) setLastLocked(run *broker.TaskRun, started time.Time, took time.Duration, failure broker.FailureKind) {
	ts.unsent = true
	ts.last = broker.LastRun{Queue: run.Queue, Task: ts.name, ID: run.ID, Started: started, Took: took, Failure: failure}
}

// noteLast sets the run as its task's latest if it has ended, and counts the attempt.
func (a *Attempt) noteLast(o *broker.Outcome, took time.Duration) {
	counts := a.session.tallies != nil && (o.Verdict != broker.Retry || o.Failure != nil)
	if o.Verdict == broker.Retry && !counts {
		return
	}
	var failure broker.FailureKind
	if o.Failure != nil {
		failure = o.Failure.Kind
	}
	ts := a.task
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if o.Verdict != broker.Retry {
		ts.setLastLocked(a.run, a.started, took, failure)
	}
	if counts {
		t := ts.counts.at(a.run.Queue, a.started.Add(took))
		t.count(o.Verdict)
		t.Waits.Observe(a.Waited())
		t.Times.Observe(took)
	}
}

// takeUnsent returns the latest runs that the broker does not have, and counts them as
// sent.
func (w *Worker) takeUnsent() []broker.LastRun {
	var runs []broker.LastRun
	for _, ts := range w.tasks {
		ts.mu.Lock()
		if ts.unsent {
			runs = append(runs, ts.last)
			ts.unsent = false
		}
		ts.mu.Unlock()
	}
	return runs
}

// markUnsent undoes takeUnsent.
func (w *Worker) markUnsent(runs []broker.LastRun) {
	for _, run := range runs {
		ts := w.byName[run.Task]
		ts.mu.Lock()
		ts.unsent = true
		ts.mu.Unlock()
	}
}

// heartbeatLoop reports progress to the broker and cancels runs, until ctx ends. If no
// run has gone on for longRun and there is nothing to report, it sends nothing.
func (s *session) heartbeatLoop(ctx context.Context) {
	heartbeater, ok := s.membership.(broker.Heartbeater)
	if !ok {
		heartbeater = noHeartbeat{}
	}
	ticker := time.NewTicker(heartbeatEvery)
	defer ticker.Stop()
	for failing := false; ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		err := s.heartbeat(ctx, heartbeater)
		if err != nil && ctx.Err() == nil && !failing {
			s.logger.Warn("cannot send a heartbeat to the broker: progress is not stored, and runs are not cancelled, trying again", "error", err)
		}
		failing = err != nil
	}
}

func (s *session) heartbeat(ctx context.Context, heartbeater broker.Heartbeater) error {
	now := time.Now()
	attempts := append(s.slots[broker.IO].attempts(s), s.slots[broker.CPU].attempts(s)...)
	var report broker.Report
	long := false
	for _, a := range attempts {
		s.warnOverdue(a, now)
		long = long || now.Sub(a.started) >= longRun
		if p := a.unsentProgress(); p != nil {
			report.Progress = append(report.Progress, broker.ProgressReport{Run: a.run, Progress: *p})
			a.sentProgress.Store(p)
		}
	}
	report.Last = s.takeUnsent()
	if !long && len(report.Last) == 0 && len(report.Progress) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, heartbeatTimeout)
	defer cancel()
	cancelled, err := heartbeater.Heartbeat(ctx, report)
	s.count.operations[opHeartbeat].observe(now, err)
	if err != nil {
		for _, a := range attempts {
			a.sentProgress.Store(nil) // to be sent again
		}
		s.markUnsent(report.Last)
	}
	for _, run := range cancelled {
		for _, a := range attempts {
			if a.run.ID == run.ID && a.run.Queue == run.Queue {
				a.execution.Cancel()
			}
		}
	}
	return err
}

// unsentProgress returns the run's progress, nil if the broker has it or there is none.
func (a *Attempt) unsentProgress() *broker.Progress {
	p := a.execution.Progress()
	if p == nil || a.run.Keep == 0 || p == a.sentProgress.Load() {
		return nil
	}
	return p
}

// sendProgress sends the run's last progress: at the next heartbeat the run will have ended.
func (a *Attempt) sendProgress() {
	p := a.unsentProgress()
	heartbeater, ok := a.session.membership.(broker.Heartbeater)
	if p == nil || !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.session.base), heartbeatTimeout)
	defer cancel()
	report := broker.Report{Progress: []broker.ProgressReport{{Run: a.run, Progress: *p}}}
	if _, err := heartbeater.Heartbeat(ctx, report); err != nil {
		a.session.logger.Debug("cannot send a run's last progress to the broker", "run", a.run.ID, "error", err)
	}
}

// warnOverdue logs once that a run goes on after its deadline.
func (s *session) warnOverdue(a *Attempt, now time.Time) {
	deadline, _ := a.execution.Deadline()
	if late := now.Sub(deadline); late > overdueAfter && !a.overdue {
		a.overdue = true
		s.logger.Warn("run is overdue: it goes on after its timeout and keeps its slot", "task", a.run.Task, "run", a.run.ID, "late", late.Round(time.Millisecond))
	}
}

// sendLastRuns sends the latest runs that the broker does not have.
func (s *session) sendLastRuns(ctx context.Context) {
	heartbeater, ok := s.membership.(broker.Heartbeater)
	if !ok {
		return
	}
	if runs := s.takeUnsent(); len(runs) > 0 {
		if _, err := heartbeater.Heartbeat(ctx, broker.Report{Last: runs}); err != nil && !errors.Is(err, broker.ErrLeaseLost) {
			s.logger.Debug("cannot send the last runs to the broker", "error", err)
		}
	}
}

// noHeartbeat is for brokers whose sessions have no heartbeat.
type noHeartbeat struct{}

func (noHeartbeat) Heartbeat(context.Context, broker.Report) ([]*broker.TaskRun, error) {
	return nil, nil
}
