package tasktest

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskgen/taskgen/broker"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// Advance moves the clock, and runs what becomes due on the way: ticks of schedules, delayed
// runs, retries, runs of dead consumers. An attempt that fails fails the test, except with
// [AllowFailures].
//
// The clock is that of testing/synctest. If the kit was made in a bubble, the test's own clock
// moves along. Else what runs gets a bubble of its own, whose clock begins with that of the
// kit: see [Kit.Now]. What the test queues later is as much later.
func (k *Kit) Advance(t testing.TB, d time.Duration) {
	t.Helper()
	if !k.bubble {
		k.inOwnBubble(t, func(t testing.TB) { k.Advance(t, d) })
		return
	}
	end := time.Now().Add(d)
	timings := k.timings()
	k.tick(t) // so that the ticks from now on count
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

// timings are the tasks with a schedule, and when their next tick is.
type timings struct {
	tasks []taskrt.Task
	next  []time.Time // the zero time: not looked up, or there is none
}

func (k *Kit) timings() *timings {
	x := &timings{}
	for _, task := range k.tasks {
		if when := task.Spec().Schedule; when.Every > 0 || when.Cron != "" {
			x.tasks = append(x.tasks, task)
		}
	}
	x.next = make([]time.Time, len(x.tasks))
	return x
}

// after returns the next ticks of tasks after an instant.
func (x *timings) after(now time.Time) ([]time.Time, error) {
	for i, task := range x.tasks {
		if x.next[i].After(now) {
			continue
		}
		ticks, err := task.Ticks(now)
		if err != nil {
			return nil, err
		}
		x.next[i] = time.Time{}
		for x.next[i] = range ticks {
			break
		}
	}
	return x.next, nil
}

// ticks returns the instants after now at which schedules have ticks, those made at run time
// included: one of each at most.
func (k *Kit) ticks(x *timings, now time.Time) ([]time.Time, error) {
	at, err := x.after(now)
	if err != nil {
		return nil, err
	}
	schedules, err := taskrt.Schedules(context.WithoutCancel(k.ctx))
	for _, s := range schedules {
		at = append(slices.Clip(at), s.Next)
	}
	return at, err
}

// next returns the instant, end at the latest, at which something may become due, and whether
// that is a tick.
func (k *Kit) next(t testing.TB, timings *timings, now, end time.Time) (next time.Time, ticks bool) {
	t.Helper()
	next = end
	instants, err := k.ticks(timings, now)
	if err != nil {
		t.Fatalf("tasktest: %v", err)
	}
	for _, at := range instants {
		if at.After(now) && !at.After(next) {
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
