package redis

import (
	"context"
	"fmt"
	"github.com/taskgen/taskgen/redis/internal/script"
	"strconv"
	"time"

	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/resp"
)

// sendOutcomes applies the outcomes of calls in one queue. Commands of one hold
// never overlap, so what the slots say is finished is confirmed.
func (s *session) sendOutcomes(ctx context.Context, h *queueLease, calls []*finishCall) {
	own := s.claim(calls)
	groups := own
	for _, call := range calls {
		groups = append(groups, call.again...)
	}
	if len(groups) == 0 {
		return
	}
	keys, args := s.b.finishArgs(h.q, len(groups))
	for _, g := range groups {
		keys, args = g.append(h.q, keys, args)
	}
	start := time.Now()
	v, unheard, err := s.b.repeatKnowing(ctx, s.b.scripts.Finish, s.b.clients.Lease, conn.ReadAny, keys, args...)
	var ends finishEffects
	if err == nil {
		ends, err = parseFinishReply(v, groups)
	}
	if err != nil {
		if conn.IsDamage(err) {
			unheard = true // some may be applied
			s.b.mend(ctx, start, keys...)
		}
		err = s.b.fail(ctx, "finish runs of queue "+h.q.Name, err)
		s.unclaim(own, unheard)
		for _, g := range own {
			for _, call := range g.calls {
				call.err = err
			}
		}
		for _, call := range calls {
			if len(call.again) > 0 {
				call.err = err
			}
		}
		return
	}
	s.b.damage.drop(h.q.Name, ends.dropped)
	if conn.IsDamage(ends.failure) {
		s.b.mend(ctx, start, keys...)
	}
	s.noteApplied(own, unheard)
	for _, call := range calls {
		for _, g := range call.again {
			call.fails(g.anyFailure())
		}
		if call.err != nil {
			s.noteUntold(call)
			call.err = s.b.fail(ctx, "finish runs of queue "+h.q.Name, s.b.blame(ctx, call.err, keys...))
		}
	}
	for _, g := range groups { // an earlier try may have put it there, and its reply was lost
		ends.sent = ends.sent || unheard && g.sends()
	}
	s.b.applyEffects(ctx, h.q, ends)
}

// fails notes why some of the call's outcomes are to be sent again, if they are.
func (f *finishCall) fails(why error) {
	if f.err == nil {
		f.err = why
	}
}

// finishArgs starts the keys and arguments of the finish script.
func (b *Broker) finishArgs(q *queue, slots int) (keys []string, args []any) {
	named := &script.FinishArgs{MaxDead: b.cfg.MaxDead, Slots: slots, BeforeID: len(q.Record(""))}
	return script.FinishKeys(&q.QueueKeys), named.Append(make([]any, 0, 16))
}

// finishEffects is what follows from runs that have ended.
type finishEffects struct {
	waiters []any // who waits and for which run's id, in turn
	sent    bool  // something was put into the outbox
	dropped int64 // dead letters beyond the cap
	failure error // the first that the script reports of an outcome; nil: all were applied
}

