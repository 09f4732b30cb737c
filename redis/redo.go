package redis

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
)

// redoPage is how many dead letters are read, and dealt with, in one command.
const redoPage = 100

// rawID names bytes that are no run.
func rawID(b []byte) string {
	sum := sha256.Sum256(b)
	return "raw-" + hex.EncodeToString(sum[:12])
}

// Redo queues dead letters again, due at once, or deletes them. Each goes in the
// step that stores it. What could not be read can only be deleted.
func (b *Broker) Redo(ctx context.Context, queueName string, what broker.Redo, ids ...string) (int, error) {
	q, err := b.queue(queueName)
	if err != nil {
		return 0, fmt.Errorf("redo dead letters: %w", err)
	}
	if what != broker.RedoRetry && what != broker.RedoDelete {
		return 0, fmt.Errorf("redo dead letters: unknown way %d", int8(what))
	}
	wanted := make(map[string]int, len(ids))
	for i, id := range ids {
		wanted[id] = i
	}
	total := 0
	stayed := new(broker.DuplicateError)
	// From the tail: what dies meanwhile moves nothing there.
	for passed := int64(0); len(wanted) > 0; {
		entries, err := promptly(ctx, b, func(ctx context.Context) ([]string, error) {
			return b.clients.work.LRange(ctx, q.dead, -passed-redoPage, -passed-1).Result()
		})
		if err != nil {
			return total, b.fail(ctx, "read dead letters of queue "+q.name, err)
		}
		n := 0
		if what == broker.RedoRetry {
			n, err = b.retryDead(ctx, q, entries, wanted, stayed)
		} else {
			n, err = b.deleteDead(ctx, q, entries, wanted)
		}
		total += n
		if err != nil {
			return total, b.fail(ctx, "redo dead letters of queue "+q.name, err)
		}
		if len(entries) < redoPage {
			break
		}
		passed += int64(len(entries) - n)
	}
	if len(stayed.Runs) > 0 {
		return total, fmt.Errorf("redo dead letters of queue %s: %w", q.name, stayed)
	}
	return total, nil
}

func (b *Broker) deleteDead(ctx context.Context, q *queue, entries []string, wanted map[string]int) (int, error) {
	pipe := b.clients.work.Pipeline()
	var removed []*goredis.IntCmd
	var gathers []broker.Gather
	for _, entry := range entries {
		letter, err := parseDead(entry)
		if err != nil {
			continue
		}
		if _, ok := wanted[letter.ID]; ok {
			removed = append(removed, pipe.LRem(ctx, q.dead, -1, entry))
			if letter.Run != nil {
				gathers = append(gathers, letter.Run.Links.OrZero().Gathers)
			}
		}
	}
	if len(removed) == 0 {
		return 0, nil
	}
	_, err := promptly(ctx, b, pipe.Exec)
	if err != nil && ctx.Err() != nil {
		return 0, err // the replies are not to be read: they may still come
	}
	n := 0
	for _, cmd := range removed {
		n += int(cmd.Val())
	}
	if n == len(removed) { // else they go by themselves
		for _, group := range gathers {
			b.forgetGroup(ctx, group)
		}
	}
	return n, err
}

// retryDead adds to stayed what does not go, as a live run is in its way.
func (b *Broker) retryDead(ctx context.Context, q *queue, entries []string, wanted map[string]int, stayed *broker.DuplicateError) (int, error) {
	var groups []*group
	var of []*broker.TaskRun // each group's
	sent := 0
	for _, entry := range entries {
		letter, err := parseDead(entry)
		if err != nil || letter.Run == nil {
			continue
		}
		if _, ok := wanted[letter.ID]; !ok {
			continue
		}
		run := letter.Run
		run.Attempt, run.Deliveries = 0, 0
		run.QueuedAt, run.Due, run.Delay = time.Now(), time.Time{}, 0 // as a new run, else it could be expired
		if run.Queue != q.name {
			over, err := b.sendDead(ctx, q, entry, run)
			if err != nil {
				return sent, err
			}
			if over {
				sent++
			}
			continue
		}
		g, err := newGroup(q, []*broker.TaskRun{run})
		if err != nil {
			return 0, err
		}
		g.source, g.canRetry = append([]byte{'d'}, entry...), true
		groups, of = append(groups, g), append(of, run)
		// Before it can run: as long as a group whose members have just ended.
		b.keepGroup(ctx, run.Links.OrZero().Gathers, groupKept)
	}
	var failed error
	if sent > 0 {
		_, failed = b.moveOn(ctx, q)
	}
	if len(groups) == 0 {
		return sent, failed
	}
	if err := b.announce(ctx, q); err != nil {
		return sent, errors.Join(failed, err)
	}
	if err := b.store(ctx, q, groups); err != nil {
		return sent, errors.Join(failed, err)
	}
	n := sent
	for i, g := range groups {
		if g.verdict == isStored {
			n++
		}
		if !errors.Is(g.result, broker.ErrDuplicate) {
			failed = errors.Join(failed, g.result)
			continue
		}
		by := of[i].ID
		if conflict, ok := errors.AsType[*broker.DuplicateError](g.result); ok && len(conflict.Runs) > 0 {
			by = conflict.Runs[0].ID
		}
		stayed.Runs = append(stayed.Runs, broker.Duplicate{Index: wanted[of[i].ID], ID: by})
	}
	return n, failed
}

// sendDead puts the run of a dead letter that is for another queue, and never got
// there, into the outbox again.
func (b *Broker) sendDead(ctx context.Context, q *queue, entry string, run *broker.TaskRun) (bool, error) {
	again, err := outboxEntry(run)
	if err != nil {
		return false, err
	}
	out := new(outcome)
	out.step('o', "", again)
	over, _, _, err := b.endAt(ctx, q, q.dead, entry, out)
	return over, err
}
