package runtime

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// drain ends a session whose lease was lost, once the broker answers again. Its
// outcomes are still offered to the broker, which knows best whether they count:
// after an outage of its own nobody else can have taken the runs. Of those that were
// taken it reports that the consumer did not die.
func (s *session) drain(ctx context.Context) {
	select {
	case <-s.reconnected:
	case <-ctx.Done():
	}
	patience, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	if !s.waitIdle(patience) {
		s.unfinished.Add(1) // at least, or it ends just now
	}
	s.outcomes.close()
	stop := context.AfterFunc(patience, s.abandon)
	<-s.finished
	stop()
	s.abandon()
	s.returnedMu.Lock()
	back := slices.Collect(maps.Keys(s.returned))
	s.returnedMu.Unlock()
	s.reportAlive(context.WithoutCancel(ctx), stopTimeout/4, back...)
	leaving, cancelLeave := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout/4)
	defer cancelLeave()
	_ = s.close(leaving) // what it cannot give back starts elsewhere, as it had to be expected
}

// waitIdle blocks until no handler of a session runs whose lease was lost, and
// reports now and then that the consumer lives: what the session held may be
// recovered at any time. It reports false when ctx ends first.
func (s *session) waitIdle(ctx context.Context) bool {
	ticker := time.NewTicker(max(s.cfg.Lease/2, time.Second))
	defer ticker.Stop()
	for done := s.idle(); ; {
		select {
		case <-done:
			return true
		case <-ticker.C:
			s.reportAlive(ctx, finishTimeout)
		case <-ctx.Done():
			return false
		}
	}
}

// noteReturned notes that a run goes back whose lease was lost: that was no death.
func (s *session) noteReturned(run *broker.TaskRun) {
	s.returnedMu.Lock()
	defer s.returnedMu.Unlock()
	if s.returned == nil {
		s.returned = map[*broker.TaskRun]bool{}
	}
	s.returned[run] = true
}

// noteRecovered notes that runs were recovered, so that they did not go back.
func (s *session) noteRecovered(runs []*broker.TaskRun) {
	s.returnedMu.Lock()
	defer s.returnedMu.Unlock()
	for _, run := range runs {
		delete(s.returned, run)
	}
}

// reportAlive reports to the broker that the session's consumer lives although its
// lease ended, within the given time.
func (s *session) reportAlive(ctx context.Context, within time.Duration, back ...*broker.TaskRun) {
	survivor, ok := s.lease.(broker.Survivor)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := survivor.Survived(ctx, back...); err != nil {
		s.logger.Debug("cannot tell the broker that the consumer lives whose lease was lost", "session", s.lease.ID(), "error", err)
	}
}
