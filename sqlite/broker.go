package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// row is a run as it is to be stored.
type row struct {
	run      *broker.TaskRun
	own      any // its id, or nil
	envelope []byte
}

// QueueTasks stores the runs, all of them or none, as [broker.Broker] says. A run with OwnID
// or Keep is a duplicate while another such run of the queue with its id lives.
func (b *Broker) QueueTasks(ctx context.Context, runs ...*broker.TaskRun) error {
	if len(runs) == 0 {
		return nil
	}
	rows, err := encode(runs)
	if err != nil {
		return err
	}
	err = b.writer.call(ctx, func(t *tx) error { return t.queue(rows) })
	if err != nil {
		return fmt.Errorf("queue tasks: %w", err)
	}
	return nil
}

// encode checks the runs of one call, and makes rows of them.
func encode(runs []*broker.TaskRun) ([]row, error) {
	rows := make([]row, len(runs))
	for i, r := range runs {
		if r == nil {
			return nil, fmt.Errorf("queue run %d of %d: it is nil", i+1, len(runs))
		}
		if err := r.Validate(); err != nil {
			return nil, fmt.Errorf("queue run %.64q: %w", r.ID, err)
		}
		if r.Queue != runs[0].Queue {
			return nil, fmt.Errorf("queue run %s: its queue %s is not %s, that of the others in the call", r.ID, r.Queue, runs[0].Queue)
		}
		if r.Links != nil && len(r.Links.Members) > 0 {
			return nil, fmt.Errorf("queue run %s: it has the members of a group with it, and this broker has no groups", r.ID)
		}
	}
	if err := broker.CheckBatch(runs); err != nil {
		return nil, fmt.Errorf("queue tasks: %w", err)
	}
	for i, r := range runs {
		envelope, err := r.MarshalBinary()
		if err != nil {
			return nil, fmt.Errorf("encode run %s: %w", r.ID, err)
		}
		rows[i] = row{run: &broker.TaskRun{
			ID: r.ID, Queue: r.Queue, Kind: r.Kind, Priority: r.Priority, Due: r.Due, Delay: r.Delay, Deliveries: r.Deliveries,
		}, own: own(r), envelope: envelope}
	}
	return rows, nil
}

// own returns the id of a run if another run with it is a duplicate, else nil.
func own(r *broker.TaskRun) any {
	if r.OwnID || r.Keep > 0 {
		return r.ID
	}
	return nil
}

func (t *tx) queue(rows []row) error {
	queue := rows[0].run.Queue
	taken := make(map[any]bool)
	for i := range rows {
		id := rows[i].own
		if id == nil {
			continue
		}
		if taken[id] || t.lives(queue, id) {
			return fmt.Errorf("run %s: %w", id, broker.ErrDuplicate)
		}
		taken[id] = true
	}
	for i := range rows {
		r := &rows[i]
		state, place := ready, int64(0)
		if at := t.due(r.run); at > t.now {
			state, place = delayed, at
		}
		id := t.atBack()
		if state == ready {
			place = id
		}
		t.exec("INSERT INTO taskgen_runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, ?)",
			id, queue, state, int(r.run.Kind), -int(r.run.Priority), place, r.own, r.run.Deliveries, r.envelope)
	}
	t.lengths[queue] += int64(len(rows))
	t.woken[queue] = true
	return t.err
}

// lives reports whether a live run has an id that may be there once.
func (t *tx) lives(queue string, id any) bool {
	var one int
	return t.row("SELECT 1 FROM taskgen_runs WHERE queue = ? AND own = ?", []any{queue, id}, &one)
}

// due returns when a run that is queued now is due.
func (t *tx) due(r *broker.TaskRun) int64 {
	if r.Delay == 0 && !r.Due.IsZero() {
		return r.Due.UnixNano()
	}
	return t.after(r.Delay)
}

// after returns the instant d from now, or the last that there is.
func (t *tx) after(d time.Duration) int64 { return t.now + min(int64(d), math.MaxInt64-t.now) }

var errNoRoom = errors.New("no queue is named, or there is no room for a run")

// GetTaskRuns takes runs for good, as [broker.Broker] says. It returns an error if no queue is
// named or max is below 1.
func (b *Broker) GetTaskRuns(ctx context.Context, queues []string, max int) ([]*broker.TaskRun, error) {
	if len(queues) == 0 || max < 1 {
		return nil, fmt.Errorf("take runs: %w", errNoRoom)
	}
	var got []*broker.TaskRun
	err := b.writer.take(ctx, slices.Clone(queues), nil, func(t *tx) error {
		got = t.takeForGood(queues, max)
		return t.orNothing(len(got))
	})
	if err != nil {
		return nil, fmt.Errorf("take runs: %w", err)
	}
	return got, nil
}

// orNothing returns the error of a take that found so many runs.
func (t *tx) orNothing(found int) error {
	if t.err == nil && found == 0 {
		return errNothing
	}
	return t.err
}

func (t *tx) takeForGood(queues []string, max int) (got []*broker.TaskRun) {
	for _, queue := range queues {
		left := max - len(got)
		if left == 0 {
			break
		}
		picked := t.pick(queue, [2]int{left, left})
		inOrder(picked)
		picked = t.decode(queue, picked[:min(left, len(picked))])
		for _, r := range picked {
			t.exec("DELETE FROM taskgen_runs WHERE id = ?", r.id)
			r.run.Deliveries = r.deliveries + 1
			got = append(got, r.run)
		}
		t.lengths[queue] -= int64(len(picked))
	}
	return got
}

// inOrder sorts runs of one queue by priority and place.
func inOrder(runs []storedRun) {
	slices.SortFunc(runs, func(a, b storedRun) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.place, b.place))
	})
}

// QueueLength returns the number of runs that wait in each queue that ever held one. It does
// not wait for those who write.
func (b *Broker) QueueLength(ctx context.Context) (map[string]int64, error) {
	lengths, err := b.lengths(ctx)
	if err != nil {
		return nil, fmt.Errorf("read queue lengths: %w", err)
	}
	return lengths, nil
}

// open returns [broker.ErrClosed] after Close.
func (b *Broker) open() error {
	select {
	case <-b.writer.stop:
		return broker.ErrClosed
	default:
		return nil
	}
}

func (b *Broker) lengths(ctx context.Context) (_ map[string]int64, err error) {
	if err := b.open(); err != nil {
		return nil, err
	}
	rows, err := b.db.QueryContext(ctx, "SELECT name, waiting FROM taskgen_queues")
	if err != nil {
		return nil, explain(err)
	}
	defer func() { err = errors.Join(err, explain(rows.Close())) }()
	lengths := make(map[string]int64)
	for rows.Next() {
		var name string
		var n int64
		if err := rows.Scan(&name, &n); err != nil {
			return nil, explain(err)
		}
		lengths[name] = n
	}
	return lengths, explain(rows.Err())
}
