package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// outcome is what became of one delivery, as the finish script takes it.
type outcome struct {
	run   *broker.TaskRun
	at    *receipt
	steps string // as the script has them; empty: the run is only forgotten
	keys  []string
	args  []any

	// Without steps: the record of a run that has one, what is to be in it and
	// for how many milliseconds.
	record string
	value  []byte
	keep   int64
}

// finishing is one call's outcomes in one queue.
type finishing struct {
	outcomes []*outcome
	fenced   []*broker.TaskRun
	doubted  []*broker.TaskRun // of these, those that an earlier try may have finished
	again    []*slotOutcomes   // instead of outcomes: what was applied before, and forgotten by the server
	err      error
}

// Finish applies outcomes, in one command a queue, which concurrent calls
// share. An error in one queue does not keep it from the others; outcomes that
// were applied by a call that returned an error are not fenced when it is
// repeated, unless it was their reply that was lost.
func (s *session) Finish(ctx context.Context, outcomes ...broker.Outcome) (fenced []*broker.TaskRun, err error) {
	var (
		holds []*hold
		calls []*finishing
		made  = s.b.outcomes(len(outcomes))
	)
	for i := range outcomes {
		if outcomes[i].Run == nil {
			return nil, fmt.Errorf("finish run: outcome %d has no run", i)
		}
		at, ok := outcomes[i].Run.Receipt.(*receipt)
		if !ok || at.session != s {
			fenced = append(fenced, outcomes[i].Run)
			continue
		}
		if err := made[i].encode(at, outcomes[i].Storable()); err != nil {
			return nil, fmt.Errorf("finish run %s: %w", outcomes[i].Run.ID, err)
		}
		n := slices.Index(holds, at.slot.hold)
		if n < 0 {
			n = len(holds)
			holds = append(holds, at.slot.hold)
			calls = append(calls, &finishing{outcomes: make([]*outcome, 0, len(outcomes)-i)})
		}
		calls[n].outcomes = append(calls[n].outcomes, &made[i])
		if o := &outcomes[i]; o.ForOthers && o.Verdict == broker.Retry && o.Delay > 0 {
			s.noteParked(at.slot.hold, o.Delay) // before the script, whose effect a take may see before its reply
		}
	}
	errs := make([]error, len(holds))
	each(holds, func(i int, h *hold) {
		f := calls[i]
		if err := h.finish.do(ctx, s.b, f, 0); err != nil {
			errs[i] = fmt.Errorf("finish runs of queue %s: %w", h.q.name, err)
			return
		}
		errs[i] = f.err
	})
	if err := errors.Join(errs...); err != nil {
		for i := range holds {
			if errs[i] == nil {
				s.noteUntold(calls[i])
			}
		}
		return nil, err
	}
	for _, f := range calls {
		fenced = append(fenced, f.fenced...)
	}
	s.keepSpared(ctx, outcomes, fenced)
	clear(made)
	s.b.made.Put(&made) // after an error a command may still be using it
	for i := range outcomes {
		if o := &outcomes[i]; o.Run.Links != nil && o.Run.Links.Gathers.Group != "" && !slices.Contains(fenced, o.Run) {
			s.b.gathered(ctx, o.Storable())
		}
	}
	return fenced, nil
}

// outcomes returns memory for n outcomes.
func (b *Broker) outcomes(n int) []outcome {
	if made, ok := b.made.Get().(*[]outcome); ok && cap(*made) >= n {
		return (*made)[:n]
	}
	return make([]outcome, n)
}

// noteUntold keeps in mind what a call applied that returns an error because of
// another queue.
func (s *session) noteUntold(f *finishing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range f.outcomes {
		if slices.Contains(f.fenced, o.run) {
			continue
		}
		if o.at.slot.untold == nil {
			o.at.slot.untold = map[int]bool{}
		}
		o.at.slot.untold[o.at.index] = true
	}
}

