package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// renewLoop keeps the session's lease until ctx ends; it does nothing else, so
// that no user code delays it. When it can no longer be sure of the lease it
// ends the contexts of the session's runs, before the broker gives them to
// another consumer: the time is counted from when the last successful renewal
// was sent.
func (s *session) renewLoop(ctx context.Context, sent time.Time) {
	lease := s.cfg.Lease
	margin := lease / 10
	expire := func() {
		s.lose(fmt.Errorf("%w (no renewal succeeded for %s)", errLeaseLost, lease-margin))
	}
	// A timer of its own: it fires also while a renewal hangs.
	watchdog := time.AfterFunc(time.Until(sent.Add(lease-margin)), expire)
	defer watchdog.Stop()
	ticker := time.NewTicker(lease / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		attempt, cancel := context.WithTimeout(ctx, lease/3)
		now := time.Now()
		err := s.lease.Renew(attempt)
		cancel()
		switch {
		case err == nil:
			watchdog.Reset(time.Until(now.Add(lease - margin)))
		case errors.Is(err, broker.ErrLeaseLost):
			s.lose(errLeaseLost)
			return
		case ctx.Err() == nil:
			s.logger.Warn("cannot renew the lease, trying again", "error", err)
		}
	}
}
