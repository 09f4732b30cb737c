package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/text"
)

// renewal is what is known of a session's lease.
type renewal struct {
	*session
	margin time.Duration // before the end of the lease, which is no longer trusted then

	mu       sync.Mutex
	sent     time.Time   // when the last renewal that succeeded was sent
	watchdog *time.Timer // ends the trust in the lease
	alarm    *time.Timer // warns before that
	warned   time.Time
}

// Parts of a lease.
const (
	renewals      = 4  // are sent in a lease's time
	alarmPercent  = 60 // of a lease without a renewal are worth a warning
	marginPercent = 10 // of a lease are not used
	// warnEvery is how often the consumer warns of late renewals at most.
	warnEvery = 10 * time.Second
)

// renewLoop keeps the session's lease until ctx ends; it does nothing else, so
// that no user code delays it. When it can no longer be sure of the lease it
// ends the contexts of the session's runs, before the broker gives them to
// another consumer: the time is counted from when the last successful renewal
// was sent. It does not wait for a reply until it sends the next: tasks that burn
// processors let it wait for a turn at each step.
func (s *session) renewLoop(ctx context.Context, sent time.Time) {
	lease := s.cfg.Lease
	s.queueLeases.begin(sent)
	defer s.queueLeases.end()
	r := &renewal{session: s, margin: lease * marginPercent / 100, sent: sent}
	// Timers of their own: they fire also while a renewal hangs.
	r.watchdog = time.AfterFunc(time.Until(sent.Add(lease-r.margin)), r.expire)
	defer r.watchdog.Stop()
	r.alarm = time.AfterFunc(time.Until(sent.Add(lease*alarmPercent/100)), r.warn)
	defer r.alarm.Stop()
	ctx, cancel := context.WithCancel(ctx)
	var tries sync.WaitGroup
	defer tries.Wait()
	defer cancel()
	ticker := time.NewTicker(lease / renewals)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		tries.Go(func() { r.renew(ctx) })
	}
}

// renew sends one renewal. The lease cannot be trusted any more when its reply
// comes too late to count.
func (r *renewal) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Lease-r.margin)
	defer cancel()
	sent := time.Now()
	err := r.keepQueueLeases(ctx, sent, r.lease.Renew(ctx))
	switch {
	case err == nil:
		r.succeeded(sent)
	case errors.Is(err, broker.ErrLeaseLost):
		r.lose(errLeaseLost)
	case ctx.Err() == nil:
		r.logger.Warn("cannot renew the lease, trying again", "error", err)
	}
}

// succeeded notes that a renewal succeeded that was sent then.
func (r *renewal) succeeded(sent time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !sent.After(r.sent) {
		return
	}
	r.sent = sent
	r.watchdog.Reset(time.Until(sent.Add(r.cfg.Lease - r.margin)))
	r.alarm.Reset(time.Until(sent.Add(r.cfg.Lease * alarmPercent / 100)))
}

// expire ends the trust in the lease.
func (r *renewal) expire() {
	r.lose(fmt.Errorf("%w (no renewal succeeded for %s)", errLeaseLost, r.cfg.Lease-r.margin))
}

// warn reports that the lease is in danger, and what runs.
func (r *renewal) warn() {
	r.mu.Lock()
	late := time.Since(r.sent)
	quiet := time.Since(r.warned) < warnEvery
	if !quiet {
		r.warned = time.Now()
	}
	r.mu.Unlock()
	if quiet || r.base.Err() != nil {
		return
	}
	r.logger.Warn("the lease is in danger: the broker does not answer renewals in time, or tasks that use processors hold them up; mark such tasks //task:cpu",
		"no_renewal_for", late.Round(time.Millisecond), "lease", r.cfg.Lease, "running", r.runningTasks())
}

// runningTasks names the tasks that execute, those with the most runs first.
func (c *Consumer) runningTasks() string {
	counts := make(map[string]int)
	for _, l := range c.slots {
		for _, x := range l.executions(nil) {
			counts[x.state.task.spec.Name]++
		}
	}
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(counts[b]-counts[a], strings.Compare(a, b))
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s ×%d", name, counts[name])
	}
	return text.List(names, mostListed)
}
