package redis

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
)

// Pause has no run of the queue handed out from now on, or again those that
// wait. Delayed ones become due meanwhile.
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

// Disable has no run of the task handed out from now on, or enables it again.
// Takes move its runs aside as they come upon them, up to 2,000 each time, and
// bring them back to the heads of their ready lists.
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
	if err := b.announce(ctx, q); err != nil {
		return err // it could not be found in a list of queues
	}
	_, err = b.repeat(ctx, b.scripts.control, b.clients.work,
		[]string{q.paused, q.disabled, q.enabling, q.wake[0], q.wake[1]}, what, task)
	if err != nil {
		return b.fail(ctx, what+" in queue "+q.name, err)
	}
	return nil
}

// infoPage is how many batches are counted in one pipeline.
const infoPage = 500

// Queue tells about a queue in two round trips, and one more for each 500
// batches in flight. The counts can be of a moment apart. A key of a wrong type is
// passed over: then it returns an error that names it, and beside it the rest.
func (b *Broker) Queue(ctx context.Context, queueName string) (*broker.QueueInfo, error) {
	q, err := b.queue(queueName)
	if err != nil {
		return nil, fmt.Errorf("read queue: %w", err)
	}
	info := &broker.QueueInfo{Queue: q.name}
	pipe := b.clients.work.Pipeline()
	now := pipe.Time(ctx)
	paused, disabled := pipe.Exists(ctx, q.paused), pipe.SMembers(ctx, q.disabled)
	ready := []*goredis.IntCmd{pipe.ZCard(ctx, q.aside), pipe.ZCard(ctx, q.lines)}
	for _, list := range q.ready {
		ready = append(ready, pipe.LLen(ctx, list))
	}
	dead, dropped := pipe.LLen(ctx, q.dead), pipe.Get(ctx, q.dropped)
	last, flights := pipe.HGetAll(ctx, q.last), pipe.SMembers(ctx, q.flights)
	var odd error
	if err := b.readAll(ctx, pipe); isWrongType(err) {
		odd = b.blameIn(ctx, err, q)
	} else if err != nil {
		return nil, b.fail(ctx, "read queue "+q.name, err)
	}
	info.Paused, info.Dead = paused.Val() > 0, dead.Val()
	info.Disabled = slices.Sorted(slices.Values(disabled.Val()))
	info.Dropped, _ = strconv.ParseInt(dropped.Val(), 10, 64)
	info.Last = parseLast(q, last.Val())
	for _, n := range ready {
		info.Queued += n.Val()
	}

	ms := strconv.FormatInt(now.Val().UnixMilli(), 10)
	pipe = b.clients.work.Pipeline()
	due, later := pipe.ZCount(ctx, q.delayed, "-inf", ms), pipe.ZCount(ctx, q.delayed, "("+ms, "+inf")
	for page := range slices.Chunk(append(flights.Val(), ""), infoPage) {
		var taken, done []*goredis.IntCmd
		var keys []string
		for _, member := range page {
			keys = append(keys, q.batch(member), q.done(member))
			taken, done = append(taken, pipe.LLen(ctx, q.batch(member))), append(done, pipe.BitCount(ctx, q.done(member), nil))
		}
		if err := b.readAll(ctx, pipe); isWrongType(err) {
			odd = cmp.Or(odd, b.blameIn(ctx, err, q, keys...))
		} else if err != nil {
			return nil, b.fail(ctx, "count what queue "+q.name+" has in flight", err)
		}
		for i := range page {
			info.Running += max(taken[i].Val()-done[i].Val(), 0)
		}
		pipe = b.clients.work.Pipeline()
	}
	info.Queued += due.Val()
	info.Delayed = later.Val()
	if odd != nil {
		return info, b.fail(ctx, "read queue "+q.name, odd)
	}
	return info, nil
}

// readAll executes a pipeline of commands that only read. That a key is missing
// is no error.
func (b *Broker) readAll(ctx context.Context, pipe goredis.Pipeliner) error {
	replies, err := promptly(ctx, b, pipe.Exec)
	if err != goredis.Nil { //nolint:errorlint // the library returns it as it is
		return err
	}
	for _, reply := range replies { // the first error may hide another
		if err := reply.Err(); err != nil && err != goredis.Nil { //nolint:errorlint // as above
			return err
		}
	}
	return nil
}

// How the latest run of a task ended is stored as 20 digits, when it started in
// nanoseconds since the epoch, and an array.
const lastDigits = 20

// parseLast leaves out what cannot be read.
func parseLast(q *queue, stored map[string]string) map[string]broker.LastRun {
	last := make(map[string]broker.LastRun, len(stored))
	for task, s := range stored {
		if len(s) <= lastDigits {
			continue
		}
		ns, err := strconv.ParseInt(s[:lastDigits], 10, 64)
		in := codec.NewReader([]byte(s[lastDigits:]))
		if n := in.ArrayLen(); err != nil || n != 3 {
			continue
		}
		l := broker.LastRun{Queue: q.name, Task: task, Started: time.Unix(0, ns).UTC()}
		l.ID, l.Took, l.Failure = in.String(), in.Duration(), string(in.Bytes())
		if in.Done() == nil {
			last[task] = l
		}
	}
	return last
}
