package redis

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// deadPage is how many dead letters are read, and dealt with, in one command.
const deadPage = 100

// RequeueDead queues dead letters again, due at once, and returns how many. The step that
// queues a run also removes its letter. A letter whose run was to follow another in a
// different queue goes once that queue has stored the run. A letter that cannot be read
// can only be deleted.
func (b *Broker) RequeueDead(ctx context.Context, queue string, ids ...string) (int, error) {
	return b.takeDead(ctx, queue, true, ids)
}

// DeleteDead deletes dead letters, including those that cannot be read, and returns how
// many.
func (b *Broker) DeleteDead(ctx context.Context, queue string, ids ...string) (int, error) {
	return b.takeDead(ctx, queue, false, ids)
}

// takeDead removes dead letters of a queue, and queues them again if that is asked for.
func (b *Broker) takeDead(ctx context.Context, queueName string, again bool, ids []string) (int, error) {
	what := "delete dead letters"
	if again {
		what = "queue dead letters again"
	}
	q, err := b.queue(queueName)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	wanted := make(map[string]int, len(ids))
	for i, id := range ids {
		wanted[id] = i
	}
	others := &sentDead{b: b, from: q, wanted: wanted, stayed: new(broker.DuplicateError), unreachable: map[string]bool{}}
	total, err := b.takeDeadPages(ctx, q, what, len(wanted), func(entries []string) (int, error) {
		n, err := 0, error(nil)
		if again {
			n, err = b.retryDead(ctx, q, entries, others)
		} else {
			n, err = b.deleteDead(ctx, q, entries, wanted)
		}
		if err != nil {
			err = errors.Join(others.failed, b.blameIn(ctx, err, q))
		}
		return n, err
	})
	switch {
	case err != nil:
		return total, err
	case others.failed != nil:
		return total, b.fail(ctx, what+" of queue "+q.Name, others.failed)
	case len(others.stayed.Runs) > 0:
		return total, fmt.Errorf("%s of queue %s: %w", what, q.Name, others.stayed)
	}
	return total, nil
}

// takeDeadPages calls take with pages of a queue's dead letters, from the tail: what dies
// meanwhile moves nothing there. It returns how many take has removed.
func (b *Broker) takeDeadPages(ctx context.Context, q *queue, what string, wanted int, take func(entries []string) (int, error)) (total int, err error) {
	for passed := int64(0); wanted > 0; {
		entries, err := b.clients.Work.LRange(ctx, q.Dead, -passed-deadPage, -passed-1)
		if err != nil {
			return total, b.fail(ctx, "read dead letters of queue "+q.Name, b.blameIn(ctx, err, q))
		}
		n, err := take(entries)
		total += n
		if err != nil {
			return total, b.fail(ctx, what+" of queue "+q.Name, err)
		}
		if len(entries) < deadPage {
			break
		}
		passed += int64(len(entries) - n)
	}
	return total, nil
}

// deleteDead deletes the wanted ones of a page of dead letters.
func (b *Broker) deleteDead(ctx context.Context, q *queue, entries []string, wanted map[string]int) (int, error) {
	pipe := b.clients.Work.Pipeline()
	var removed []conn.Reply[int64]
	var gathered []broker.Group
	for _, entry := range entries {
		letter := wire.ReadDeadLetter(entry)
		if _, ok := wanted[letter.ID]; ok {
			removed = append(removed, pipe.LRem(ctx, q.Dead, -1, entry))
			if letter.Run != nil {
				gathered = append(gathered, letter.Run.Links.OrZero().Awaits)
			}
		}
	}
	if len(removed) == 0 {
		return 0, nil
	}
	err := b.clients.Send(ctx, pipe)
	if err != nil && ctx.Err() != nil {
		return 0, err // the replies may still come, so that they cannot be read
	}
	n := 0
	for _, reply := range removed {
		n += int(reply.Val())
	}
	if n == len(removed) { // else they expire
		for _, group := range gathered {
			b.forgetGroup(ctx, group)
		}
	}
	return n, err
}

// retryDead queues the wanted ones of a page of dead letters again. It notes in others those
// that stay because a live run is in their way.
func (b *Broker) retryDead(ctx context.Context, q *queue, entries []string, others *sentDead) (n int, failed error) {
	calls, runs, n, err := b.callsOfDead(ctx, q, entries, others)
	if err != nil {
		return n, err
	}
	stored, err := b.storeDead(ctx, q, calls)
	n += stored
	if err != nil {
		return n, err
	}
	for i, call := range calls {
		if !others.stays(runs[i], call.result) {
			failed = errors.Join(failed, call.result)
		}
	}
	return n, failed
}

// callsOfDead makes a call of each wanted letter of the queue's own, and returns the run of
// each. It sends the letters of other queues, and returns how many of them it removed.
func (b *Broker) callsOfDead(ctx context.Context, q *queue, entries []string, others *sentDead) (calls []*enqueueCall, runs []*broker.TaskRun, n int, err error) {
	for _, entry := range entries {
		letter := wire.ReadDeadLetter(entry)
		if _, ok := others.wanted[letter.ID]; !ok || letter.Run == nil {
			continue
		}
		run := renewed(letter.Run)
		if len(run.Links.OrZero().Members) > 0 {
			removed, err := b.moveDeadGroup(ctx, q, entry, run)
			n, others.failed = n+removed, errors.Join(others.failed, err)
			continue
		}
		// Before it can run: as long as a group whose members have just ended.
		b.keepGroup(ctx, run.Links.OrZero().Awaits, resultsKept)
		if run.Queue != q.Name {
			n += others.send(ctx, entry, run)
			continue
		}
		call, err := newEnqueueCall(&q.QueueKeys, []*broker.TaskRun{run})
		if err != nil {
			return nil, nil, n, err
		}
		call.source, call.canRetry = append([]byte{'d'}, entry...), true
		calls, runs = append(calls, call), append(runs, run)
	}
	return calls, runs, n, nil
}

