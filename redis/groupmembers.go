package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// Members of several queues, and those that gather groups of their own, cannot all be stored in
// one step. They go into the outbox of the queue that keeps the group, in the step that makes the
// group stay, and from there each to its queue, as follow-ups do. A member that gathers a group
// stands there with its members: what moves it reserves that group, and sends these members in
// the same way.

// sendsMembers reports whether the members go through the outbox.
func (p *pendingGroup) sendsMembers() bool {
	return p.moves || slices.ContainsFunc(p.runs, func(m *broker.TaskRun) bool {
		return m.Queue != p.q.Name || len(m.Links.Members) > 0
	})
}

// beginSending puts the members into the outbox while the group is reserved, keeps the group,
// and has the outbox moved. It does so once.
func (p *pendingGroup) beginSending(ctx context.Context) error {
	if err := p.b.registerQueue(ctx, p.q); err != nil {
		return err
	}
	gone, err := p.send(ctx)
	switch {
	case err != nil:
		return p.b.fail(ctx, "queue members of group "+p.then.Links.Awaits.ID, p.b.blameIn(ctx, err, p.q, p.key()))
	case gone:
		return p.notReserved()
	}
	p.b.awaitMove(ctx, p.q)
	return nil
}

// send puts the members into the outbox, and reports whether the group is there no more.
func (p *pendingGroup) send(ctx context.Context) (gone bool, err error) {
	entries := make([]any, len(p.runs))
	for i, m := range p.runs {
		if entries[i], err = outboxEntry(m); err != nil {
			return false, err
		}
	}
	var v any
	err = p.b.clients.WhileLoading(ctx, func() (err error) {
		v, err = p.do(ctx, &script.GroupArgs{Action: "send", Token: p.token}, entries...)
		return err
	})
	if err != nil {
		return false, err
	}
	return script.ParseSendGroup(v)
}

// moveGroup moves the entry of a run that gathers a group: it stores the group and the pending
// run, and sends the members. Each step is done once, however often it is repeated.
func (m *moving) moveGroup(ctx context.Context, entry string, run *broker.TaskRun) {
	p, err := m.b.movedGroup(entry, run)
	if err != nil {
		m.bury(ctx, entry, err)
		return
	}
	if m.isDown(p.q) || m.isDown(p.to) {
		m.stay(1, nil)
		return
	}
	over, at, err := m.storeGroup(ctx, p, entry)
	switch {
	case errors.Is(err, broker.ErrDuplicate), err != nil && refusesOne(err) && (tooLong(err) || m.isGroupToBlame(ctx, p)):
		m.giveUpGroup(ctx, p, entry, err)
		return
	case err != nil:
		m.stayDown(at, fmt.Errorf("group %s: %w", run.Links.Awaits.ID, err))
		return
	case !over:
		return
	}
	keys := []string{p.q.Moved(p.token)}
	if err := m.remove(ctx, &sending{to: p.q, moved: keys}, []string{entry}); err != nil {
		m.stay(1, err)
		return
	}
	_ = m.b.keepMoved(ctx, append(keys, p.pending.keys()[script.PendingMoved]), movedKept) // after an error they stay for longer
	m.noteSent(p.q)
}

// movedGroup makes the group of an entry.
func (b *Broker) movedGroup(entry string, run *broker.TaskRun) (*pendingGroup, error) {
	then, links := *run, *run.Links
	links.Members = nil
	then.Links = &links
	q, err := b.queue(links.Awaits.Queue)
	if err != nil {
		return nil, err
	}
	to, err := b.queue(then.Queue)
	if err != nil {
		return nil, err
	}
	p := &pendingGroup{b: b, q: q, to: to, then: &then, runs: run.Links.Members, token: tokenOf(entry), moves: true}
	return p, p.init()
}

// storeGroup does the steps but for the last, which removes the entry. It returns false if the
// entry stays for now, or is already removed. An error is of the queue that it returns.
func (m *moving) storeGroup(ctx context.Context, p *pendingGroup, entry string) (over bool, at *queue, err error) {
	for _, q := range []*queue{p.q, p.to} {
		if err := m.b.registerQueue(ctx, q); err != nil {
			return false, q, err
		}
	}
	if over, err = p.reserve(ctx, len(p.runs), p.entry, groupKept); over || err != nil {
		return over, p.q, err
	}
	v, err := m.b.repeat(ctx, m.b.scripts.Pending, m.b.clients.Work, p.pending.keys(), p.pendingArgs()...)
	if err != nil {
		return false, p.to, err
	}
	reply := script.ParsePending(v)
	if reply.Undecided {
		m.stay(1, nil) // a recovery decides the large call that is in the way
		return false, nil, nil
	}
	if holder := p.holderIn(reply); holder != nil {
		m.skipGroup(ctx, p, entry, holder)
		return false, nil, nil
	}
	_, err = p.send(ctx) // if the group is gone, its run was cancelled
	return err == nil, p.q, err
}