// applyEffects does what follows from ends. What they queue is queued when it returns,
// unless that takes long.
func (b *Broker) applyEffects(ctx context.Context, q *queue, e finishEffects) {
	b.notifyWaiters(ctx, q, e.waiters)
	if !e.sent {
		return
	}
	over := q.mover.start()
	if over == nil {
		return
	}
	timer := time.NewTimer(longestFollow)
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// claim sorts outcomes by slot, and fences at once those of which it is known.
func (s *session) claim(calls []*finishCall) []*batchOutcomes {
	s.mu.Lock()
	defer s.mu.Unlock()
	var groups []*batchOutcomes
	for _, call := range calls {
		for _, o := range call.outcomes {
			bt := o.at.batch
			if bt.untold[o.at.index] {
				delete(bt.untold, o.at.index)
				continue
			}
			if bt.gone || bt.done[o.at.index] {
				if o.run != nil {
					call.fenced = append(call.fenced, o.run)
				}
				continue
			}
			g := bt.group
			if g == nil {
				g = &batchOutcomes{batch: bt, outcomes: make([]*outcome, 0, len(call.outcomes)), calls: make([]*finishCall, 0, len(call.outcomes))}
				bt.group = g
				groups = append(groups, g)
				bt.busy++
				bt.turn++
			}
			bt.done[o.at.index] = true
			bt.left--
			g.outcomes = append(g.outcomes, o)
			g.calls = append(g.calls, call)
		}
	}
	for _, g := range groups {
		g.whole = g.batch.left == 0
		g.before = len(g.batch.done) - len(g.outcomes)
		g.batch.group = nil
	}
	return groups
}

// unclaim takes back what claim noted of outcomes that were not applied.
func (s *session) unclaim(groups []*batchOutcomes, unheard bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range groups {
		g.batch.busy--
		for _, o := range g.outcomes {
			g.batch.notApplied(o.at.index, unheard)
		}
	}
}

// notApplied takes back what claim noted of an outcome that was not applied, as far as
// is known, or may have been. The session's lock is held.
func (bt *batch) notApplied(index int, perhaps bool) {
	bt.done[index] = false
	bt.left++
	if !perhaps {
		return
	}
	if bt.doubts == nil {
		bt.doubts = map[int]bool{}
	}
	bt.doubts[index] = true
}

// noteApplied notes what was applied, and hands each call its fenced runs and an error
// if some of its outcomes failed. What was fenced because an earlier try had applied it
// unheard was not lost.
func (s *session) noteApplied(groups []*batchOutcomes, unheard bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range groups {
		bt := g.batch
		bt.busy--
		for i, o := range g.outcomes {
			call := g.calls[i]
			if err := g.failure(o); err != nil {
				call.fails(err)
				call.failed = append(call.failed, o.run)
				bt.notApplied(o.at.index, g.stays != nil)
				continue
			}
			if !g.isFenced(o) {
				continue
			}
			doubted := unheard || bt.doubts[o.at.index]
			bt.lease.lost = bt.lease.lost || !doubted
			if o.run == nil {
				continue
			}
			call.fenced = append(call.fenced, o.run)
			if doubted {
				call.doubted = append(call.doubted, o.run)
			}
		}
		if !s.brief {
			s.finished.remember(g, unheard, remembered*s.lease)
		}
		if bt.left == 0 {
			delete(bt.lease.batches, bt.number)
		}
	}
}

// append adds the slot's part of a finish command.
func (g *batchOutcomes) append(q *queue, keys []string, args []any) ([]string, []any) {
	keys = append(keys, q.Batch(g.batch.member), q.Done(g.batch.member))
	whole := 0
	if g.whole { // how many were finished before, and one
		whole = 1 + g.before
	}
	at, noted := len(args)+3, 0
	args = append(args, g.batch.member, whole, nil, nil)
	for _, o := range g.outcomes {
		if o.steps != "" {
			continue
		}
		if g.plain == nil {
			g.plain = make([]byte, (len(g.batch.done)+7)/8)
		}
		g.plain[o.at.index/8] |= 0x80 >> (o.at.index % 8)
		if o.record != "" {
			noted++
			keys, args = append(keys, o.record), append(args, o.value, o.keep)
		}
	}
	args[at-1], args[at] = g.plain, noted
	at = len(args)
	args = append(args, nil)
	others := 0
	for _, o := range g.outcomes {
		if o.steps == "" {
			continue
		}
		others++
		keys = append(keys, o.keys...)
		args = append(append(args, o.at.index, o.steps), o.args...)
	}
	args[at] = others
	return keys, args
}

// parseFinishReply reads the reply of the finish script: which runs were fenced, and
// what follows from the others' ends.
func parseFinishReply(v any, groups []*batchOutcomes) (e finishEffects, err error) {
	reply, ok := v.([]any)
	if !ok || len(reply) != 5 {
		return e, fmt.Errorf("unexpected reply %T of the finish script", v)
	}
	fenced, _ := reply[0].([]any)
	for i := 0; i+1 < len(fenced); i += 2 {
		n, _ := fenced[i].(int64)
		index, _ := fenced[i+1].(int64)
		if n < 1 || int(n) > len(groups) {
			return e, fmt.Errorf("unexpected slot %s in the reply of the finish script", strconv.FormatInt(n, 10))
		}
		g := groups[n-1]
		if index < 0 {
			g.lost = true
			continue
		}
		if g.fenced == nil {
			g.fenced = map[int]bool{}
		}
		g.fenced[int(index)] = true
	}
	e.waiters, _ = reply[1].([]any)
	sent, _ := reply[2].(int64)
	e.sent = sent > 0
	e.dropped, _ = reply[3].(int64)
	failures, _ := reply[4].([]any)
	for i := 0; i+2 < len(failures); i += 3 {
		n, _ := failures[i].(int64)
		index, _ := failures[i+1].(int64)
		text, _ := failures[i+2].(string)
		if n < 0 || int(n) > len(groups) {
			return e, fmt.Errorf("unexpected slot %d of a failure in the reply of the finish script", n)
		}
		err := resp.Error(text)
		if e.failure == nil {
			e.failure = err
		}
		switch {
		case n == 0:
		case index < 0:
			groups[n-1].stays = err
		default:
			groups[n-1].fail(int(index), err)
		}
	}
	return e, nil
}