// encode makes a script's steps of what became of a run.
func (out *outcome) encode(at *receipt, o *broker.Outcome) error {
	run, q := o.Run, at.slot.hold.q
	out.run, out.at = run, at
	if run.Queue != q.name {
		return fmt.Errorf("it was taken from queue %q and is of queue %q now", q.name, run.Queue)
	}
	if o.Verdict == broker.Retry {
		return out.retry(q, o)
	}
	return out.over(q, o)
}

// over makes the steps of a run's end.
func (out *outcome) over(q *queue, o *broker.Outcome) error {
	run := o.Run
	out.free(q, run)
	if o.Verdict == broker.Dead {
		entry := appendFailure(make([]byte, 0, 256+len(run.Payload)), o.Failure)
		entry, err := appendElement(entry, run)
		if err != nil {
			return err
		}
		out.step('x', "", entry)
	}
	state, result := broker.StateFailed, []byte(nil)
	if o.Verdict == broker.Succeeded {
		state, result = broker.StateSucceeded, o.Result
		if err := out.next(o.Next); err != nil {
			return err
		}
	}
	links := run.Links.OrZero()
	if run.Keep <= 0 && links.Group == "" {
		return nil
	}
	record := appendRecord(startRecord(nil, state), run, result, o.Failure)
	if links.Group != "" {
		out.step('g', q.group(links.Group), links.Member, memberEntry(run.ID, record))
	}
	if run.Keep > 0 {
		out.end(q, run.ID, run.Keep, record)
	}
	return nil
}

// free gives back what a run held: its id, its unique key, its places at limits.
func (out *outcome) free(q *queue, run *broker.TaskRun) {
	if run.OwnID {
		out.step('i', q.owner(run.ID))
	}
	if run.Rules != nil && run.Rules.Unique != "" {
		out.step('u', q.unique(run.Rules.Unique), run.ID)
	}
	if held(run) {
		out.step('l', "")
	}
}

// unlessCancelled has the end of the run come instead of the steps that follow,
// if it was asked for. Scripts put the failure behind the records.
func (out *outcome) unlessCancelled(q *queue, at *receipt, run *broker.TaskRun) {
	var end outcome
	end.free(q, run)
	record := openRecord(startRecord(nil, broker.StateFailed), run)
	if links := run.Links.OrZero(); links.Group != "" {
		end.step('g', q.group(links.Group), links.Member, memberEntry(run.ID, record))
	}
	if run.Keep > 0 {
		end.step('e', q.record(run.ID), record, max(millis(run.Keep), 1))
	}
	out.step('c', q.cancels(at.session.id), cancelField(at.slot.number, at.index), len(end.steps))
	out.steps += end.steps
	out.keys, out.args = append(out.keys, end.keys...), append(out.args, end.args...)
}

// retry puts the run back as it is now.
func (out *outcome) retry(q *queue, o *broker.Outcome) error {
	run := o.Run
	if err := run.Validate(); err != nil {
		return err
	}
	element, err := appendElement(make([]byte, 0, 192+len(run.Payload)), run)
	if err != nil {
		return err
	}
	out.at.leavePast(element)
	out.unlessCancelled(q, out.at, run)
	if held(run) {
		out.step('l', "")
	}
	state := broker.StateQueued
	if o.Delay > 0 {
		state = broker.StateDelayed
		out.step('d', "", millis(o.Delay), lane(run), element)
		if o.ForOthers {
			out.step('w', "", lane(run))
		}
	} else {
		out.step('h', "", lane(run), element)
	}
	if run.Keep > 0 {
		out.step('r', q.record(run.ID), letterOf(state), appendRecord(nil, run, nil, o.Failure))
	}
	return nil
}

func (out *outcome) step(letter byte, key string, args ...any) {
	out.steps += string(letter)
	if key != "" {
		out.keys = append(out.keys, key)
	}
	out.args = append(out.args, args...)
}

