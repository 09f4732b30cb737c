package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

const (
	// memberPage is how many members' ends one command reads.
	memberPage = 100
	sizePage   = 1000 // the same for their sizes
)

// pendingGroup is a group on its way into its queue, and the run that awaits it.
type pendingGroup struct {
	b       *Broker
	q, to   *queue // that keeps the group, and the run's own
	then    *broker.TaskRun
	runs    []*broker.TaskRun // the members
	members *enqueueCall      // nil if the members are sent
	pending pendingRun
	token   string
	entry   []byte
	value   []byte // of the pending run's key
	moves   bool   // it has come from an entry of an outbox
}

// QueueGroup queues members, and the run that awaits them. If a live group has the same
// name, the error wraps [broker.ErrDuplicate]. If a producer dies before it has stored the
// members, the rest of its call expires within a minute.
func (b *Broker) QueueGroup(ctx context.Context, then *broker.TaskRun, members ...*broker.TaskRun) error {
	p, err := b.newPendingGroup(then, members)
	if err != nil {
		return fmt.Errorf("queue group: %w", err)
	}
	if p.members != nil && len(p.members.claims.refused) > 0 {
		return b.refuseTwice(ctx, &p.members.claims, members)
	}
	if err := b.clients.WhileLoading(ctx, func() error { return b.registerQueue(ctx, p.to) }); err != nil {
		return err
	}
	if len(members) == 0 {
		return p.gatherNone(ctx)
	}
	if err := p.reserveAll(ctx, len(members)); err != nil {
		return fmt.Errorf("queue group: %w", err)
	}
	err = b.nameLive(ctx, p.q, members, p.begin(ctx))
	if err == nil || errors.Is(err, broker.ErrNotReplicated) {
		_ = p.pending.decide(context.WithoutCancel(ctx), "stay") // after an error the next recovery does it
	} else if p.undo(ctx) && b.cfg.Acknowledge == Memory {
		err = nil // only the reply was lost
	}
	if err != nil {
		return fmt.Errorf("queue group: %w", err)
	}
	return nil
}

// nameLive names the members that were refused because live runs have their ids, if err says that
// some were. An id that is free again by now is not named.
func (b *Broker) nameLive(ctx context.Context, q *queue, members []*broker.TaskRun, err error) error {
	if _, named := errors.AsType[*broker.DuplicateError](err); named || !errors.Is(err, broker.ErrDuplicate) {
		return err
	}
	var owners []conn.Reply[string]
	failed := b.clients.ReadMany(ctx, func(pipe conn.Pipeline) {
		owners = nil
		for _, m := range members {
			if m.OwnID {
				owners = append(owners, pipe.Get(ctx, q.Owner(m.ID)))
			}
		}
	})
	live := new(broker.DuplicateError)
	for i, m := range members {
		if !m.OwnID || failed != nil {
			continue
		}
		if owner := owners[0].Val(); owner != "" && !strings.HasPrefix(owner, "ended:") {
			live.Runs = append(live.Runs, broker.Duplicate{Index: i, ID: m.ID})
		}
		owners = owners[1:]
	}
	if len(live.Runs) == 0 {
		return err
	}
	return live
}

func (b *Broker) newPendingGroup(then *broker.TaskRun, members []*broker.TaskRun) (*pendingGroup, error) {
	q, to, err := b.checkGroup(then, members)
	if err != nil {
		return nil, err
	}
	token, err := newID()
	if err != nil {
		return nil, err
	}
	p := &pendingGroup{b: b, q: q, to: to, then: then, runs: members, token: token}
	if err := p.init(); err != nil || len(members) == 0 || p.sendsMembers() {
		return p, err
	}
	if p.members, err = newEnqueueCall(&q.QueueKeys, members); err != nil {
		return nil, err
	}
	p.members.source = []byte("b" + p.token)
	p.members.owners = append([]string{p.key()}, p.members.owners...)
	p.members.canRetry = true
	return p, nil
}

