package runtime

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/poison"
)

// windUp ends a session whose lease was lost, once the broker answers again. Its
// outcomes are still offered to the broker, which knows best whether they count:
// after an outage of its own nobody else can have taken the runs. Of those that were
// taken it reports that the consumer did not die.
func (s *session) windUp(ctx context.Context) {
	select {
	case <-s.answered:
	case <-ctx.Done():
	}
	patience, cancel := context.WithTimeout(ctx, windUpTimeout)
	defer cancel()
	if !s.waitIdle(patience) {
		s.unfinished.Add(1) // at least, or it ends just now
	}
	s.outcomes.close()
	stop := context.AfterFunc(patience, s.abandon)
	<-s.finished
	stop()
	s.abandon()
	s.backMu.Lock()
	back := slices.Collect(maps.Keys(s.back))
	s.backMu.Unlock()
	s.tellSurvived(context.WithoutCancel(ctx), stopTimeout/4, back...)
	leaving, cancelLeave := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout/4)
	defer cancelLeave()
	_ = s.leave(leaving) // what it cannot give back starts elsewhere, as it had to be expected
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
			s.tellSurvived(ctx, finishTimeout)
		case <-ctx.Done():
			return false
		}
	}
}

// goesBack notes that a run goes back whose lease was lost: that was no death.
func (s *session) goesBack(run *broker.TaskRun) {
	s.backMu.Lock()
	defer s.backMu.Unlock()
	if s.back == nil {
		s.back = map[*broker.TaskRun]bool{}
	}
	s.back[run] = true
}

// recovered notes that runs were recovered, so that they did not go back.
func (s *session) recovered(runs []*broker.TaskRun) {
	s.backMu.Lock()
	defer s.backMu.Unlock()
	for _, run := range runs {
		delete(s.back, run)
	}
}

// tellSurvived reports to the broker that the session's consumer lives although its
// lease ended, within the given time.
func (s *session) tellSurvived(ctx context.Context, within time.Duration, back ...*broker.TaskRun) {
	survivor, ok := s.lease.(poison.Survivor)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := survivor.Survived(ctx, back...); err != nil {
		s.logger.Debug("cannot tell the broker that the consumer lives whose lease was lost", "session", s.lease.ID(), "error", err)
	}
}
