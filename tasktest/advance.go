package tasktest

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/cron"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// Advance moves the clock, and runs what becomes due on the way: ticks of schedules, delayed
// runs, retries, runs of dead consumers. It needs the clock of testing/synctest, so the test has
// to be in a bubble: synctest.Test(t, func(t *testing.T) { … }). An attempt that fails fails
// the test, except with [AllowFailures].
func (k *Kit) Advance(t testing.TB, d time.Duration) {
	t.Helper()
	if !k.bubble {
		t.Fatal("tasktest: Advance moves the clock of testing/synctest: put the test, with New, into synctest.Test(t, func(t *testing.T) { … })")
	}
	end := time.Now().Add(d)
	timings, err := k.timings()
	if err != nil {
		t.Fatalf("tasktest: %v", err)
	}
	if len(timings) > 0 {
		k.tick(t) // so that the ticks from now on count
	}
	k.drain(t)
	for now := time.Now(); now.Before(end); now = time.Now() {
		next, ticks := k.next(t, timings, now, end)
		time.Sleep(next.Sub(now))
		if ticks {
			k.tick(t)
		}
		k.drain(t)
	}
	k.report(t)
}

// timing is when a task's ticks are.
type timing struct {
	every time.Duration
	cron  *cron.Schedule
	zone  *time.Location
}

func (k *Kit) timings() (timings []timing, err error) {
	for _, task := range k.tasks {
		when := task.Spec().Schedule
		switch {
		case when.Every > 0:
			timings = append(timings, timing{every: when.Every})
		case when.Cron != "":
			x := timing{}
			if x.zone, err = time.LoadLocation(when.Zone); err != nil {
				return nil, err
			}
			if x.cron, err = cron.Parse(when.Cron); err != nil {
				return nil, err
			}
			timings = append(timings, x)
		}
	}
	return timings, nil
}

// after returns the first tick after an instant.
func (x timing) after(now time.Time) time.Time {
	if x.every > 0 {
		rest := now.UnixNano() % int64(x.every)
		return now.Add(x.every - time.Duration(rest))
	}
	next, _ := x.cron.Next(now, x.zone) // zero if there is none
	return next
}

// next returns the instant, end at the latest, at which something may become due, and whether
// that is a tick.
func (k *Kit) next(t testing.TB, timings []timing, now, end time.Time) (next time.Time, ticks bool) {
	t.Helper()
	next = end
	for _, x := range timings {
		if at := x.after(now); !at.IsZero() && !at.After(next) {
			next, ticks = at, true
		}
	}
	earlier := func(at time.Time) {
		if at.After(now) && at.Before(next) {
			next, ticks = at, false
		}
	}
	for _, at := range k.broker.wakes() {
		earlier(at)
	}
	for _, queue := range k.queues() {
		delayed, err := k.broker.Runs(k.ctx, queue, broker.StateDelayed, 1)
		if err != nil {
			t.Fatalf("tasktest: %v", err)
		}
		for _, run := range delayed {
			earlier(run.Due)
		}
		info, err := k.broker.Queue(k.ctx, queue)
		if err != nil {
			t.Fatalf("tasktest: %v", err)
		}
		if info.Held > 0 {
			earlier(now.Add(time.Second)) // a limit does not say when it has room
		}
	}
	return next, ticks
}

// wakes returns when leases of dead consumers end, and when the broker is up again.
func (b *testBroker) wakes() (at []time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range b.dead {
		at = append(at, d.ends)
	}
	return append(at, b.downUntil)
}

// tick has a scheduler queue the ticks that are due.
func (k *Kit) tick(t testing.TB) {
	t.Helper()
	scheduler, err := taskrt.NewScheduler(k.broker, taskrt.SchedulerConfig{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}, k.current())
	if err != nil {
		t.Fatalf("tasktest: %v", err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(k.ctx))
	ended := make(chan error, 1)
	go func() { ended <- scheduler.Run(ctx) }()
	synctest.Wait()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("tasktest: %v", err)
	}
}
