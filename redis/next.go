package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// What an end queues may be for a queue on another node, where the step that ends
// cannot store it. So it puts it into the outbox of its own queue, from where
// whoever comes first moves it on: who has ended the run, at once, or the next
// recovery. To move it twice stores it once, or leaves it out once: in its own
// queue the entry is removed in the step that decides, in another a key of the
// entry's tells.

const (
	outboxPage = 100
	// tokenDigits is the length of what makes an entry of the outbox distinct,
	// before the element.
	tokenDigits = 16
	// movedKept is for how long a queue knows that it has got an entry, after that
	// was removed where it came from; stayedKept until that has been done, which
	// it may not be while the node of the one is down.
	movedKept  = 5 * time.Minute
	stayedKept = 7 * 24 * time.Hour
)

// outboxEntry makes an entry of a run that is valid.
func outboxEntry(run *broker.TaskRun) ([]byte, error) {
	token, err := newID()
	if err != nil {
		return nil, err
	}
	return appendElement(append(make([]byte, 0, 256+len(run.Payload)), token...), run)
}

// next queues runs with a success.
func (out *outcome) next(runs []*broker.TaskRun) error {
	for _, run := range runs {
		entry, err := outboxEntry(run)
		if err != nil {
			return fmt.Errorf("next run %.64q: %w", run.ID, err)
		}
		out.step('o', "", entry)
	}
	return nil
}

// moveOn empties the outbox of a queue, and returns how much of it was queued.
func (b *Broker) moveOn(ctx context.Context, q *queue) (int, error) {
	total := 0
	for {
		entries, err := promptly(ctx, b, func(ctx context.Context) ([]string, error) {
			return b.clients.work.LRange(ctx, q.outbox, 0, outboxPage-1).Result()
		})
		if err != nil {
			return total, b.fail(ctx, "read outbox of queue "+q.name, err)
		}
		n, err := b.moveEntries(ctx, q, entries)
		total += n
		if err != nil || len(entries) < outboxPage {
			return total, err
		}
	}
}

// sending is what goes from an outbox to one queue.
type sending struct {
	to      *queue
	runs    []*broker.TaskRun
	entries []string
	groups  []*group
	moved   []string // keys
}

// moveEntries queues entries of an outbox. A queue that cannot be reached does
// not keep those for others back.
func (b *Broker) moveEntries(ctx context.Context, from *queue, entries []string) (int, error) {
	var (
		list []*sending
		to   = map[*queue]*sending{}
		bad  []any
	)
	var failed error
	for _, entry := range entries {
		if strings.HasPrefix(entry, cancelledOpens) {
			failure, element, err := parseCancelled(entry)
			if err != nil {
				bad = append(bad, entry)
				continue
			}
			_, _, err = b.endWaiting(ctx, from, from.outbox, entry, element, failure)
			failed = errors.Join(failed, err)
			continue
		}
		plain := strings.TrimPrefix(entry, gatheringOpens)
		run := new(broker.TaskRun)
		err := errors.New("an entry of the outbox is too short")
		if len(plain) > tokenDigits {
			err = parseElement(new(broker.Decoder), []byte(plain[tokenDigits:]), run)
		}
		var q *queue
		if err == nil {
			q, err = b.queue(run.Queue)
		}
		if err != nil {
			bad = append(bad, entry)
			continue
		}
		if to[q] == nil {
			to[q] = &sending{to: q}
			list = append(list, to[q])
		}
		if err := to[q].add(from, entry, run); err != nil {
			return 0, err
		}
	}
	total := 0
	for _, s := range list {
		n, err := b.send(ctx, from, s)
		total += n
		failed = errors.Join(failed, err)
	}
	if len(bad) > 0 {
		a := &audit{b: b, q: from, report: AuditReport{Mended: true}}
		_, err := a.script(ctx, "bury", []string{from.outbox}, append([]any{0}, bad...)...)
		failed = errors.Join(failed, err)
	}
	if failed != nil {
		return total, b.fail(ctx, "move on outbox of queue "+from.name, failed)
	}
	return total, nil
}

func (s *sending) add(from *queue, entry string, run *broker.TaskRun) error {
	plain, gathers := strings.CutPrefix(entry, gatheringOpens)
	if gathers {
		run.QueuedAt = time.Now() // from when it can expire
	}
	g, err := newGroup(s.to, []*broker.TaskRun{run})
	if err != nil {
		return err
	}
	g.canRetry = true
	if run.Keep > 0 && !gathers {
		g.tick = fmt.Sprintf("%d %s %s", max(millis(run.Keep), 1), run.ID, openLeftOut(startRecord(nil, broker.StateFailed), run))
	}
	switch {
	case gathers && s.to == from:
		g.source = append([]byte{'g'}, plain...)
	case gathers:
		g.source = append([]byte{'p'}, plain[:tokenDigits]...)
	case s.to == from:
		g.source = append([]byte{'o'}, entry...)
	default:
		key := s.to.base + "moved:" + entry[:tokenDigits]
		g.source, g.owners = []byte{'m'}, append([]string{key}, g.owners...)
		s.moved = append(s.moved, key)
	}
	if gathers {
		g.owners = append([]string{s.to.parked(run.ID)}, g.owners...)
	}
	s.runs, s.entries, s.groups = append(s.runs, run), append(s.entries, entry), append(s.groups, g)
	return nil
}

// send queues what goes to one queue, and removes it from the outbox: what was
// stored, now or before, and what is a duplicate.
func (b *Broker) send(ctx context.Context, from *queue, s *sending) (int, error) {
	if err := b.announce(ctx, s.to); err != nil {
		return 0, err
	}
	// Those with an id of their own can exclude each other: one after the other.
	if err := b.store(ctx, s.to, s.groups); err != nil {
		return 0, err
	}
	n := 0
	var over []string
	var failed error
	for i, g := range s.groups {
		switch {
		case g.verdict == isStored:
			n++
			over = append(over, s.entries[i])
		case g.verdict == sourceGone:
			over = append(over, s.entries[i])
		case errors.Is(g.result, broker.ErrDuplicate):
			b.leaveOut(s.runs[i], g.result)
			over = append(over, s.entries[i])
		default:
			failed = errors.Join(failed, g.result)
		}
	}
	if err := b.keepMoved(ctx, s.moved, stayedKept); err != nil {
		return n, errors.Join(failed, err)
	}
	pipe := b.clients.work.Pipeline()
	for _, entry := range over {
		pipe.LRem(ctx, from.outbox, 1, entry)
	}
	if _, err := promptly(ctx, b, pipe.Exec); err != nil {
		return n, errors.Join(failed, err)
	}
	if failed == nil {
		failed = b.keepMoved(ctx, s.moved, movedKept)
	}
	return n, failed
}

// keepMoved has a queue know for a time that it has got entries.
func (b *Broker) keepMoved(ctx context.Context, keys []string, d time.Duration) error {
	if len(keys) == 0 {
		return nil
	}
	pipe := b.clients.work.Pipeline()
	for _, key := range keys {
		pipe.PExpire(ctx, key, d)
	}
	_, err := promptly(ctx, b, pipe.Exec)
	return err
}
