package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// schedulePage is about how many schedules one command reads.
const schedulePage = 1000

// PutSchedule stores a schedule, as [broker.ScheduleStore] says. If an error leaves open
// whether it was stored, PutSchedule can be called again.
func (b *Broker) PutSchedule(ctx context.Context, schedule *broker.Schedule) error {
	if err := schedule.Validate(); err != nil {
		return fmt.Errorf("put schedule %.64q: %w", schedule.ID, err)
	}
	q, err := b.queue(schedule.Run.Queue)
	if err != nil {
		return fmt.Errorf("put schedule %s: %w", schedule.ID, err)
	}
	run, err := schedule.Run.MarshalBinary()
	if err != nil {
		return fmt.Errorf("put schedule %s: %w", schedule.ID, err)
	}
	if err := b.registerQueue(ctx, q); err != nil {
		return err
	}
	rule := codec.AppendString(codec.AppendString(nil, schedule.Spec), schedule.Zone)
	args := &script.PutScheduleArgs{ID: schedule.ID, Task: schedule.Run.Task, Rule: rule, Run: run, Most: broker.MaxSchedules}
	v, err := b.repeat(ctx, b.scripts.PutSchedule, b.clients.Queue, script.ScheduleKeys(&q.QueueKeys), args.Append(nil)...)
	if err != nil {
		return b.fail(ctx, "put schedule "+schedule.ID, err)
	}
	return b.notePut(ctx, q, schedule, v)
}

// notePut sets what a reply says of a stored schedule, or returns why it was refused.
func (b *Broker) notePut(ctx context.Context, q *queue, schedule *broker.Schedule, v any) error {
	reply, err := script.ParsePutSchedule(v)
	switch {
	case err != nil:
		return fmt.Errorf("put schedule %s: %w", schedule.ID, err)
	case reply.TooMany:
		return fmt.Errorf("put schedule %s: queue %s has %d already: %w", schedule.ID, q.Name, broker.MaxSchedules, broker.ErrQueueFull)
	case reply.OtherTask:
		return fmt.Errorf("put schedule %s: it is one of another task: %w", schedule.ID, broker.ErrDuplicate)
	case reply.Lost:
		b.logLostTick(ctx, q, schedule.Run.Task, schedule.ID, reply.Found)
	}
	if err := setStored(schedule, reply); err != nil {
		return fmt.Errorf("put schedule %s: read reply: %w", schedule.ID, err)
	}
	return nil
}

// setStored sets what the reply says of a stored schedule: its revision, since when it
// exists, and its last tick.
func setStored(schedule *broker.Schedule, reply script.PutScheduleReply) (err error) {
	if schedule.Revision, err = strconv.ParseInt(reply.Revision, 10, 64); err != nil {
		return err
	}
	if schedule.Since, err = wire.ParseMicros(reply.Since); err != nil {
		return err
	}
	schedule.Last, err = wire.ParseTick(reply.Last)
	return err
}

// DeleteSchedule deletes a schedule and its last tick. After an error that leaves open
// whether it was deleted, another call may return [broker.ErrNoSchedule].
func (b *Broker) DeleteSchedule(ctx context.Context, queueName, id string) error {
	q, err := b.queue(queueName)
	if err != nil {
		return fmt.Errorf("delete schedule %.64q: %w", id, err)
	}
	args := (&script.DeleteScheduleArgs{ID: id}).Append(nil)
	v, replyLost, err := b.repeatTracked(ctx, b.scripts.DeleteSchedule, b.clients.Queue, conn.ReadAny, script.ScheduleKeys(&q.QueueKeys), args...)
	switch {
	case err != nil:
		return b.fail(ctx, fmt.Sprintf("delete schedule %.64q", id), err)
	case v == int64(0) && !replyLost: // else an earlier try deleted it
		return fmt.Errorf("delete schedule %.64q of queue %s: %w", id, q.Name, broker.ErrNoSchedule)
	}
	return nil
}

// Schedules returns the schedules of the queues, of all queues if none is named. It reads
// them in pages: one that is put or deleted meanwhile may be among them or not, and then
// counts as a change that came later. If some queues cannot be read, it returns an error,
// and beside it the schedules of the others.
func (b *Broker) Schedules(ctx context.Context, queues ...string) ([]*broker.Schedule, error) {
	if len(queues) == 0 {
		names, err := b.readNames(ctx)
		if err != nil {
			return nil, err
		}
		queues = names
	}
	list, err := b.queuesNamed(queues)
	if err != nil {
		return nil, fmt.Errorf("read schedules: %w", err)
	}
	found := make([][]*broker.Schedule, len(list))
	errs := b.eachQueue(ctx, list, func(i int, q *queue) (err error) {
		found[i], err = b.appendEntries(ctx, nil, q)
		return err
	})
	var failed failures
	for i, q := range list {
		failed.note(q, errs[i])
	}
	all := slices.Concat(found...)
	slices.SortFunc(all, func(a, b *broker.Schedule) int {
		return cmp.Or(cmp.Compare(a.Run.Queue, b.Run.Queue), cmp.Compare(a.ID, b.ID))
	})
	return all, failed.join(ctx, b, "read schedules")
}

