package worker

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/poison"
)

// drain ends a session whose lease was lost, once the broker answers again. It still has
// outcomes recorded: the broker decides whether they count, and after an outage of its
// own nobody else can have taken the runs. For the runs that the session took, it reports
// that their consumer has not died.
func (s *session) drain(ctx context.Context) {
	select {
	case <-s.reconnected:
	case <-ctx.Done():
	}
	patience, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	if !s.waitIdle(patience) {
		s.unfinished.Add(1) // at least one, unless it ends at this moment
	}
	s.outcomes.close()
	stop := context.AfterFunc(patience, s.abandon)
	<-s.finished
	stop()
	s.abandon()
	s.reportAlive(context.WithoutCancel(ctx), stopTimeout/4, s.returnedRuns()...)
	closing, cancelClose := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout/4)
	defer cancelClose()
	_ = s.close(closing) // runs that it cannot give back start elsewhere, as expected
}

// waitIdle blocks until no run of the session executes. Every now and then it reports
// that the consumer lives, because the runs may be recovered at any time. It returns
// false when ctx ends first.
func (s *session) waitIdle(ctx context.Context) bool {
	ticker := time.NewTicker(max(s.cfg.Lease/2, time.Second))
	defer ticker.Stop()
	for idle := s.idle(); ; {
		select {
		case <-idle:
			return true
		case <-ticker.C:
			s.reportAlive(ctx, finishTimeout)
		case <-ctx.Done():
			return false
		}
	}
}

// noteReturned notes that a run goes back because the lease was lost, and not by a death.
func (s *session) noteReturned(run *broker.TaskRun) {
	s.returnedMu.Lock()
	defer s.returnedMu.Unlock()
	if s.returned == nil {
		s.returned = map[*broker.TaskRun]bool{}
	}
	s.returned[run] = true
}

// noteRecovered notes that runs were recovered by others, so they did not go back.
func (s *session) noteRecovered(runs []*broker.TaskRun) {
	s.returnedMu.Lock()
	defer s.returnedMu.Unlock()
	for _, run := range runs {
		delete(s.returned, run)
	}
}

func (s *session) returnedRuns() []*broker.TaskRun {
	s.returnedMu.Lock()
	defer s.returnedMu.Unlock()
	return slices.Collect(maps.Keys(s.returned))
}

// reportAlive reports to the broker that the session's consumer lives although its lease
// ended. It blocks at most for the given time.
func (s *session) reportAlive(ctx context.Context, within time.Duration, returned ...*broker.TaskRun) {
	survivor, ok := s.membership.(poison.Survivor)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := survivor.Survived(ctx, returned...); err != nil {
		s.logger.Debug("cannot report to the broker that the consumer whose lease was lost lives", "session", s.membership.ID(), "error", err)
	}
}
