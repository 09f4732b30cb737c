package redis

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
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

// infoPage is how many batches one pipeline counts.
const infoPage = 500

// Queue describes a queue. It needs two round trips, and one more for each 500 batches in
// flight. It first moves the runs of committed large calls. The counts can be of different
// moments. It skips a key of a wrong type, and returns an error that names the key beside
// the rest.
func (b *Broker) Queue(ctx context.Context, queueName string) (*broker.QueueInfo, error) {
	q, err := b.queue(queueName)
	if err != nil {
		return nil, fmt.Errorf("read queue: %w", err)
	}
	replies, now, odd, err := b.readInfo(ctx, q)
	if err == nil && replies.staged.Val() > 0 {
		unseen := b.seeStaged(ctx, q)
		replies, now, odd, err = b.readInfo(ctx, q)
		odd = cmp.Or(odd, unseen)
	}
	if err != nil {
		return nil, b.fail(ctx, "read queue "+q.Name, err)
	}
	running, uncounted, err := b.countRunning(ctx, q, replies, now)
	if err != nil {
		return nil, b.fail(ctx, "count what queue "+q.Name+" has in flight", err)
	}
	info := replies.info(q)
	info.Running = running
	if odd = cmp.Or(odd, uncounted); odd != nil {
		return info, b.fail(ctx, "read queue "+q.Name, odd)
	}
	return info, nil
}

// countRunning counts the runs in flight, and on the way asks for the delayed ones. It skips a
// key of a wrong type, and names it by odd.
func (b *Broker) countRunning(ctx context.Context, q *queue, replies *infoReplies, now time.Time) (running int64, odd, err error) {
	pipe := b.clients.Work.Pipeline()
	replies.askDelayed(ctx, pipe, q, now)
	for page := range slices.Chunk(append(replies.inFlight.Val(), ""), infoPage) {
		taken, done := make([]conn.Reply[int64], len(page)), make([]conn.Reply[int64], len(page))
		var keys []string
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
		pipe = b.clients.Work.Pipeline()
	}
	return running, odd, nil
}

// readInfo reads the first replies about a queue, and the server's time. It skips a key of
// a wrong type, and names it by odd.
func (b *Broker) readInfo(ctx context.Context, q *queue) (replies *infoReplies, now time.Time, odd, err error) {
	pipe := b.clients.Work.Pipeline()
	clock, replies := pipe.Time(ctx), askInfo(ctx, pipe, q)
	if err = b.clients.ReadAll(ctx, pipe); conn.IsWrongType(err) {
		odd, err = b.blameIn(ctx, err, q), nil
	}
	return replies, clock.Val(), odd, err
}

// infoReplies are the replies that describe a queue.
type infoReplies struct {
	paused, dead, later conn.Reply[int64]
	staged              conn.Reply[int64] // whether large calls have committed runs that are counted nowhere else
	waiting             []conn.Reply[int64]
	disabled, inFlight  conn.Reply[[]string]
	trimmed             conn.Reply[string]
	last                conn.Reply[map[string]string]
}

// askInfo asks for all that describes a queue but its delayed runs and the lengths of its
// batches.
func askInfo(ctx context.Context, pipe conn.Pipeline, q *queue) *infoReplies {
	r := &infoReplies{
		paused: pipe.Exists(ctx, q.Paused), staged: pipe.Exists(ctx, q.Staged), disabled: pipe.SMembers(ctx, q.Disabled),
		waiting: []conn.Reply[int64]{pipe.ZCard(ctx, q.Deferred), pipe.ZCard(ctx, q.Backlogs)},
	}
	for _, list := range q.Ready {
		r.waiting = append(r.waiting, pipe.LLen(ctx, list))
	}
	r.dead, r.trimmed = pipe.LLen(ctx, q.Dead), pipe.Get(ctx, q.Trimmed)
	r.last, r.inFlight = pipe.HGetAll(ctx, q.Last), pipe.SMembers(ctx, q.InFlight)
	return r
}

// askDelayed asks how many runs are due by now, and how many later.
func (r *infoReplies) askDelayed(ctx context.Context, pipe conn.Pipeline, q *queue, now time.Time) {
	ms := strconv.FormatInt(now.UnixMilli(), 10)
	r.waiting = append(r.waiting, pipe.ZCount(ctx, q.Delayed, "-inf", ms))
	r.later = pipe.ZCount(ctx, q.Delayed, "("+ms, "+inf")
}

// errs returns the errors of the replies.
func (r *infoReplies) errs() []error {
	errs := []error{r.paused.Err(), r.staged.Err(), r.dead.Err(), r.later.Err(), r.disabled.Err(), r.inFlight.Err(), r.trimmed.Err(), r.last.Err()}
	for _, n := range r.waiting {
		errs = append(errs, n.Err())
	}
	return errs
}

// info makes the description of the queue, without its running runs.
func (r *infoReplies) info(q *queue) *broker.QueueInfo {
	info := &broker.QueueInfo{
		Queue: q.Name, Paused: r.paused.Val() > 0, Disabled: slices.Sorted(slices.Values(r.disabled.Val())),
		Delayed: r.later.Val(), Dead: r.dead.Val(), Last: wire.ParseLast(q.Name, r.last.Val()),
	}
	info.Trimmed, _ = strconv.ParseInt(r.trimmed.Val(), 10, 64)
	for _, n := range r.waiting {
		info.Queued += n.Val()
	}
	return info
}