// appendEntries appends the schedules of one queue.
func (b *Broker) appendEntries(ctx context.Context, all []*broker.Schedule, q *queue) ([]*broker.Schedule, error) {
	seen := map[string]bool{} // a page may have what another had
	for cursor := uint64(0); ; {
		p, err := b.clients.Work.HScan(ctx, q.Schedules, cursor, schedulePage)
		if err != nil {
			return nil, err
		}
		var fresh []*broker.Schedule
		var fields []string
		for pair := range slices.Chunk(p.Entries, 2) {
			if id := pair[0]; !seen[id] {
				seen[id] = true
				schedule := wire.ReadSchedule(q.Name, id, pair[1])
				fresh, fields = append(fresh, schedule), append(fields, wire.TicksField(schedule.Run.Task, schedule.ID))
			}
		}
		if err := b.readTicks(ctx, q, fresh, fields); err != nil {
			return nil, err
		}
		all = append(all, fresh...)
		if cursor = p.Cursor; cursor == 0 {
			return all, nil
		}
	}
}

// readTicks sets the last ticks of schedules.
func (b *Broker) readTicks(ctx context.Context, q *queue, schedules []*broker.Schedule, fields []string) error {
	if len(fields) == 0 {
		return nil
	}
	ticks, err := b.clients.Work.HMGet(ctx, q.Ticks, fields...)
	if conn.IsWrongType(err) { // the next tick quarantines the key
		b.logOddKey(ctx, q.Ticks, err)
		return nil
	}
	if err != nil {
		return err
	}
	for i, schedule := range schedules {
		if text, ok := ticks[i].(string); ok && len(text) > wire.TickDigits && wire.IsTick(text[:wire.TickDigits]) {
			schedule.Last, _ = wire.ParseTick(text[:wire.TickDigits])
		}
	}
	return nil
}

// ScheduleChanges returns how often schedules of each queue were put or deleted. On a
// single server it sends one command, on a cluster one for each queue. Every ten seconds
// it sends one more, which reads the names of the queues. It knows the queues that this
// broker uses at once. It logs a value that is no number, and skips the queue. If some
// queues cannot be asked, it returns an error, and beside it the numbers of the others.
func (b *Broker) ScheduleChanges(ctx context.Context) (map[string]int64, error) {
	queues, failed := b.names.get(ctx, b.readNames)
	if failed != nil && conn.ContextErr(ctx) != nil {
		return nil, failed
	}
	queues = b.withOwn(queues)
	keys := make([]string, len(queues))
	for i, name := range queues {
		keys[i] = b.keysOf(name).Changes
	}
	changes := make(map[string]int64)
	if len(keys) == 0 {
		return changes, failed
	}
	values, err := b.getEach(ctx, keys)
	if values == nil {
		return nil, b.fail(ctx, "ask for changes of schedules", err)
	}
	if err != nil {
		failed = errors.Join(failed, b.fail(ctx, "ask for changes of schedules of some queues", err))
	}
	for i, v := range values {
		if n, ok := b.parseChanges(ctx, keys[i], v); ok {
			changes[queues[i]] = n
		}
	}
	return changes, failed
}

// parseChanges parses how often schedules were changed. It logs a value that is no number.
func (b *Broker) parseChanges(ctx context.Context, key string, value any) (n int64, ok bool) {
	text, ok := value.(string)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		b.logOddKey(ctx, key, fmt.Errorf("changes of schedules are counted there: %w", err))
	}
	return n, err == nil
}

// withOwn returns the names and those of the queues that this broker uses.
func (b *Broker) withOwn(names []string) []string {
	known := make(map[string]bool, len(names))
	for _, name := range names {
		known[name] = true
	}
	all := names[:len(names):len(names)]
	for name := range b.queues.Range {
		if name := name.(string); !known[name] {
			all = append(all, name)
		}
	}
	return all
}

// getEach reads keys that can be on different nodes. If some cannot be read, it returns an
// error, and beside it the values of the others; if none can, it returns no values.
func (b *Broker) getEach(ctx context.Context, keys []string) ([]any, error) {
	if !b.clients.Cluster {
		return b.clients.Work.MGet(ctx, keys...)
	}
	pipe := b.clients.Work.Pipeline()
	gets := make([]conn.Reply[string], len(keys))
	for i, key := range keys {
		gets[i] = pipe.Get(ctx, key)
	}
	if err := b.clients.Send(ctx, pipe); err != nil && conn.ContextErr(ctx) != nil {
		return nil, err // the replies may still come, so that they cannot be read
	}
	values := make([]any, len(keys))
	var failed error
	for i, get := range gets {
		v, err := get.Result()
		switch {
		case err == nil:
			values[i] = v
		case conn.IsWrongType(err): // as MGET does, which skips it
			b.logOddKey(ctx, keys[i], err)
		case !conn.IsMissing(err) && failed == nil:
			failed = fmt.Errorf("read %s: %w", keys[i], err)
		}
	}
	return values, failed
}

// QueueScheduleTick queues run as a tick of a schedule, as [broker.ScheduleStore] says. If
// an error leaves open whether it was stored, QueueScheduleTick can be called again.
func (b *Broker) QueueScheduleTick(ctx context.Context, schedule *broker.Schedule, run *broker.TaskRun, tick time.Time) error {
	text, err := wire.FormatTick(tick)
	if err == nil && (schedule.Run == nil || run.Task != schedule.Run.Task || run.Queue != schedule.Run.Queue) {
		err = errors.New("the run is not one of the schedule's task and queue")
	}
	if err != nil {
		return fmt.Errorf("queue tick of schedule %.64q: %w", schedule.ID, err)
	}
	return b.queueTick(ctx, run, schedule.ID, fmt.Sprintf("%s%016d", text, schedule.Revision))
}
