package memory

import (
	"container/heap"
	"context"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// group is runs of one queue that another run is queued after.
type group struct {
	id   string
	of   *queue // its members'
	then *storedRun
	ends []*broker.Record // by member, nil of one that lives; nil once it is forgotten
	left int              // members that live

	lapses instant // once then is a dead letter: when it is forgotten
}

// QueueGroup stores copies of members and of then, as [broker.Groups] says. It returns an
// error that wraps [broker.ErrDuplicate] if the run then, or the group, has the id of a
// live one.
func (b *Broker) QueueGroup(ctx context.Context, then *broker.TaskRun, members ...*broker.TaskRun) error {
	if err := checkGroup(then, members); err != nil {
		return err
	}
	awaited := then.Links.Awaits
	last := copyIn([]*broker.TaskRun{then})
	chunks := copyIn(members)
	if err := b.enter(ctx); err != nil {
		return fmt.Errorf("queue group %s: %w", awaited.ID, err)
	}
	defer b.mu.Unlock()
	now := b.now()
	b.expire(now, 1+len(members))
	q, of := b.queue(then.Queue), b.queue(awaited.Queue)
	if of.groups[awaited.ID] != nil {
		return fmt.Errorf("queue group %s in queue %s: one with this id lives: %w",
			awaited.ID, awaited.Queue, broker.ErrDuplicate)
	}
	if err := q.claim(last, now); err != nil {
		return fmt.Errorf("queue group %s: %w", awaited.ID,
			&broker.DuplicateError{Runs: []broker.Duplicate{{Index: -1, ID: inTheWay(then.ID, err)}}})
	}
	if err := of.claim(chunks, now); err != nil {
		q.unclaim(&last[0][0])
		return fmt.Errorf("queue group %s: %w", awaited.ID, err)
	}
	g := gather(q, of, &last[0][0], len(members))
	of.used = true
	for _, chunk := range chunks {
		for i := range chunk {
			r := chunk[i].getRare()
			r.group, r.member = g, chunk[i].run.Links.Member
			b.place(of, &chunk[i], now)
		}
	}
	b.wake(of, now)
	if len(members) == 0 {
		b.queueGathering(g, now)
	}
	return nil
}

// checkGroup does the checks that need no lock.
func checkGroup(then *broker.TaskRun, members []*broker.TaskRun) error {
	if err := validate([]*broker.TaskRun{then}); err != nil {
		return err
	}
	if err := validate(members); err != nil {
		return err
	}
	g := then.Links.OrZero().Awaits
	if g.ID == "" || g.Size != len(members) {
		return fmt.Errorf("queue group %.64q: run %s gathers a group of %d, and not of the %d there are", g.ID, then.ID, g.Size, len(members))
	}
	for i, r := range members {
		links := r.Links.OrZero()
		if r.Queue != g.Queue || links.Group != g.ID || links.Member != i {
			return fmt.Errorf("queue group %s: run %s is not its member %d in queue %s, but %d of group %.64q in queue %s",
				g.ID, r.ID, i, g.Queue, links.Member, links.Group, r.Queue)
		}
	}
	return nil
}

// gather stores a run that is queued after a new group of n members.
func gather(q, of *queue, e *storedRun, n int) *group {
	g := &group{id: e.run.Links.Awaits.ID, of: of, then: e, ends: make([]*broker.Record, n), left: n}
	r := e.getRare()
	r.awaits, r.waits = g, true
	if r.lock != nil {
		r.lock.timed = false // it is not yet due
	}
	if of.groups == nil {
		of.groups = make(map[string]*group)
	}
	of.groups[g.id] = g
	if q.gathering == nil {
		q.gathering = make(map[*storedRun]bool)
	}
	q.gathering[e] = true
	return g
}

// queueGathering queues the run that awaited a group.
func (b *Broker) queueGathering(g *group, now clock) {
	e := g.then
	q := b.queues[e.run.Queue]
	delete(q.gathering, e)
	e.rare.waits = false
	if l := e.rare.lock; l != nil && e.run.Rules.UniqueFor > 0 {
		l.timed, l.ends = true, now.due(&e.run).plus(e.run.Rules.UniqueFor)
	}
	q.used = true
	e.run.QueuedAt = time.Now().UTC().Round(0) // from when it can expire
	b.place(q, e, now)
	b.wake(q, now)
}

// endMember notes how a member has ended, unless the group is forgotten. If the member
// failed before, and was queued again, only a success counts.
func (b *Broker) endMember(g *group, member int, rec *broker.Record, now clock) {
	if g.ends == nil {
		return
	}
	before := g.ends[member]
	if before == nil || before.State == broker.StateFailed && rec.State == broker.StateSucceeded {
		g.ends[member] = rec
	}
	if before != nil {
		return
	}
	if g.left--; g.left == 0 {
		b.queueGathering(g, now)
	}
}

// forget forgets a group, because the run that awaits it has ended for good.
func (g *group) forget() {
	if g != nil && g.of.groups[g.id] == g {
		delete(g.of.groups, g.id)
		g.ends, g.then = nil, nil
	}
}

// lay keeps a group after the run that awaits it became a dead letter, as that may be
// queued again.
func (b *Broker) lay(g *group, now clock) {
	g.then, g.lapses = nil, now.after(broker.GroupKept)
	heap.Push(&b.expiry, &kept{group: g, ends: g.lapses})
}

// lapsed reports whether a group was kept for long enough.
func (g *group) lapsed(now clock) bool { return g.then == nil && now.until(g.lapses) <= 0 }

// gatherAgain ties a run to the group that it awaited before it was a dead letter.
func (e *storedRun) gatherAgain(g *group, now clock) {
	if g != nil && g.ends != nil && !g.lapsed(now) {
		g.then = e
		e.getRare().awaits = g
	}
}

// joinAgain makes a run the member of its group again that it was before it was a dead
// letter, if the group is still known.
func (e *storedRun) joinAgain(q *queue) {
	links := e.run.Links.OrZero()
	if g := q.groups[links.Group]; g != nil && links.Member < len(g.ends) && g.ends[links.Member] != nil && g.ends[links.Member].State == broker.StateFailed {
		r := e.getRare()
		r.group, r.member = g, links.Member
	}
}

// errTaken is the failure of a member that GetTaskRuns took.
var errTaken = broker.Failure{Kind: broker.FailureFailed, Message: "the run was taken for good, so that it is not known how it ended"}

// sizeOf returns the size in bytes of the records of members.
func sizeOf(ends []*broker.Record) int {
	size := 0
	for _, rec := range ends {
		if rec == nil {
			continue
		}
		if size += len(rec.Result); rec.Failure != nil {
			size += len(rec.Failure.Message) + len(rec.Failure.Stack)
		}
	}
	return size
}

// Members returns how the members of a group ended, as [broker.Groups] says.
func (b *Broker) Members(ctx context.Context, of broker.Group) ([]*broker.Record, error) {
	if err := b.enter(ctx); err != nil {
		return nil, fmt.Errorf("read members of group %.64q: %w", of.ID, err)
	}
	defer b.mu.Unlock()
	q := b.queues[of.Queue]
	if q == nil || q.groups[of.ID] == nil || q.groups[of.ID].lapsed(b.now()) {
		return nil, fmt.Errorf("read members of group %.64q of queue %.64q: %w", of.ID, of.Queue, broker.ErrNoRecord)
	}
	ends := q.groups[of.ID].ends
	if size := sizeOf(ends); size > broker.MaxGroupResults {
		return nil, fmt.Errorf("read members of group %s: they ended with %d bytes, at most %d are gathered: %w",
			of.ID, size, broker.MaxGroupResults, broker.ErrGroupTooLarge)
	}
	recs := make([]*broker.Record, len(ends))
	for i, rec := range ends {
		if rec != nil {
			recs[i] = cloneRecord(rec)
		}
	}
	return recs, nil
}
