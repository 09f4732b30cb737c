package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// deadLetter is a dead letter with the group that its run awaited, if it did.
type deadLetter struct {
	*broker.DeadLetter
	group *group
	order int64 // among those of its queue
}

// deadList is a queue's dead letters, a ring once it is full.
type deadList struct {
	letters []deadLetter
	oldest  int
	trimmed int64
	last    int64 // order of the newest
}

func (d *deadList) add(l deadLetter, most int) {
	d.last++
	l.order = d.last
	if len(d.letters) < most {
		d.letters = append(d.letters, l)
		return
	}
	d.letters[d.oldest].group.forget()
	d.letters[d.oldest] = l
	d.oldest = (d.oldest + 1) % most
	d.trimmed++
}

// list returns the letters, the oldest first.
func (d *deadList) list() []deadLetter {
	return slices.Concat(d.letters[d.oldest:], d.letters[:d.oldest])
}

// removeEach calls do with each letter that is wanted, the oldest first, and removes those for
// which do returns true. It returns how many it removed.
func (d *deadList) removeEach(wanted, do func(l deadLetter) bool) int {
	var left []deadLetter
	before := len(d.letters)
	for _, l := range d.list() {
		if !wanted(l) || !do(l) {
			left = append(left, l)
		}
	}
	d.letters, d.oldest = left, 0
	return before - len(left)
}

// DeadLetters returns up to max of the queue's dead letters, the newest first.
func (b *Broker) DeadLetters(ctx context.Context, queue string, max int) ([]*broker.DeadLetter, error) {
	if err := b.enter(ctx); err != nil {
		return nil, fmt.Errorf("read dead letters of queue %.64q: %w", queue, err)
	}
	defer b.mu.Unlock()
	q := b.queues[queue]
	if q == nil {
		return nil, nil
	}
	n := len(q.dead.letters)
	var list []*broker.DeadLetter
	for i := range min(n, max) {
		list = append(list, q.dead.letters[(q.dead.oldest+n-1-i)%n].detached())
	}
	return list, nil
}

// TrimmedDeadLetters returns how many of the queue's dead letters were trimmed
// because there were more than Config.MaxDead.
func (b *Broker) TrimmedDeadLetters(queue string) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q := b.queues[queue]; q != nil {
		return q.dead.trimmed
	}
	return 0
}

// RequeueDead queues dead letters again, as [broker.Controls] says: the oldest first,
// and all of one id.
func (b *Broker) RequeueDead(ctx context.Context, name string, ids ...string) (int, error) {
	n, err := b.takeDead(ctx, name, ids, b.requeue)
	if err != nil {
		return n, fmt.Errorf("queue %d dead letters of queue %.64q again: %w", len(ids), name, err)
	}
	return n, nil
}

// DeleteDead deletes dead letters, as [broker.Controls] says: all of one id.
func (b *Broker) DeleteDead(ctx context.Context, name string, ids ...string) (int, error) {
	n, err := b.takeDead(ctx, name, ids, deleteLetter)
	if err != nil {
		return n, fmt.Errorf("delete %d dead letters of queue %.64q: %w", len(ids), name, err)
	}
	return n, nil
}

func deleteLetter(_ *queue, l deadLetter, _ clock) error {
	l.group.forget()
	return nil
}

// takeDead calls do with each of the dead letters, and removes those for which do returns
// nil. Its error names the others, and the live runs that have their id or unique key.
func (b *Broker) takeDead(ctx context.Context, name string, ids []string, do func(*queue, deadLetter, clock) error) (int, error) {
	if err := b.enter(ctx); err != nil {
		return 0, err
	}
	defer b.mu.Unlock()
	q := b.queues[name]
	if q == nil || len(ids) == 0 {
		return 0, nil
	}
	asked := make(map[string]int, len(ids))
	for i, id := range ids {
		asked[id] = i
	}
	now := b.now()
	stayed := new(broker.DuplicateError)
	wanted := func(l deadLetter) bool {
		_, ok := asked[l.ID]
		return ok
	}
	done := q.dead.removeEach(wanted, func(l deadLetter) bool {
		err := do(q, l, now)
		if err != nil {
			stayed.Runs = append(stayed.Runs, broker.Duplicate{Index: asked[l.ID], ID: inTheWay(l.ID, err)})
		}
		return err == nil
	})
	b.wake(q, now)
	if len(stayed.Runs) > 0 {
		return done, stayed
	}
	return done, nil
}

// inTheWay returns the id of the live run because of which a run was refused as a
// duplicate: the run's own id, or that of the run that has its unique key.
func inTheWay(id string, err error) string {
	if conflict, ok := errors.AsType[*broker.DuplicateError](err); ok {
		return conflict.Runs[0].ID
	}
	return id
}

// requeue queues a dead run as a new one, unless its id or unique key is taken. The run
// is the broker's own.
func (b *Broker) requeue(q *queue, l deadLetter, now clock) error {
	chunks := [][]storedRun{{{run: *l.Run}}}
	e := &chunks[0][0]
	e.run.Attempt, e.run.Deliveries = 0, 0
	e.run.QueuedAt, e.run.Due, e.run.Delay = b.time(), time.Time{}, 0 // else it could be expired
	e.setDue(now.after(0))
	if err := q.claim(chunks, now); err != nil {
		return err
	}
	e.gatherAgain(l.group, now)
	b.joinAgain(e)
	q.dropRecord(q.records[l.ID])
	q.pushBack(e)
	return nil
}