// moveDeadGroup puts a dead letter that has the members of its group with it into the outbox
// again. It returns 1 if it did.
func (b *Broker) moveDeadGroup(ctx context.Context, q *queue, letter string, run *broker.TaskRun) (int, error) {
	entry, err := outboxEntry(run)
	if err != nil {
		return 0, err
	}
	out := new(outcome)
	out.add(script.OpSend, "", entry)
	reply, _, err := b.endAt(ctx, q, q.Dead, letter, out)
	if err != nil || !reply.Ended {
		return 0, err
	}
	b.awaitMove(ctx, q)
	return 1, nil
}

// renewed returns the run of a dead letter as a new one: else it could be expired.
func renewed(run *broker.TaskRun) *broker.TaskRun {
	run.Attempt, run.Deliveries = 0, 0
	run.QueuedAt, run.Due, run.Delay = time.Now(), time.Time{}, 0
	return run
}

// storeDead queues dead letters again in their own queue, and returns how many it stored.
func (b *Broker) storeDead(ctx context.Context, q *queue, calls []*enqueueCall) (n int, err error) {
	if len(calls) == 0 {
		return 0, nil
	}
	if err := b.registerQueue(ctx, q); err != nil {
		return 0, err
	}
	if err := b.storeDecided(ctx, q, calls); err != nil {
		return 0, err
	}
	for _, call := range calls {
		if call.status == script.Stored {
			n++
		}
	}
	return n, nil
}

// sentDead sends runs of dead letters to other queues, where they were to follow a run. A
// letter stays until its queue has the run.
type sentDead struct {
	b           *Broker
	from        *queue
	wanted      map[string]int         // their ids, and where these stand
	stayed      *broker.DuplicateError // those with a live run in their way
	unreachable map[string]bool        // queues for which one failed, and whether all do
	failed      error                  // the first for each
}

// stays reports whether err says that a live run is in the way of a run, whose letter
// stays then. It notes that.
func (s *sentDead) stays(run *broker.TaskRun, err error) bool {
	if !errors.Is(err, broker.ErrDuplicate) {
		return false
	}
	by := run.ID
	if conflict, ok := errors.AsType[*broker.DuplicateError](err); ok && len(conflict.Runs) > 0 {
		by = conflict.Runs[0].ID
	}
	s.stayed.Runs = append(s.stayed.Runs, broker.Duplicate{Index: s.wanted[run.ID], ID: by})
	return true
}

// send returns how many letters it removed: 0 if a live run is in the way, or if another
// process was first.
func (s *sentDead) send(ctx context.Context, entry string, run *broker.TaskRun) int {
	down, reported := s.unreachable[run.Queue]
	if down {
		return 0
	}
	n, err := s.move(ctx, entry, run)
	if err != nil {
		s.unreachable[run.Queue] = !refusesOne(err)
	}
	if err != nil && !reported {
		s.failed = errors.Join(s.failed, fmt.Errorf("run %s to queue %s: %w", run.ID, run.Queue, err))
	}
	return n
}

// move queues the run of a dead letter in another queue, and removes the letter once that
// has it. It returns 1 if it did.
func (s *sentDead) move(ctx context.Context, entry string, run *broker.TaskRun) (int, error) {
	to, err := s.b.queue(run.Queue)
	if err != nil {
		return 0, err
	}
	call, err := newEnqueueCall(&to.QueueKeys, []*broker.TaskRun{run})
	if err != nil {
		return 0, err
	}
	sum := sha256.Sum256([]byte(entry))
	moved := []string{to.Moved(hex.EncodeToString(sum[:wire.TokenDigits/2]))}
	call.source, call.canRetry, call.owners = []byte("ms"), true, slices.Concat(moved, call.owners)
	if err = s.b.registerQueue(ctx, to); err == nil {
		err = s.b.storeDecided(ctx, to, []*enqueueCall{call})
	}
	switch {
	case err != nil:
		return 0, err
	case s.stays(run, call.result):
		return 0, nil
	case call.status != script.Stored && call.status != script.SourceGone: // now, or before
		return 0, call.result
	}
	return s.remove(ctx, entry, moved)
}

// remove removes a letter that has moved. In between, the other queue knows by the keys in
// moved that it has got it.
func (s *sentDead) remove(ctx context.Context, entry string, moved []string) (int, error) {
	if err := s.b.keepMoved(ctx, moved, stayedKept); err != nil {
		return 0, err
	}
	removed, err := s.b.clients.Work.LRem(ctx, s.from.Dead, -1, entry)
	if err != nil {
		return 0, err
	}
	_ = s.b.keepMoved(ctx, moved, movedKept) // after an error the key stays for longer
	return int(removed), nil
}