// end sets the record of a run that has ended, after its other steps. To do only
// that needs none: to do it twice is to do it once.
func (out *outcome) end(q *queue, id string, keep time.Duration, record []byte) {
	out.record, out.value, out.keep = q.record(id), record, max(millis(keep), 1)
	if out.steps != "" {
		out.step('e', out.record, out.value, out.keep)
	}
}

// stepped has the record be set by a step, where there is no batch.
func (out *outcome) stepped() {
	if out.steps == "" && out.record != "" {
		out.step('e', out.record, out.value, out.keep)
	}
}

// unreadable makes a dead letter of an entry's bytes.
func unreadable(at *receipt, q *queue, element []byte, why error) *outcome {
	out := &outcome{at: at}
	failure := &broker.Failure{Kind: "schema", Message: why.Error()}
	out.step('x', "", append(appendFailure(nil, failure), element...))
	h, err := parseHeader(element)
	if err != nil {
		return out
	}
	out.byHeader(q, h, element, appendRecord(startRecord(nil, broker.StateFailed), new(broker.TaskRun), nil, failure))
	return out
}

// byHeader makes the steps of the end of a run of which little more can be read.
func (out *outcome) byHeader(q *queue, h header, element, record []byte) {
	if h.ownID {
		out.step('i', q.owner(string(h.id)))
	}
	if key := h.unique(); key != "" {
		out.step('u', q.unique(key), string(h.id))
	}
	if h.flags&flagLine != 0 {
		out.step('l', "")
	}
	if group, member, ok := broker.MemberOf(element[h.size:]); ok {
		out.step('g', q.group(group), member, memberEntry(string(h.id), record))
	}
	if h.record {
		out.end(q, string(h.id), unreadableKept, record)
	}
}

// unreadableKept is how long the record of a run is kept that does not say it
// any more.
const unreadableKept = 24 * time.Hour

// slotOutcomes is what one command applies to one slot.
type slotOutcomes struct {
	slot     *slot
	outcomes []*outcome
	calls    []*finishing // whose each outcome is
	whole    bool         // nothing is left of the slot afterwards
	before   int          // then: how many of its runs earlier commands have finished
	plain    []byte       // a bitmap of those without steps
	lost     bool         // all of those were fenced
	fenced   map[int]bool // by index in the batch, of the others
}

func (g *slotOutcomes) isFenced(o *outcome) bool {
	if o.steps == "" {
		return g.lost
	}
	return g.fenced[o.at.index]
}

