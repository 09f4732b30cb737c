package redis

import (
	"context"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// Now returns the server's time, on a cluster that of one of its nodes.
func (b *Broker) Now(ctx context.Context) (time.Time, error) {
	now, err := b.clients.Work.Time(ctx)
	if err != nil {
		return time.Time{}, b.fail(ctx, "read the server's clock", err)
	}
	return now, nil
}

// RewindTicks changes the last claimed tick of a task, or of a schedule made at run time,
// from one instant to another. If the last tick is not from any more, it changes nothing.
// After an error it can be called again.
func (b *Broker) RewindTicks(ctx context.Context, queueName, task, entry string, from, to time.Time) error {
	q, err := b.queue(queueName)
	if err != nil {
		return fmt.Errorf("rewind ticks of %s: %w", task, err)
	}
	was, err := wire.FormatTick(from)
	if err != nil {
		return fmt.Errorf("rewind ticks of %s: %w", task, err)
	}
	is, err := wire.FormatTick(to)
	if err != nil {
		return fmt.Errorf("rewind ticks of %s: %w", task, err)
	}
	if _, err := b.repeat(ctx, b.scripts.Rewind, b.clients.Work, []string{q.Ticks},
		(&script.RewindArgs{Field: wire.TicksField(task, entry), Claimed: was, Instead: is}).Append(nil)...); err != nil {
		return b.fail(ctx, "rewind ticks of "+task, err)
	}
	return nil
}
