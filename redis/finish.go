package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// Finish applies outcomes. It sends one command for each queue, which concurrent calls share.
// If one queue fails, it applies the outcomes of the others and returns an error. A repeated
// call does not report these as fenced, unless the reply to their command was lost.
func (s *session) Finish(ctx context.Context, outcomes ...broker.Outcome) (done broker.Finished, err error) {
	made := s.b.outcomes(len(outcomes))
	calls, fenced, err := s.encodeOutcomes(outcomes, made)
	if err != nil {
		return broker.Finished{}, err
	}
	errs := s.finishEach(ctx, calls)
	skipped := s.b.skipped.take()
	if err := errors.Join(errs...); err != nil {
		for i, call := range calls {
			if errs[i] == nil {
				s.noteUnreported(call)
			}
		}
		return broker.Finished{Skipped: skipped}, err
	}
	for _, call := range calls {
		fenced = append(fenced, call.fenced...)
	}
	s.keepSpared(ctx, outcomes, fenced)
	clear(made)
	s.b.made.Put(&made) // after an error a command may still be using it
	s.keepGathered(ctx, outcomes, fenced)
	return broker.Finished{Fenced: fenced, Skipped: skipped}, nil
}

// encodeOutcomes makes a call for each queue, of outcomes encoded in made. It returns apart
// the runs that this session does not hold.
func (s *session) encodeOutcomes(outcomes []broker.Outcome, made []outcome) (calls []*finishCall, fenced []*broker.TaskRun, err error) {
	for i := range outcomes {
		o := &outcomes[i]
		if o.Run == nil {
			return nil, nil, fmt.Errorf("finish run: outcome %d has no run", i)
		}
		at, ok := o.Run.Receipt.(*receipt)
		if !ok || at.session != s {
			fenced = append(fenced, o.Run)
			continue
		}
		if err := made[i].encode(at, o); err != nil {
			return nil, nil, fmt.Errorf("finish run %s: %w", o.Run.ID, err)
		}
		n := slices.IndexFunc(calls, func(call *finishCall) bool { return call.lease == at.batch.lease })
		if n < 0 {
			n = len(calls)
			calls = append(calls, &finishCall{lease: at.batch.lease, outcomes: make([]*outcome, 0, len(outcomes)-i)})
		}
		calls[n].outcomes = append(calls[n].outcomes, &made[i])
		if o.ForOthers && o.Verdict == broker.Retry && o.Delay > 0 {
			s.noteHandedBack(at.batch.lease, o.Delay) // before the script, whose effect a take may see before its reply
		}
	}
	return calls, fenced, nil
}

// finishEach sends the calls, all at the same time, and returns the error of each.
func (s *session) finishEach(ctx context.Context, calls []*finishCall) []error {
	errs := make([]error, len(calls))
	each(calls, func(i int, call *finishCall) {
		ql := call.lease
		if err := ql.finish.do(ctx, s.b.clients, call, 0); err != nil {
			errs[i] = fmt.Errorf("finish runs of queue %s: %w", ql.q.Name, err)
			return
		}
		errs[i] = call.err
	})
	return errs
}

// keepGathered keeps each group for so long that another queue keeps and the run that gathers it
// is a dead letter. After an error the group is kept for longer.
func (s *session) keepGathered(ctx context.Context, outcomes []broker.Outcome, fenced []*broker.TaskRun) {
	for i := range outcomes {
		o := &outcomes[i]
		if o.Verdict == broker.Dead && o.Run.Links != nil && o.Run.Links.Awaits.Queue != o.Run.Queue && !slices.Contains(fenced, o.Run) {
			s.b.keepGroup(ctx, o.Run.Links.Awaits, broker.GroupKept)
		}
	}
}

// outcomes returns memory for n outcomes.
func (b *Broker) outcomes(n int) []outcome {
	if made, ok := b.made.Get().(*[]outcome); ok && cap(*made) >= n {
		return (*made)[:n]
	}
	return make([]outcome, n)
}

// noteUnreported keeps the applied outcomes of a call that returns an error because of
// another queue or outcome: a repeated call does not fence them.
func (s *session) noteUnreported(call *finishCall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range call.outcomes {
		bt := o.at.batch
		if !bt.done[o.at.index] || slices.Contains(call.fenced, o.run) {
			continue
		}
		set(&bt.unreported, o.at.index, true)
	}
}

// encode makes the operations of an outcome.
func (out *outcome) encode(at *receipt, o *broker.Outcome) error {
	run, q := o.Run, at.batch.lease.q
	out.run, out.at = run, at
	if run.Queue != q.Name {
		return fmt.Errorf("it was taken from queue %q and is of queue %q now", q.Name, run.Queue)
	}
	if o.Verdict == broker.Retry {
		return out.retry(q, o)
	}
	return out.endRun(q, o)
}

