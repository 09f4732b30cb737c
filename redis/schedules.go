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

// Schedules returns the schedules of the queues, of all queues if none is named. On a server that
// is no cluster it needs two commands for all queues of few schedules. It reads others in pages: one that is put or deleted meanwhile may be among them or not, and then
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
	all, rest := b.fewSchedules(ctx, list)
	found := make([][]*broker.Schedule, len(rest))
	errs := b.eachQueue(ctx, rest, func(i int, q *queue) (err error) {
		found[i], err = b.appendEntries(ctx, nil, q)
		return err
	})
	var failed failures
	for i, q := range rest {
		failed.note(q, errs[i])
	}
	all = append(all, slices.Concat(found...)...)
	slices.SortFunc(all, func(a, b *broker.Schedule) int {
		return cmp.Or(cmp.Compare(a.Run.Queue, b.Run.Queue), cmp.Compare(a.ID, b.ID))
	})
	return all, failed.join(ctx, b, "read schedules")
}

// What is read of the schedules of several queues together.
const (
	fewSchedules    = 200     // of a queue
	largeSchedules  = 1 << 18 // bytes of those of a queue
	schedulesAtOnce = 2_000   // of all queues, in one command
	scheduleBytes   = 1 << 20 // of these
)

// fewSchedules reads the schedules of those of several queues that have few, together, and returns
// the other queues. On a cluster it reads none. It returns queues that cannot be read among the
// others: these then have their errors.
func (b *Broker) fewSchedules(ctx context.Context, queues []*queue) (all []*broker.Schedule, rest []*queue) {
	if b.clients.Cluster || len(queues) < 2 {
		return nil, queues
	}
	for page := queues; len(page) > 0; {
		some := page[:min(len(page), surveyQueues)]
		read, found, err := b.schedulesOfFew(ctx, some)
		if err != nil {
			return all, append(rest, page...)
		}
		for i, s := range read {
			if s.apart {
				rest = append(rest, s.queue)
			} else {
				all = append(all, found[i]...)
			}
		}
		page = page[len(read):]
	}
	return all, rest
}

// schedulesOfFew reads the schedules of the first of some queues, with their last ticks. It returns the
// queues that it looked at, and their schedules.
func (b *Broker) schedulesOfFew(ctx context.Context, queues []*queue) (looked []*surveyed, found [][]*broker.Schedule, err error) {
	keys := make([]string, len(queues))
	for i, q := range queues {
		keys[i] = q.Schedules
	}
	args := &script.SchedulesArgs{Most: fewSchedules, Large: largeSchedules, Total: schedulesAtOnce, Bytes: scheduleBytes}
	v, err := b.repeat(ctx, b.scripts.Schedules, b.clients.Work, keys, args.Append(nil)...)
	if err != nil {
		return nil, nil, err
	}
	stored, err := script.ParseSchedules(v, len(queues))
	if err != nil {
		return nil, nil, err
	}
	looked, found = make([]*surveyed, len(stored)), make([][]*broker.Schedule, len(stored))
	ticks, fields := make([]string, len(stored)), make(script.LastTicksArgs, len(stored))
	for i, entries := range stored {
		q := queues[i]
		looked[i], ticks[i] = &surveyed{queue: q, apart: entries == nil}, q.Ticks
		for pair := range slices.Chunk(entries, 2) {
			schedule := wire.ReadSchedule(q.Name, pair[0], pair[1])
			found[i] = append(found[i], schedule)
			fields[i] = append(fields[i], wire.TicksField(schedule.Run.Task, schedule.ID))
		}
	}
	if v, err = b.repeat(ctx, b.scripts.LastTicks, b.clients.Work, ticks, fields.Append(nil)...); err != nil {
		return nil, nil, err
	}
	values, err := script.ParseLastTicks(v, fields)
	if err != nil {
		return nil, nil, err
	}
	for i, s := range looked {
		s.apart = s.apart || values[i] == nil && len(fields[i]) > 0
		for n, field := range values[i] {
			setLastTick(found[i][n], field)
		}
	}
	return looked, found, nil
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
		text, _ := ticks[i].(string)
		setLastTick(schedule, text)
	}
	return nil
}

// setLastTick sets the last tick of a schedule by its field, if that has one.
func setLastTick(schedule *broker.Schedule, field string) {
	if len(field) > wire.TickDigits && wire.IsTick(field[:wire.TickDigits]) {
		schedule.Last, _ = wire.ParseTick(field[:wire.TickDigits])
	}
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
