package worker

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

// Parts of a lease.
const (
	renewals      = 4  // are sent in a lease's time
	alarmPercent  = 60 // of a lease without a renewal are logged
	marginPercent = 10 // of a lease are not used
	// warnEvery is how often late renewals are logged at most.
	warnEvery = 10 * time.Second
)

// renewal is the state of a session's lease.
type renewal struct {
	*session
	margin time.Duration // the lease is not trusted for this time before its end

	mu       sync.Mutex
	sent     time.Time   // when the last renewal that succeeded was sent
	watchdog *time.Timer // calls expire
	alarm    *time.Timer // calls warn
	warned   time.Time
}

// renewLoop renews the session's lease until ctx ends. It does nothing else, so no task
// delays it.
//
// If the lease may be over, renewLoop ends the contexts of the session's runs before the
// broker gives them to another consumer. Time counts from when the last successful
// renewal was sent. Renewals do not wait for each other's replies: tasks that use up the
// processors delay each message of a renewal.
func (s *session) renewLoop(ctx context.Context, sent time.Time) {
	lease := s.cfg.Lease
	s.queueLeases.start(sent)
	defer s.queueLeases.stop()
	r := &renewal{session: s, margin: lease * marginPercent / 100, sent: sent}
	// Timers fire also while a renewal hangs.
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
		r.vitals.turn()
		tries.Go(func() { r.renew(ctx) })
	}
}

// renew sends one renewal. A reply that comes after the lease's time is not waited for.
func (r *renewal) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Lease-r.margin)
	defer cancel()
	sent := time.Now()
	err := r.membership.Renew(ctx)
	r.count.operations[opRenew].observe(sent, err)
	err = r.keepQueueLeases(ctx, sent, err)
	switch {
	case err == nil:
		r.succeeded(sent)
	case errors.Is(err, broker.ErrLeaseLost):
		r.loseLease(ErrLeaseLost)
	case ctx.Err() == nil:
		r.logger.Warn("cannot renew the lease, trying again", "error", err)
	}
}

// succeeded notes a successful renewal.
func (r *renewal) succeeded(sent time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !sent.After(r.sent) {
		return
	}
	r.sent = sent
	if r.base.Err() == nil { // it is the worker's current session
		r.vitals.answer(r.membership.ID(), sent)
	}
	r.watchdog.Reset(time.Until(sent.Add(r.cfg.Lease - r.margin)))
	r.alarm.Reset(time.Until(sent.Add(r.cfg.Lease * alarmPercent / 100)))
}

// expire gives up the lease.
func (r *renewal) expire() {
	r.loseLease(fmt.Errorf("%w (no renewal succeeded for %s)", ErrLeaseLost, r.cfg.Lease-r.margin))
}

// warn logs that the lease is in danger, and which tasks execute.
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

// runningTasks lists the tasks that execute, those with the most runs first.
func (w *Worker) runningTasks() string {
	counts := make(map[string]int)
	for _, p := range w.slots {
		for _, a := range p.attempts(nil) {
			counts[a.task.name]++
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
