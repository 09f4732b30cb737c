package redis

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

const (
	// cancelKept is how long a cancellation of a run in flight is kept, from the last
	// heartbeat of its session.
	cancelKept = 24 * time.Hour
	// cancelPage is how many batches in flight one command searches.
	cancelPage = 50
	// Cancel searches cancelLooks times for a run that it does not find, and cancelMoves
	// times for one that moves when it is found: a run can move to a place that was
	// searched already.
	cancelLooks, cancelMoves = 2, 20
)

// Cancel ends a run with the given failure. It searches all runs that wait, a thousand or
// a mebibyte in each command. If a session holds the run, Cancel only notes for the
// session that this delivery is to end. It returns [broker.ErrNoRecord] if there is no
// such run.
func (b *Broker) Cancel(ctx context.Context, queueName, id string, failure broker.Failure) error {
	probe := broker.TaskRun{ID: id, Task: "-", Queue: queueName}
	if err := probe.Validate(); err != nil {
		return fmt.Errorf("cancel run: %w", err)
	}
	q, err := b.queue(queueName)
	if err != nil {
		return fmt.Errorf("cancel run: %w", err)
	}
	c := &cancelling{b: b, q: q, id: id, failure: failure}
	switch found, err := c.searchPatiently(ctx); {
	case found:
		return nil
	case err != nil:
		return b.fail(ctx, "cancel run "+id, b.blameIn(ctx, err, q, q.Record(id), q.Owner(id), q.PendingRun(id)))
	case c.doubt:
		return nil // it was found, and a command whose reply was lost has ended it
	}
	return broker.ErrNoRecord // the caller knows which run it asked for
}

// searchPatiently searches a run that has not ended as often as it takes, and reports whether it
// found and cancelled the run.
func (c *cancelling) searchPatiently(ctx context.Context) (found bool, err error) {
	over, err := c.isOver(ctx)
	for look := 0; err == nil && !over && look < cancelLooks; {
		if found, err = c.search(ctx); err == nil && found {
			return true, nil
		}
		if c.moved > 0 && c.moved <= cancelMoves {
			c.moved++
		} else {
			look++
		}
	}
	return false, err
}

// cancelling is one call of Cancel.
type cancelling struct {
	b       *Broker
	q       *queue
	id      string
	failure broker.Failure
	moved   int  // how often the run moved after it was found
	doubt   bool // a command whose reply was lost may have ended it
}

// isOver reports whether the run has ended, by its record. Then Cancel need not search it.
func (c *cancelling) isOver(ctx context.Context) (bool, error) {
	pipe := c.b.clients.Work.Pipeline()
	state, owner := pipe.GetRange(ctx, c.q.Record(c.id), 0, 0), pipe.Get(ctx, c.q.Owner(c.id))
	if err := c.b.clients.ReadAll(ctx, pipe); err != nil {
		return false, err
	}
	live := owner.Val() != "" && !strings.HasPrefix(owner.Val(), "ended:")
	return wire.States[firstByte(state.Val())].Ended() && !live, nil
}

func firstByte(s string) byte {
	if s == "" {
		return 0
	}
	return s[0]
}

// search searches the run once: first where runs wait, then where they go.
func (c *cancelling) search(ctx context.Context) (found bool, err error) {
	if found, err = c.endPending(ctx); err != nil || found {
		return found, err
	}
	moved := c.b.seeStaged(ctx, c.q)
	for _, key := range append(c.q.Waits(), c.q.Backlogs) {
		entry, err := c.find(ctx, key)
		if err != nil {
			return false, err
		}
		if entry == "" {
			continue
		}
		if found, err = c.end(ctx, key, entry); err != nil || found {
			return found, err
		}
	}
	if found, err = c.mark(ctx); err == nil && !found {
		err = moved // the run may be one of these
	}
	return found, err
}