// init sets what follows from the token and the run that awaits the group.
func (p *pendingGroup) init() error {
	entry, err := entryOf(p.token, p.then)
	if err != nil {
		return err
	}
	if p.value, err = wire.AppendPendingRun(nil, p.token, p.then); err != nil {
		return err
	}
	p.entry = append([]byte(wire.GatheringOpens), entry...)
	p.pending = pendingRun{b: p.b, q: p.to, id: p.then.ID, token: p.token, unique: p.then.Rules.OrZero().Unique}
	return nil
}

// key returns the group's key.
func (p *pendingGroup) key() string { return p.q.Group(p.then.Links.Awaits.ID) }

// reserveAll reserves the group, then stores the run that awaits it in the run's own
// queue. If only the run is there, the members never were stored, and never will be.
func (p *pendingGroup) reserveAll(ctx context.Context, size int) error {
	if _, err := p.reserve(ctx, size, p.entry, groupReserved); err != nil {
		return err
	}
	holder, err := p.keepPending(ctx)
	if err == nil && holder != nil {
		// It may be the pending run of a call that was interrupted.
		if gone, failed := p.b.decidePending(ctx, p.to, holder.ID); failed == nil && gone {
			holder, err = p.keepPending(ctx)
		}
	}
	if err == nil && holder == nil {
		return nil
	}
	p.undo(ctx)
	if err != nil {
		return p.b.fail(ctx, "reserve run "+p.then.ID, err)
	}
	return fmt.Errorf("run %s: %w", p.then.ID, &broker.DuplicateError{Runs: []broker.Duplicate{*holder}})
}

// reserve stores the group, for the given time at first. It reports whether a group that has
// come from an entry of an outbox came before, and is over.
func (p *pendingGroup) reserve(ctx context.Context, size int, entry []byte, d time.Duration) (over bool, err error) {
	after := resultsKept + p.then.Delay + max(time.Until(p.then.Due), 0)
	args := &script.GroupArgs{
		Action: "reserve", Token: p.token, Size: size, Entry: entry,
		Keep: wire.Millis(d), KeepEnded: wire.Millis(after), MovedKept: p.movedKept(),
	}
	var v any
	err = p.b.clients.WhileLoading(ctx, func() (err error) {
		v, err = p.do(ctx, args)
		return err
	})
	var reply script.GroupReply
	if err == nil {
		reply, err = script.ParseReserveGroup(v)
	}
	if err != nil {
		return false, p.b.fail(ctx, "reserve group "+p.then.Links.Awaits.ID, err)
	}
	if reply.Other {
		return false, fmt.Errorf("group %s: %w", p.then.Links.Awaits.ID, broker.ErrDuplicate)
	}
	return reply.Over, nil
}

// do executes the group's script, with entries of members to send.
func (p *pendingGroup) do(ctx context.Context, args *script.GroupArgs, members ...any) (any, error) {
	keys := script.GroupKeys(&p.q.QueueKeys, p.then.Links.Awaits.ID, p.token)
	return p.b.repeat(ctx, p.b.scripts.Group, p.b.clients.Work, keys, append(args.Append(nil), members...)...)
}

// movedKept returns for how long, in ms, is remembered that an entry of an outbox was moved.
func (p *pendingGroup) movedKept() int64 {
	if !p.moves {
		return 0
	}
	return wire.Millis(stayedKept)
}

// keepPending stores the pending run. It returns the live run that is in its way, nil if
// there is none.
func (p *pendingGroup) keepPending(ctx context.Context) (*broker.Duplicate, error) {
	args := p.pendingArgs()
	var reply script.PendingReply
	err := p.b.clients.WhileLoading(ctx, func() error {
		for {
			v, err := p.b.repeat(ctx, p.b.scripts.Pending, p.b.clients.Work, p.pending.keys(), args...)
			if reply = script.ParsePending(v); !reply.Undecided {
				return err
			}
			if err := p.b.awaitStages(ctx, p.to, p.pending.keys()); err != nil {
				return err
			}
		}
	})
	return p.holderIn(reply), err
}