// sendOutcomes applies the outcomes of calls in one queue. Commands of one hold
// never overlap, so what the slots say is finished is confirmed.
func (s *session) sendOutcomes(ctx context.Context, h *hold, calls []*finishing) {
	own := s.claim(calls)
	groups := own
	for _, call := range calls {
		groups = append(groups, call.again...)
	}
	if len(groups) == 0 {
		return
	}
	keys, args := s.b.finishing(h.q, len(groups))
	for _, g := range groups {
		keys, args = g.append(h.q, keys, args)
	}
	start := time.Now()
	v, unheard, err := s.b.repeatTold(ctx, s.b.scripts.finish, s.b.clients.lease, readAny, keys, args...)
	var ends ends
	if err == nil {
		ends, err = noteFenced(v, groups)
	}
	s.b.damage.drop(h.q.name, ends.dropped)
	if err != nil {
		if isDamage(err) {
			unheard = true // some may be applied
			s.b.mend(ctx, start, keys...)
		}
		err = s.b.fail(ctx, "finish runs of queue "+h.q.name, err)
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
	s.settle(own, unheard)
	s.b.follow(ctx, h.q, ends)
}

// finishing starts the keys and arguments of the finish script.
func (b *Broker) finishing(q *queue, slots int) (keys []string, args []any) {
	return q.keys(q.flights, q.dead, q.dropped, q.waiters, q.lines, q.turns, q.policy, q.opens, q.held, q.outbox), []any{b.cfg.MaxDead, slots, len(q.record(""))}
}

// ends is what follows from runs that have ended.
type ends struct {
	waiters []any // and ids, of whom to tell
	sent    bool  // something was put into the outbox
	dropped int64 // dead letters beyond the cap
}

// follow does what follows from ends. What they queue is queued when it returns,
// unless that takes long.
func (b *Broker) follow(ctx context.Context, q *queue, e ends) {
	b.tellWaiters(ctx, q, e.waiters)
	if !e.sent {
		return
	}
	over := q.mover.start(b, q)
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
func (s *session) claim(calls []*finishing) []*slotOutcomes {
	s.mu.Lock()
	defer s.mu.Unlock()
	var groups []*slotOutcomes
	for _, call := range calls {
		for _, o := range call.outcomes {
			sl := o.at.slot
			if sl.untold[o.at.index] {
				delete(sl.untold, o.at.index)
				continue
			}
			if sl.gone || sl.done[o.at.index] {
				if o.run != nil {
					call.fenced = append(call.fenced, o.run)
				}
				continue
			}
			g := sl.group
			if g == nil {
				g = &slotOutcomes{slot: sl, outcomes: make([]*outcome, 0, len(call.outcomes)), calls: make([]*finishing, 0, len(call.outcomes))}
				sl.group = g
				groups = append(groups, g)
				sl.busy++
				sl.turn++
			}
			sl.done[o.at.index] = true
			sl.left--
			g.outcomes = append(g.outcomes, o)
			g.calls = append(g.calls, call)
		}
	}
	for _, g := range groups {
		g.whole = g.slot.left == 0
		g.before = len(g.slot.done) - len(g.outcomes)
		g.slot.group = nil
	}
	return groups
}

// unclaim takes back what claim noted of outcomes that were not applied.
func (s *session) unclaim(groups []*slotOutcomes, unheard bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range groups {
		g.slot.busy--
		for _, o := range g.outcomes {
			g.slot.done[o.at.index] = false
			g.slot.left++
			if !unheard {
				continue
			}
			if g.slot.doubts == nil {
				g.slot.doubts = map[int]bool{}
			}
			g.slot.doubts[o.at.index] = true
		}
	}
}

// settle notes what was applied, and hands each call its fenced runs. What was
// fenced because an earlier try had applied it unheard was not lost.
func (s *session) settle(groups []*slotOutcomes, unheard bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range groups {
		sl := g.slot
		sl.busy--
		for i, o := range g.outcomes {
			if !g.isFenced(o) {
				continue
			}
			doubted := unheard || sl.doubts[o.at.index]
			sl.hold.lost = sl.hold.lost || !doubted
			if o.run == nil {
				continue
			}
			call := g.calls[i]
			call.fenced = append(call.fenced, o.run)
			if doubted {
				call.doubted = append(call.doubted, o.run)
			}
		}
		s.ends.remember(g, unheard)
		if sl.left == 0 {
			delete(sl.hold.slots, sl.number)
		}
	}
}

// append adds the slot's part of a finish command.
func (g *slotOutcomes) append(q *queue, keys []string, args []any) ([]string, []any) {
	keys = append(keys, q.batch(g.slot.member), q.done(g.slot.member))
	whole := 0
	if g.whole { // how many were finished before, and one
		whole = 1 + g.before
	}
	at, noted := len(args)+3, 0
	args = append(args, g.slot.member, whole, nil, nil)
	for _, o := range g.outcomes {
		if o.steps != "" {
			continue
		}
		if g.plain == nil {
			g.plain = make([]byte, (len(g.slot.done)+7)/8)
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

// noteFenced reads the reply of the finish script: which runs were fenced, and
// what follows from the others' ends.
func noteFenced(v any, groups []*slotOutcomes) (e ends, err error) {
	reply, ok := v.([]any)
	if !ok || len(reply) != 4 {
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
	return e, nil
}