// endRun makes the operations of a run's end.
func (out *outcome) endRun(q *queue, o *broker.Outcome) error {
	run := o.Run
	out.freeHeld(q, run)
	if o.Verdict == broker.Dead {
		if err := out.bury(run, o.Failure); err != nil {
			return err
		}
	}
	state, result := broker.StateFailed, []byte(nil)
	passed := false // its place in a group, to a follow-up
	if o.Verdict == broker.Succeeded {
		state, result = broker.StateSucceeded, o.Result
		var err error
		if passed, err = out.next(run, o.Next); err != nil {
			return err
		}
	}
	out.gathered(q, run, o.Verdict)
	isMember := run.Links != nil && run.Links.Group != "" && !passed
	if run.Keep <= 0 && !isMember {
		return nil
	}
	now := time.Now()
	if isMember {
		record, err := endRecord(state, now, wire.AsMember(run), result, o)
		if err != nil {
			return err
		}
		out.endMemberOf(q, run, record)
	}
	if run.Keep > 0 {
		record, err := endRecord(state, now, run, result, o)
		if err != nil {
			return err
		}
		out.endRecord(q, run.ID, run.Keep, record)
	}
	return nil
}

// endRecord returns the record of a run that an outcome has ended.
func endRecord(state broker.State, at time.Time, run *broker.TaskRun, result []byte, o *broker.Outcome) ([]byte, error) {
	record := wire.StartRecordAt(nil, state, at)
	if successors := o.Call.OrZero().Successors; len(successors) > 0 && state == broker.StateSucceeded {
		return wire.AppendReplaced(record, run, successors)
	}
	return wire.AppendEnd(record, run, result, o.Failure), nil
}

// failedRecord returns the record of a run that has failed now.
func failedRecord(run *broker.TaskRun, failure *broker.Failure) []byte {
	return wire.AppendEnd(wire.StartRecordAt(nil, broker.StateFailed, time.Now()), run, nil, failure)
}

// bury adds the operation that makes a dead letter of the run.
func (out *outcome) bury(run *broker.TaskRun, failure *broker.Failure) error {
	entry := wire.AppendFailure(make([]byte, 0, 256+len(run.Payload)), failure)
	entry, err := wire.AppendRun(entry, run)
	if err == nil {
		out.add(script.OpBury, "", entry)
	}
	return err
}

// freeHeld adds the operations that free what a run held: its id, its unique key, its places at
// limits.
func (out *outcome) freeHeld(q *queue, run *broker.TaskRun) {
	if run.OwnID {
		out.add(script.OpFreeID, q.Owner(run.ID))
	}
	if run.Rules != nil && run.Rules.Unique != "" {
		out.add(script.OpFreeUnique, q.Unique(run.Rules.Unique), run.ID)
	}
	if wire.CountsAtLimits(run) {
		out.add(script.OpReleaseLimits, "")
	}
}

// ifCancelled adds an operation that ends the run if it was cancelled, instead of the operations
// behind it. The script adds the failure to the records.
func (out *outcome) ifCancelled(q *queue, at *receipt, run *broker.TaskRun) {
	var end outcome
	end.freeHeld(q, run)
	now := time.Now()
	if run.Links != nil && run.Links.Group != "" {
		end.endMemberOf(q, run, wire.OpenRecord(wire.StartRecordAt(nil, broker.StateFailed, now), wire.AsMember(run)))
	}
	end.gathered(q, run, broker.Dropped)
	if run.Keep > 0 {
		record := wire.OpenRecord(wire.StartRecordAt(nil, broker.StateFailed, now), run)
		end.add(script.OpEndRecord, q.Record(run.ID), record, max(wire.Millis(run.Keep), 1))
	}
	out.add(script.OpIfCancelled, q.Cancels(at.session.id), wire.CancelField(at.batch.number, at.index), len(end.operations))
	out.operations += end.operations
	out.keys, out.args = append(out.keys, end.keys...), append(out.args, end.args...)
}

// retry makes the operations that put the run back as it is now.
func (out *outcome) retry(q *queue, o *broker.Outcome) error {
	run := o.Run
	if err := run.Validate(); err != nil {
		return err
	}
	stored, err := wire.AppendRun(make([]byte, 0, 192+len(run.Payload)), run)
	if err != nil {
		return err
	}
	out.at.keepPast(stored)
	out.ifCancelled(q, out.at, run)
	if wire.CountsAtLimits(run) {
		out.add(script.OpReleaseLimits, "")
	}
	state := out.requeue(o, stored)
	if run.Keep > 0 {
		out.add(script.OpRecord, q.Record(run.ID), wire.LetterOf(state), wire.AppendRecord(nil, run, o.Failure))
	}
	return nil
}

// requeue adds the operations that put a stored run back, and returns its state there.
func (out *outcome) requeue(o *broker.Outcome, stored []byte) broker.State {
	list := wire.ReadyList(o.Run)
	if o.Delay <= 0 {
		out.add(script.OpReady, "", list, stored)
		return broker.StateQueued
	}
	out.add(script.OpDelay, "", wire.Millis(o.Delay), list, stored)
	if o.ForOthers {
		out.add(script.OpWake, "", list)
	}
	return broker.StateDelayed
}

func (out *outcome) add(letter byte, key string, args ...any) {
	out.operations += string(letter)
	if key != "" {
		out.keys = append(out.keys, key)
	}
	out.args = append(out.args, args...)
}