// pendingArgs returns the arguments that store the pending run.
func (p *pendingGroup) pendingArgs() []any {
	args := &script.PendingArgs{
		Action: "reserve", Token: p.token, ID: p.then.ID,
		Value: p.value, OwnID: p.then.OwnID, Keep: wire.Millis(groupKept), Unique: p.pending.unique,
		MovedKept: p.movedKept(),
	}
	if p.then.Keep > 0 { // delayed, until nobody knows when
		args.Record = wire.AppendRecord(wire.StartPending(nil), p.then, nil)
	}
	return args.Append(nil)
}

// holderIn returns the live run that a reply says is in the way of the pending run.
func (p *pendingGroup) holderIn(reply script.PendingReply) *broker.Duplicate {
	switch {
	case reply.Holder != "":
		return &broker.Duplicate{Index: -1, ID: reply.Holder}
	case reply.IDLives:
		return &broker.Duplicate{Index: -1, ID: p.then.ID}
	}
	return nil
}

// begin stores the members while the group is reserved, and keeps the group.
func (p *pendingGroup) begin(ctx context.Context) error {
	if p.members == nil {
		return p.beginSending(ctx)
	}
	err := p.b.clients.WhileLoading(ctx, func() error {
		if err := p.b.registerQueue(ctx, p.q); err != nil {
			return err
		}
		if isLarge(p.runs) {
			return p.b.queueStaged(ctx, p.q, p.runs, p.key(), p.token)
		}
		p.members.result = nil
		return p.b.enqueue(ctx, p.q, p.members, "queue members")
	})
	if err == nil && p.members.status == script.SourceGone {
		return p.notReserved()
	}
	return err
}

func (p *pendingGroup) notReserved() error {
	return fmt.Errorf("%w: group %s is not reserved any more: it took too long, was cancelled, or has ended",
		broker.ErrOutcomeUnknown, p.then.Links.Awaits.ID)
}

// undo drops what was reserved, unless the members are stored, which it reports. Members
// that are still on their way are refused then. After an error the reservation expires,
// and the next recovery decides about the pending run.
func (p *pendingGroup) undo(ctx context.Context) (begun bool) {
	ctx = context.WithoutCancel(ctx)
	v, err := p.do(ctx, &script.GroupArgs{Action: "drop", Token: p.token})
	if err == nil {
		begun, err = script.ParseDropGroup(v)
	}
	if err != nil {
		return false
	}
	if begun {
		_ = p.pending.decide(ctx, "stay")
		return true
	}
	_ = p.pending.decide(ctx, "drop")
	return false
}

// gatherNone queues a run that awaits no members.
func (p *pendingGroup) gatherNone(ctx context.Context) error {
	if _, err := p.reserve(ctx, 0, nil, resultsKept+p.then.Delay+max(time.Until(p.then.Due), 0)); err != nil {
		return fmt.Errorf("queue group: %w", err)
	}
	err := p.b.QueueTasks(ctx, p.then)
	if err != nil && !errors.Is(err, broker.ErrOutcomeUnknown) && !errors.Is(err, broker.ErrNotReplicated) {
		p.b.forgetGroup(context.WithoutCancel(ctx), p.then.Links.Awaits)
	}
	return err
}

// checkGroup returns an error if the runs are no group. It returns the members' queue and
// the queue of the run that awaits them.
func (b *Broker) checkGroup(then *broker.TaskRun, members []*broker.TaskRun) (q, to *queue, err error) {
	if err := broker.CheckGroup(then, members); err != nil {
		return nil, nil, err
	}
	if q, err = b.queue(then.Links.Awaits.Queue); err != nil {
		return nil, nil, err
	}
	to, err = b.queue(then.Queue)
	return q, to, err
}