// skipGroup ends a run that gathers a group as a duplicate, and drops the group.
func (m *moving) skipGroup(ctx context.Context, p *pendingGroup, entry string, holder *broker.Duplicate) {
	why := &broker.DuplicateError{Runs: []broker.Duplicate{*holder}}
	failure := &broker.Failure{Kind: broker.FailureDuplicate, Message: holder.ID}
	out := new(outcome)
	m.endMember(out, entry, p.then, failure)
	if !m.apply(ctx, entry, out) {
		return // without its group the entry would count as moved
	}
	m.b.skipped.note(p.then, why)
	m.b.recordUnqueued(ctx, p.to, p.then, failure)
	p.drop(ctx)
}

// drop drops a group that was reserved, and the pending run. After an error they expire.
func (p *pendingGroup) drop(ctx context.Context) {
	_, _ = p.do(ctx, &script.GroupArgs{Action: "drop", Token: p.token})
	_ = p.pending.decide(ctx, "drop")
}

// isGroupToBlame reports whether a key of the group or of the run that awaits it is of a wrong
// type.
func (m *moving) isGroupToBlame(ctx context.Context, p *pendingGroup) bool {
	pipe := m.b.clients.Work.Pipeline()
	ofGroup := pipe.Type(ctx, p.key())
	var types []conn.Reply[string]
	for i, key := range p.pending.keys() {
		if key != p.to.Pending && i != script.PendingMoved {
			types = append(types, pipe.Type(ctx, key))
		}
	}
	if m.b.clients.ReadAll(ctx, pipe) != nil {
		return false
	}
	wrong := func(t conn.Reply[string], want string) bool { return t.Val() != "none" && t.Val() != want }
	return wrong(ofGroup, "hash") || slices.ContainsFunc(types, func(t conn.Reply[string]) bool { return wrong(t, "string") })
}

// giveUpGroup makes a dead letter of an entry whose group or pending run cannot be stored.
func (m *moving) giveUpGroup(ctx context.Context, p *pendingGroup, entry string, why error) {
	if m.giveUp(ctx, p.to, entry, p.then, m.b.blameIn(ctx, why, p.q, p.key(), p.q.Outbox)) {
		p.drop(ctx)
	}
}

// endElsewhere ends the member of a group that another queue keeps. To repeat it changes nothing.
func (m *moving) endElsewhere(ctx context.Context, entry string) {
	ended, err := wire.ParseEnded(entry)
	var to *queue
	if err == nil {
		to, err = m.b.queue(ended.Queue)
	}
	if err != nil {
		m.bury(ctx, entry, err)
		return
	}
	if m.isDown(to) {
		m.stay(1, nil)
		return
	}
	out := new(outcome)
	out.add(script.OpEndMember, to.Group(ended.Group), ended.Member, ended.How)
	reply, _, err := m.b.endAt(ctx, to, to.Outbox, "", out)
	if err != nil {
		m.stayDown(to, fmt.Errorf("end member %d of group %s: %w", ended.Member, ended.Group, err))
		return
	}
	if _, err := m.b.clients.Work.LRem(ctx, m.from.Outbox, 1, entry); err != nil {
		m.stay(1, err)
		return
	}
	if reply.Sent {
		m.noteSent(to)
	}
}

// forgetElsewhere forgets a group that another queue keeps. To repeat it changes nothing.
func (m *moving) forgetElsewhere(ctx context.Context, entry string) {
	name, group, err := wire.ParseGathered(entry)
	var to *queue
	if err == nil {
		to, err = m.b.queue(name)
	}
	if err != nil {
		m.bury(ctx, entry, err)
		return
	}
	if m.isDown(to) {
		m.stay(1, nil)
		return
	}
	args := new(script.ForgetGroupArgs).Append(nil)
	if _, err = m.b.repeat(ctx, m.b.scripts.ForgetGroup, m.b.clients.Work, []string{to.Group(group)}, args...); err != nil {
		m.stayDown(to, fmt.Errorf("forget group %s: %w", group, err))
		return
	}
	if _, err := m.b.clients.Work.LRem(ctx, m.from.Outbox, 1, entry); err != nil {
		m.stay(1, err)
	}
}

// noteSent has the outbox of a queue moved, as there are new entries in it.
func (m *moving) noteSent(q *queue) {
	if q != m.from {
		q.mover.start()
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.added = true
}
