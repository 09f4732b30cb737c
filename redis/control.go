package redis

import (
	"context"
	"fmt"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/script"
)

// Pause sets whether takes from the queue are stopped. Delayed runs still become due.
func (b *Broker) Pause(ctx context.Context, queueName string, paused bool) error {
	what := "resume"
	if paused {
		what = "pause"
	}
	if err := b.control(ctx, what, queueName, "-"); err != nil {
		return fmt.Errorf("%s queue: %w", what, err)
	}
	return nil
}

// Disable sets whether takes of the task's runs are stopped. Takes defer these runs
// when they meet them, up to 2,000 each time, and later put them back at the heads of
// their ready lists.
func (b *Broker) Disable(ctx context.Context, queueName, task string, disabled bool) error {
	what := "enable"
	if disabled {
		what = "disable"
	}
	if err := b.control(ctx, what, queueName, task); err != nil {
		return fmt.Errorf("%s task %.64q: %w", what, task, err)
	}
	return nil
}

func (b *Broker) control(ctx context.Context, what, queueName, task string) error {
	probe := broker.TaskRun{ID: "-", Task: task, Queue: queueName}
	if err := probe.Validate(); err != nil {
		return err
	}
	q, err := b.queue(queueName)
	if err != nil {
		return err
	}
	if err := b.registerQueue(ctx, q); err != nil {
		return err // it could not be found in a list of queues
	}
	v, err := b.repeat(ctx, b.scripts.Control, b.clients.Work,
		script.ControlKeys(&q.QueueKeys), (&script.ControlArgs{Action: what, Task: task}).Append(nil)...)
	if err == nil {
		err = script.ParseControl(v)
	}
	if err != nil {
		return b.fail(ctx, what+" in queue "+q.Name, err)
	}
	return nil
}