// endRecord sets the record of a run that has ended. It is called after the other operations
// are added. An outcome that only sets a record needs no operation, as it may be set twice.
func (out *outcome) endRecord(q *queue, id string, keep time.Duration, record []byte) {
	out.record, out.value, out.keep = q.Record(id), record, max(wire.Millis(keep), 1)
	if out.operations != "" {
		out.add(script.OpEndRecord, out.record, out.value, out.keep)
	}
}

// recordAsOperation sets the record by an operation: a run without a batch has no other way.
func (out *outcome) recordAsOperation() {
	if out.operations == "" && out.record != "" {
		out.add(script.OpEndRecord, out.record, out.value, out.keep)
	}
}

// unreadable makes a dead letter of the bytes of an entry.
func unreadable(at *receipt, q *queue, stored []byte, why error) *outcome {
	out := &outcome{at: at}
	failure := &broker.Failure{Kind: broker.FailureSchema, Message: why.Error()}
	out.add(script.OpBury, "", append(wire.AppendFailure(nil, failure), stored...))
	h, err := wire.ParseHeader(stored)
	if err != nil {
		return out
	}
	out.byHeader(q, h, stored, failedRecord(new(broker.TaskRun), failure))
	return out
}

// byHeader makes the operations of the end of a run of which only the header can be read.
func (out *outcome) byHeader(q *queue, h wire.Header, stored, record []byte) {
	if h.OwnID {
		out.add(script.OpFreeID, q.Owner(string(h.ID)))
	}
	if key := h.Unique(); key != "" {
		out.add(script.OpFreeUnique, q.Unique(key), string(h.ID))
	}
	if h.Flags&wire.FlagWaits != 0 {
		out.add(script.OpReleaseLimits, "")
	}
	out.endMember(q, h, stored, record)
	if h.Record {
		out.endRecord(q, string(h.ID), unreadableKept, record)
	}
}

// endMember adds the operation that ends a stored run as the member of a group, if it is one.
// It reports whether it is.
func (out *outcome) endMember(q *queue, h wire.Header, stored, record []byte) bool {
	home, group, member, ok := new(broker.Decoder).Member(stored[h.Size:])
	if ok {
		out.endPlace(q, home, group, member, wire.AppendMember(string(h.ID), record))
	}
	return ok
}

// endMemberOf adds the operation that ends a run of the queue as the member of its group.
func (out *outcome) endMemberOf(q *queue, run *broker.TaskRun, record []byte) {
	out.endPlace(q, run.GroupQueue(), run.Links.Group, run.Links.Member, wire.AppendMember(run.ID, record))
}

// endPlace adds the operation that ends a place in a group, or that has the outbox end it in the
// queue that keeps the group.
func (out *outcome) endPlace(q *queue, home, group string, member int, ended []byte) {
	if home == q.Name {
		out.add(script.OpEndMember, q.Group(group), member, ended)
		return
	}
	out.add(script.OpSend, "", wire.AppendEnded(nil, home, group, member, ended))
}

// gathered adds the operation that forgets the group that the run gathered, or keeps it for as long
// as that may be queued again as a dead letter.
func (out *outcome) gathered(q *queue, run *broker.TaskRun, verdict broker.Verdict) {
	if run.Links == nil || run.Links.Awaits.ID == "" {
		return
	}
	group := run.Links.Awaits
	switch {
	case group.Queue == q.Name && verdict == broker.Dead:
		out.add(script.OpKeepGroup, q.Group(group.ID), broker.GroupKept.Milliseconds())
	case group.Queue == q.Name:
		out.add(script.OpKeepGroup, q.Group(group.ID), 0)
	case verdict != broker.Dead: // else keepGathered keeps it
		out.add(script.OpSend, "", wire.AppendGathered(nil, group.Queue, group.ID))
	}
}

// unreadableKept is how long the record of an unreadable run is kept: its own Keep cannot be
// read.
const unreadableKept = 24 * time.Hour

// next adds the operations that queue the follow-ups of a run's success. It reports whether one
// of them takes the run's place in its group.
func (out *outcome) next(of *broker.TaskRun, runs []*broker.TaskRun) (passed bool, err error) {
	if passed, err = checkNext(of, runs); err != nil {
		return false, err
	}
	for _, run := range runs {
		entry, err := outboxEntry(run)
		if err != nil {
			return false, fmt.Errorf("next run %.64q: %w", run.ID, err)
		}
		out.add(script.OpSend, "", entry)
	}
	return passed, nil
}

// checkNext refuses follow-ups before they are encoded, as they may be too large.
func checkNext(of *broker.TaskRun, runs []*broker.TaskRun) (passed bool, err error) {
	for i, run := range runs {
		if run == nil {
			return false, fmt.Errorf("next run %d of %d is nil", i+1, len(runs))
		}
		if err := run.Validate(); err != nil {
			return false, fmt.Errorf("next run %.64q: %w", run.ID, err)
		}
	}
	if err = broker.CheckBatch(runs); err == nil {
		passed, err = of.TakesPlace(runs)
	}
	if err != nil {
		return false, fmt.Errorf("next runs: %w", err)
	}
	return passed, nil
}