// Members returns how the members of a group ended. It reads a hundred in each command,
// after it has checked that they are not too large.
func (b *Broker) Members(ctx context.Context, group broker.Group) ([]*broker.Record, error) {
	probe := broker.TaskRun{ID: "-", Task: "-", Queue: group.Queue, Links: &broker.Links{Awaits: group}}
	if err := probe.Validate(); err != nil {
		return nil, fmt.Errorf("read group: %w", err)
	}
	q, err := b.queue(group.Queue)
	if err != nil {
		return nil, fmt.Errorf("read group: %w", err)
	}
	if err := b.measureGroup(ctx, q.Group(group.ID), group); err != nil {
		return nil, err
	}
	members := make([]*broker.Record, group.Size)
	for from := 0; from == 0 || from < group.Size; from += memberPage {
		if err := b.readMembers(ctx, q, group, from, members[from:min(from+memberPage, group.Size)]); err != nil {
			return nil, err
		}
	}
	return members, nil
}

// readMembers reads how a page of the members of a group ended.
func (b *Broker) readMembers(ctx context.Context, q *queue, group broker.Group, from int, page []*broker.Record) error {
	fields := []string{"left"}
	for i := range page {
		fields = append(fields, strconv.Itoa(from+i))
	}
	values, err := b.clients.Work.HMGet(ctx, q.Group(group.ID), fields...)
	if err != nil {
		return b.fail(ctx, "read group "+group.ID, err)
	}
	if values[0] == nil {
		return fmt.Errorf("read group %s: %w", group.ID, broker.ErrNoRecord)
	}
	for i, v := range values[1:] {
		stored, _ := v.(string)
		if page[i], err = wire.ParseMember(q.Name, stored); err != nil {
			return fmt.Errorf("read member %d of group %s: %w", from+i, group.ID, err)
		}
	}
	return nil
}

// measureGroup refuses a group whose members' results are too large.
func (b *Broker) measureGroup(ctx context.Context, key string, group broker.Group) error {
	total := int64(0)
	for from := 0; from < group.Size; from += sizePage {
		pipe := b.clients.Work.Pipeline()
		sizes := make([]conn.Reply[int64], 0, sizePage)
		for i := from; i < min(from+sizePage, group.Size); i++ {
			sizes = append(sizes, pipe.HStrLen(ctx, key, strconv.Itoa(i)))
		}
		if err := b.clients.ReadAll(ctx, pipe); err != nil {
			return b.fail(ctx, "measure group "+group.ID, err)
		}
		for _, size := range sizes {
			total += size.Val()
		}
		if total > broker.MaxGroupResults {
			return fmt.Errorf("read group %s: its first %d members ended with %d bytes, at most %d are gathered: %w",
				group.ID, min(from+sizePage, group.Size), total, broker.MaxGroupResults, broker.ErrGroupTooLarge)
		}
	}
	return nil
}

// keepGroup keeps an ended group for the given time from now on.
func (b *Broker) keepGroup(ctx context.Context, group broker.Group, d time.Duration) {
	if group.ID == "" {
		return
	}
	if q, err := b.queue(group.Queue); err == nil {
		_, _ = b.clients.Work.PExpire(ctx, q.Group(group.ID), d)
	}
}

// forgetGroup forgets how the members ended, as the run that gathers them has ended. After
// an error the group expires, at the latest a year after its end.
func (b *Broker) forgetGroup(ctx context.Context, group broker.Group) {
	if group.ID == "" {
		return
	}
	if q, err := b.queue(group.Queue); err == nil {
		_, _ = b.run(ctx, b.scripts.ForgetGroup, b.clients.Work, []string{q.Group(group.ID)}, new(script.ForgetGroupArgs).Append(nil)...)
	}
}

// cancelGroup forgets a group whose run, of this token, has ended in another way than by the ends of
// the members. It leaves a group of the same name that another run awaits, and one whose run is in
// the outbox. After an error the end of the last member forgets the group, or an audit.
func (b *Broker) cancelGroup(ctx context.Context, group broker.Group, token string) {
	if q, err := b.queue(group.Queue); err == nil {
		args := (&script.ForgetGroupArgs{Token: token}).Append(nil)
		_, _ = b.repeat(ctx, b.scripts.ForgetGroup, b.clients.Work, []string{q.Group(group.ID)}, args...)
	}
}