// endPending ends the run if it is pending.
func (c *cancelling) endPending(ctx context.Context) (bool, error) {
	key := c.q.PendingRun(c.id)
	marker, err := c.b.clients.Work.Get(ctx, key)
	pending, ok := wire.ParsePendingRun(marker)
	if err != nil || !ok {
		if conn.IsMissing(err) {
			err = nil
		}
		return false, err
	}
	q, err := c.b.queue(pending.Queue)
	if err != nil {
		return false, err
	}
	entry, err := c.b.clients.Work.HGet(ctx, q.Group(pending.Group), "then")
	stored, there := strings.CutPrefix(entry, wire.GatheringOpens+pending.Token)
	switch {
	case err != nil && !conn.IsMissing(err):
		return false, err
	case there:
		over, doubt, err := c.b.endWaiting(ctx, c.q, key, marker, stored, &c.failure)
		c.doubt = c.doubt || doubt
		if err == nil && (over || doubt) { // it is pending no more
			c.b.cancelGroup(ctx, broker.Group{ID: pending.Group, Queue: pending.Queue}, pending.Token)
		}
		return over, err
	}
	if gone, err := c.b.decidePending(ctx, c.q, c.id); err != nil || gone {
		return gone, err // its group never was stored
	}
	if _, err = c.b.moveOutbox(ctx, q); err != nil { // it is in the outbox
		return false, err
	}
	return c.endLost(ctx, key)
}

// endLost ends the run if it still is pending, though neither the group nor the outbox has it:
// its group is lost.
func (c *cancelling) endLost(ctx context.Context, key string) (bool, error) {
	a := &audit{b: c.b, q: c.q}
	values, err := a.pendingValues(ctx, []string{key})
	if err == nil {
		values, err = a.withoutGroups(ctx, values)
	}
	if err != nil || values[key] == "" {
		return false, err
	}
	p, _ := wire.ParsePendingRun(values[key])
	over, doubt, err := c.b.endWaiting(ctx, c.q, key, values[key], p.Stored, &c.failure)
	c.doubt = c.doubt || doubt
	return over, err
}

// find returns the run's entry in a list or sorted set, "" if it is not there.
func (c *cancelling) find(ctx context.Context, key string) (string, error) {
	before := 0 // bytes before the stored run
	if key == c.q.Backlogs {
		before = wire.BacklogPrefix
	}
	for from := int64(0); ; {
		v, err := c.b.repeat(ctx, c.b.scripts.FindWaiting, c.b.clients.Work, []string{key},
			(&script.FindWaitingArgs{ID: c.id, Looked: from, Before: before}).Append(nil)...)
		if err != nil {
			return "", err
		}
		looked, entry, err := script.ParseFindWaiting(v)
		if err != nil || entry != "" || looked <= 0 {
			return entry, err
		}
		from = looked
		if err := conn.ContextErr(ctx); err != nil {
			return "", err
		}
	}
}

// end ends the run if its entry is still where it was found.
func (c *cancelling) end(ctx context.Context, key, entry string) (bool, error) {
	over, doubt, err := c.b.endWaiting(ctx, c.q, key, entry, c.q.StoredRunOf(key, entry), &c.failure)
	c.doubt = c.doubt || doubt
	if err == nil && !over {
		c.moved++
	}
	return over, err
}

// mark notes that a run is to end, for the session that holds it.
func (c *cancelling) mark(ctx context.Context) (bool, error) {
	batchNames, err := c.b.clients.Work.SMembers(ctx, c.q.InFlight)
	if err != nil {
		return false, err
	}
	failure := wire.AppendFailureFields(nil, &c.failure)
	for from := int64(0); len(batchNames) > 0; {
		page := batchNames[:min(len(batchNames), cancelPage)]
		reply, err := c.markPage(ctx, page, failure, from)
		if err != nil || reply.Found {
			return reply.Found, err
		}
		from = reply.Looked
		batchNames = batchNames[min(reply.Batches, len(page)):]
	}
	return false, nil
}

// markPage is mark for some batches in flight, from a run of the first on.
func (c *cancelling) markPage(ctx context.Context, names []string, failure []byte, from int64) (reply script.CancelInFlightReply, err error) {
	var keys []string
	args := (&script.CancelInFlightArgs{ID: c.id, Failure: failure, Keep: cancelKept.Milliseconds(), Looked: from}).Append(nil)
	for _, name := range names {
		session, number, _ := strings.Cut(name, ":")
		keys = append(keys, c.q.Batch(name), c.q.Done(name), c.q.Cancels(session))
		args = append(args, number)
	}
	v, err := c.b.repeat(ctx, c.b.scripts.CancelInFlight, c.b.clients.Work, keys, args...)
	if err != nil {
		return reply, err
	}
	return script.ParseCancelInFlight(v)
}
