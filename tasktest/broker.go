package tasktest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
)

// testBroker is the embedded broker with a list of what was queued, and with faults.
type testBroker struct {
	*memory.Broker

	now   func() time.Time
	clock *movedClock // nil in a bubble

	mu        sync.Mutex
	queued    []*broker.TaskRun
	queues    map[string]bool // of these runs, and of those that gather groups
	loseReply int
	downUntil time.Time
	faults    []*fault
	dead      []*deadSession
	changed   chan struct{} // of the Drain that goes on
}

var errLost = errors.New("the connection ended before the reply came (a fault of tasktest)")
var errDown = errors.New("the broker is down (a fault of tasktest)")

// outage returns the error of a call while the broker is down.
func (b *testBroker) outage() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now().Before(b.downUntil) {
		return errDown
	}
	return nil
}

// stored notes runs that the broker has, and returns the error of a lost reply.
func (b *testBroker) stored(runs []*broker.TaskRun) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, run := range runs {
		copied := *run
		copied.Payload = slices.Clone(run.Payload)
		b.queued = append(b.queued, &copied)
		b.queues[run.Queue] = true
	}
	if b.loseReply > 0 {
		b.loseReply--
		return errLost
	}
	return nil
}

// of returns the runs of a task that were queued, in order.
func (b *testBroker) of(task string) []*broker.TaskRun {
	b.mu.Lock()
	defer b.mu.Unlock()
	var runs []*broker.TaskRun
	for _, run := range b.queued {
		if run.Task == task {
			runs = append(runs, run)
		}
	}
	return runs
}

// heldByDead returns how many runs the sessions of dead consumers hold.
func (b *testBroker) heldByDead() (held int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead = slices.DeleteFunc(b.dead, func(d *deadSession) bool { return !d.ends.IsZero() && !b.now().Before(d.ends) })
	for _, d := range b.dead {
		held += d.held
	}
	return held
}

// QueueTasks queues runs, as [broker.Broker] says.
func (b *testBroker) QueueTasks(ctx context.Context, runs ...*broker.TaskRun) error {
	if err := b.outage(); err != nil {
		return fmt.Errorf("queue runs: %w", err)
	}
	b.shift(runs...)
	if err := b.Broker.QueueTasks(ctx, runs...); err != nil {
		return err
	}
	return b.stored(runs)
}

// QueueGroup queues the members of a group, as [broker.Groups] says.
func (b *testBroker) QueueGroup(ctx context.Context, then *broker.TaskRun, members ...*broker.TaskRun) error {
	if err := b.outage(); err != nil {
		return fmt.Errorf("queue a group: %w", err)
	}
	b.shift(then)
	b.shift(members...)
	if err := b.Broker.QueueGroup(ctx, then, members...); err != nil {
		return err
	}
	b.inject(func(b *testBroker) { b.queues[then.Queue] = true })
	return b.stored(members)
}

// QueueTick queues the run of a tick, as [broker.Ticks] says.
func (b *testBroker) QueueTick(ctx context.Context, run *broker.TaskRun, tick time.Time) error {
	if err := b.outage(); err != nil {
		return fmt.Errorf("queue a tick: %w", err)
	}
	if err := b.Broker.QueueTick(ctx, run, tick); err != nil {
		return err
	}
	return b.stored([]*broker.TaskRun{run})
}

// PutSchedule stores a schedule, as [broker.ScheduleStore] says.
func (b *testBroker) PutSchedule(ctx context.Context, schedule *broker.Schedule) error {
	if err := b.outage(); err != nil {
		return fmt.Errorf("put schedule %s: %w", schedule.ID, err)
	}
	return b.Broker.PutSchedule(ctx, schedule)
}

// QueueScheduleTick queues the run of a tick, as [broker.ScheduleStore] says.
func (b *testBroker) QueueScheduleTick(ctx context.Context, schedule *broker.Schedule, run *broker.TaskRun, tick time.Time) error {
	if err := b.outage(); err != nil {
		return fmt.Errorf("queue a tick of schedule %s: %w", schedule.ID, err)
	}
	if err := b.Broker.QueueScheduleTick(ctx, schedule, run, tick); err != nil {
		return err
	}
	return b.stored([]*broker.TaskRun{run})
}

// note notes runs that follow others.
func (b *testBroker) note(runs []*broker.TaskRun) {
	b.mu.Lock()
	lose := b.loseReply
	b.loseReply = 0
	b.mu.Unlock()
	_ = b.stored(runs) // no reply is to be lost
	b.mu.Lock()
	b.loseReply += lose
	b.mu.Unlock()
}

// tell wakes the Drain that goes on.
func (b *testBroker) tell() {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.changed <- struct{}{}:
	default: // it is awake, or there is none
	}
}

func (b *testBroker) shift(runs ...*broker.TaskRun) {
	if b.clock != nil {
		b.clock.shift(runs...)
	}
}
