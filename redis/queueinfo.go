package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// What one command looks at to describe queues.
const (
	infoQueues   = 50
	infoBatches  = 1000 // in flight
	infoBacklogs = 200
	infoBytes    = 1 << 20 // of runs, which can be large; of a queue by itself eight times that
	// infoPage is how many batches one pipeline counts, if there are too many for a script.
	infoPage = 500
)

// Queue describes a queue. It needs one round trip, and one more for each 500 batches in
// flight if they are more than 1,000. It first moves the runs of committed large calls. It skips a
// key of a wrong type, and returns an error that names the key beside the rest.
//
// Oldest is that of the first runs of the ready lists and of twenty backlogs, and of the first that was
// delayed. Limits are those of 200 backlogs.
func (b *Broker) Queue(ctx context.Context, queueName string) (*broker.QueueInfo, error) {
	q, err := b.queue(queueName)
	if err != nil {
		return nil, fmt.Errorf("read queue: %w", err)
	}
	found, err := b.unstagedInfo(ctx, q, 1)
	if err != nil {
		return nil, b.fail(ctx, "read queue "+q.Name, err)
	}
	info, odd := newQueueInfo(q, &found, time.Now()), error(nil)
	if found.Running < 0 || len(found.Odd) > 0 {
		names, err := b.namesInFlight(ctx, q)
		if conn.IsWrongType(err) {
			odd = b.blameIn(ctx, err, q)
		} else if err != nil {
			return nil, b.fail(ctx, "count what queue "+q.Name+" has in flight", err)
		}
		var uncounted error
		if info.Running, uncounted, err = b.countRunning(ctx, q, names); err != nil {
			return nil, b.fail(ctx, "count what queue "+q.Name+" has in flight", err)
		}
		odd = cmp.Or(odd, uncounted)
	}
	if len(found.Odd) > 0 {
		odd = cmp.Or(odd, b.blameIn(ctx, errors.New(found.Odd[0]), q))
	}
	if odd != nil {
		return info, b.fail(ctx, "read queue "+q.Name, odd)
	}
	return info, nil
}

// unstagedInfo describes a queue, after it has moved the runs of committed large calls.
func (b *Broker) unstagedInfo(ctx context.Context, q *queue, parts int) (info script.QueueInfo, err error) {
	for range 2 {
		infos, err := b.queueInfos(ctx, []*queue{q}, parts)
		if err != nil {
			return info, err
		}
		if info = infos[0]; !info.Staged {
			break
		}
		if err := b.seeStaged(ctx, q); conn.IsWrongType(err) {
			info.Odd = append(info.Odd, err.Error())
			break
		} else if err != nil {
			return info, err
		}
	}
	return info, nil
}

// queueInfos describes queues: all of one server that is no cluster, or one.
func (b *Broker) queueInfos(ctx context.Context, queues []*queue, parts int) ([]script.QueueInfo, error) {
	var keys []string
	for _, q := range queues {
		keys = append(keys, script.QueueInfoKeys(&q.QueueKeys)...)
	}
	bytes := infoBytes
	if len(queues) == 1 {
		bytes *= 8
	}
	args := &script.QueueInfoArgs{Parts: parts, Bytes: bytes, Batches: infoBatches, Backlogs: infoBacklogs}
	v, err := b.repeat(ctx, b.scripts.QueueInfo, b.clients.Work, keys, args.Append(nil)...)
	if err != nil {
		return nil, err
	}
	return script.ParseQueueInfos(v, len(queues))
}

// newQueueInfo makes the description of a queue.
func newQueueInfo(q *queue, found *script.QueueInfo, now time.Time) *broker.QueueInfo {
	info := &broker.QueueInfo{
		Queue: q.Name, Paused: found.Paused, Disabled: slices.Sorted(slices.Values(found.Disabled)),
		Queued: found.Queued(), Delayed: found.Later, Running: max(found.Running, 0), Dead: found.Dead, Trimmed: found.Trimmed,
		Last: wire.ParseLast(q.Name, found.Last), Held: found.Held, DelayedDue: found.Due,
	}
	note := func(since time.Time) {
		if since.After(now) { // by the clock of who queued it
			since = now
		}
		if !since.IsZero() && (info.Oldest.IsZero() || since.Before(info.Oldest)) {
			info.Oldest = since.UTC()
		}
	}
	for _, stored := range found.Heads {
		note(wire.WaitsSince([]byte(stored)))
	}
	if found.FirstDue > 0 {
		note(time.UnixMilli(found.FirstDue))
	}
	for _, l := range found.Limits {
		info.Limits = append(info.Limits, broker.LimitInfo{
			Limit: broker.Limit{Key: l.Key, Max: int(l.Max), Per: time.Duration(l.Per) * time.Microsecond}, Used: int(l.Used), Waiting: l.Waiting,
			Run: heldRun(l.Stored),
		})
	}
	slices.SortFunc(info.Limits, func(a, b broker.LimitInfo) int {
		return cmp.Or(cmp.Compare(b.Waiting, a.Waiting), cmp.Compare(a.Key, b.Key))
	})
	info.Limits = info.Limits[:min(len(info.Limits), broker.MaxLimitInfos)]
	return info
}

// heldRun returns a run that waits for a limit, nil if it is large or cannot be read.
func heldRun(stored string) *broker.TaskRun {
	run := new(broker.TaskRun)
	if err := wire.ParseRun(new(broker.Decoder), []byte(stored), run); err != nil {
		return nil
	}
	return run
}

// countRunning counts the runs of batches in flight. It skips a key of a wrong type, and names it by
// odd.
func (b *Broker) countRunning(ctx context.Context, q *queue, names []string) (running int64, odd, err error) {
	for page := range slices.Chunk(names, infoPage) {
		taken, done := make([]conn.Reply[int64], len(page)), make([]conn.Reply[int64], len(page))
		var keys []string
		pipe := b.clients.Work.Pipeline()
		for i, name := range page {
			keys = append(keys, q.Batch(name), q.Done(name))
			taken[i], done[i] = pipe.LLen(ctx, q.Batch(name)), pipe.BitCount(ctx, q.Done(name), nil)
		}
		if err := b.clients.ReadAll(ctx, pipe); conn.IsWrongType(err) {
			odd = cmp.Or(odd, b.blameIn(ctx, err, q, keys...))
		} else if err != nil {
			return 0, nil, err
		}
		for i := range page {
			running += max(taken[i].Val()-done[i].Val(), 0)
		}
	}
	return running, odd, nil
}
