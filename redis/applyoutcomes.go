package redis

import (
	"context"
	"time"

	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// sendOutcomes applies the outcomes of calls in one queue. Commands of one lease never
// overlap, so replies have confirmed the runs that the batches list as finished.
func (s *session) sendOutcomes(ctx context.Context, ql *queueLease, calls []*finishCall) {
	own := s.markDone(calls)
	batches := own
	for _, call := range calls {
		batches = append(batches, call.again...)
	}
	if len(batches) == 0 {
		return
	}
	keys, args := s.b.finishArgs(ql.q, len(batches))
	for _, bo := range batches {
		keys, args = bo.append(ql.q, keys, args)
	}
	start := time.Now()
	reply, replyLost, err := s.b.sendFinish(ctx, keys, args, len(batches))
	if err != nil {
		if conn.IsDamage(err) {
			replyLost = true // some may be applied
			s.b.repair(ctx, start, keys...)
		}
		s.failOutcomes(own, calls, replyLost, s.b.fail(ctx, "finish runs of queue "+ql.q.Name, err))
		return
	}
	noteFinished(batches, reply)
	s.b.damage.noteTrimmed(ql.q.Name, reply.Trimmed)
	if len(reply.Failures) > 0 && conn.IsDamage(reply.Failures[0].Err) {
		s.b.repair(ctx, start, keys...)
	}
	s.noteApplied(own, replyLost)
	s.failCalls(ctx, ql.q, calls, keys)
	for _, bo := range batches { // an earlier try may have put it there, and its reply was lost
		reply.Sent = reply.Sent || replyLost && bo.sends()
	}
	s.b.applyEffects(ctx, ql.q, reply)
}

// sendFinish executes the finish script. replyLost reports that a try may have been executed
// of which no reply came.
func (b *Broker) sendFinish(ctx context.Context, keys []string, args []any, batches int) (reply script.FinishReply, replyLost bool, err error) {
	v, replyLost, err := b.repeatTracked(ctx, b.scripts.Finish, b.clients.Lease, conn.ReadAny, keys, args...)
	if err == nil {
		reply, err = script.ParseFinish(v, batches)
	}
	return reply, replyLost, err
}

// failOutcomes fails all calls of a command that was not applied, as far as is known.
func (s *session) failOutcomes(own []*batchOutcomes, calls []*finishCall, replyLost bool, err error) {
	s.unmarkDone(own, replyLost)
	for _, bo := range own {
		for _, call := range bo.calls {
			call.err = err
		}
	}
	for _, call := range calls {
		if len(call.again) > 0 {
			call.err = err
		}
	}
}

// failCalls fails the calls of which some outcomes were not applied.
func (s *session) failCalls(ctx context.Context, q *queue, calls []*finishCall, keys []string) {
	for _, call := range calls {
		for _, bo := range call.again {
			call.fails(bo.anyFailure())
		}
		if call.err != nil {
			s.noteUnreported(call)
			call.err = s.b.fail(ctx, "finish runs of queue "+q.Name, s.b.blame(ctx, call.err, keys...))
		}
	}
}

// fails notes why some of the call's outcomes have to be sent again. Only the first reason
// is kept.
func (call *finishCall) fails(why error) {
	if call.err == nil {
		call.err = why
	}
}

// finishArgs starts the keys and arguments of the finish script.
func (b *Broker) finishArgs(q *queue, batches int) (keys []string, args []any) {
	named := &script.FinishArgs{MaxDead: b.cfg.MaxDead, Batches: batches, BeforeID: len(q.Record(""))}
	return script.FinishKeys(&q.QueueKeys), named.Append(make([]any, 0, 16))
}

// applyEffects notifies the waiters of runs that have ended, and has the outbox moved. It
// blocks until the outbox is moved, for longestMoveWait at most.
func (b *Broker) applyEffects(ctx context.Context, q *queue, reply script.FinishReply) {
	b.notifyWaiters(ctx, q, reply.Waiters)
	if reply.Sent {
		b.awaitMove(ctx, q)
	}
}

// awaitMove has the outbox of a queue moved. It blocks until it is moved, for longestMoveWait at
// most.
func (b *Broker) awaitMove(ctx context.Context, q *queue) {
	over := q.mover.start()
	if over == nil {
		return
	}
	timer := time.NewTimer(longestMoveWait)
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// markDone marks the runs of outcomes as done, and sorts the outcomes by batch. It fences at
// once the runs that are known to be finished or recovered.
func (s *session) markDone(calls []*finishCall) []*batchOutcomes {
	s.mu.Lock()
	defer s.mu.Unlock()
	var batches []*batchOutcomes
	for _, call := range calls {
		for _, o := range call.outcomes {
			if !call.mayApply(o) {
				continue
			}
			bt := o.at.batch
			if bt.sorting == nil {
				bt.sorting = &batchOutcomes{batch: bt, outcomes: make([]*outcome, 0, len(call.outcomes)), calls: make([]*finishCall, 0, len(call.outcomes))}
				batches = append(batches, bt.sorting)
				bt.busy++
				bt.commands++
			}
			bt.done[o.at.index] = true
			bt.left--
			bt.sorting.outcomes = append(bt.sorting.outcomes, o)
			bt.sorting.calls = append(bt.sorting.calls, call)
		}
	}
	for _, bo := range batches {
		bo.whole = bo.batch.left == 0
		bo.before = len(bo.batch.done) - bo.batch.left - len(bo.outcomes)
		bo.batch.sorting = nil
	}
	return batches
}

// mayApply reports whether an outcome is still to be applied. If its run is known to be
// finished or recovered, mayApply fences the run. The session's lock is held.
func (call *finishCall) mayApply(o *outcome) bool {
	bt, index := o.at.batch, o.at.index
	if bt.unreported[index] {
		delete(bt.unreported, index)
		return false
	}
	if !bt.gone && !bt.done[index] {
		return true
	}
	if o.run != nil {
		call.fenced = append(call.fenced, o.run)
	}
	return false
}

// unmarkDone undoes markDone after a command that was not applied, as far as is known. If
// its reply was lost, the server may have applied it.
func (s *session) unmarkDone(batches []*batchOutcomes, replyLost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, bo := range batches {
		bo.batch.busy--
		for _, o := range bo.outcomes {
			bo.batch.notApplied(o.at.index, replyLost)
		}
	}
}

// notApplied undoes markDone for one outcome. perhaps reports that the outcome may have been
// applied all the same. The session's lock is held.
func (bt *batch) notApplied(index int, perhaps bool) {
	bt.done[index] = false
	bt.left++
	if !perhaps {
		return
	}
	set(&bt.doubtful, index, true)
}

// noteApplied notes what was applied, and hands each call its fenced runs and an error
// if some of its outcomes failed.
func (s *session) noteApplied(batches []*batchOutcomes, replyLost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, bo := range batches {
		bt := bo.batch
		bt.busy--
		for i, o := range bo.outcomes {
			call := bo.calls[i]
			if err := bo.failure(o); err != nil {
				call.fails(err)
				call.failed = append(call.failed, o.run)
				bt.notApplied(o.at.index, bo.stays != nil)
			} else if bo.isFenced(o) {
				call.noteFenced(o, replyLost)
			}
		}
		if !s.shortLived {
			s.finished.remember(bo, replyLost, remembered*s.lease)
		}
		if bt.left == 0 {
			delete(bt.lease.batches, bt.number)
		}
	}
}

// noteFenced notes that the server did not apply an outcome because its run is finished or
// recovered. If an earlier try whose reply was lost may have applied it, the run is not
// lost.
func (call *finishCall) noteFenced(o *outcome, replyLost bool) {
	bt := o.at.batch
	doubted := replyLost || bt.doubtful[o.at.index]
	bt.lease.lost = bt.lease.lost || !doubted
	if o.run == nil {
		return
	}
	call.fenced = append(call.fenced, o.run)
	if doubted {
		call.doubtful = append(call.doubtful, o.run)
	}
}

// append adds the batch's part of a finish command.
func (bo *batchOutcomes) append(q *queue, keys []string, args []any) ([]string, []any) {
	keys = append(keys, q.Batch(bo.batch.name), q.Done(bo.batch.name))
	complete := 0
	if bo.whole {
		complete = 1
	}
	args = append(args, bo.batch.name, complete, bo.before)
	keys, args = bo.appendPlain(keys, args, len(q.Record("")))
	return bo.appendOperations(keys, args)
}

// appendPlain adds the outcomes without operations: a bitmap of their indexes, and their records,
// of whose keys so many bytes come before the ids.
func (bo *batchOutcomes) appendPlain(keys []string, args []any, recordOpens int) ([]string, []any) {
	at, records := len(args), 0
	args = append(args, nil, nil)
	var ended wire.EndedRuns
	for _, o := range bo.outcomes {
		if o.operations != "" {
			continue
		}
		if bo.plain == nil {
			bo.plain = make([]byte, (len(bo.batch.done)+7)/8)
		}
		bo.plain[o.at.index/8] |= 0x80 >> (o.at.index % 8)
		if o.record != "" {
			records++
			keys, args = append(keys, o.record), append(args, o.value, o.keep)
			ended.Add(o.record[recordOpens:], o.value, o.keep)
		}
	}
	args[at], args[at+1] = bo.plain, records
	if records > 0 {
		args = ended.Append(args)
	}
	return keys, args
}

// appendOperations adds the outcomes with operations.
func (bo *batchOutcomes) appendOperations(keys []string, args []any) ([]string, []any) {
	at, n := len(args), 0
	args = append(args, nil)
	for _, o := range bo.outcomes {
		if o.operations == "" {
			continue
		}
		n++
		keys = append(keys, o.keys...)
		args = append(append(args, o.at.index, o.operations), o.args...)
	}
	args[at] = n
	return keys, args
}

// noteFinished notes what the reply says of each batch: which of its runs are fenced, and
// which outcomes were not applied.
func noteFinished(batches []*batchOutcomes, reply script.FinishReply) {
	for _, run := range reply.Fenced {
		bo := batches[run.Batch]
		if run.Index == script.PlainRuns {
			bo.lost = true
			continue
		}
		set(&bo.fenced, run.Index, true)
	}
	for _, f := range reply.Failures {
		switch f.Index {
		case script.StillListed, script.NotTrimmed: // the outcomes are applied; recovery and the next dead letter do the rest
		case script.BatchStays:
			batches[f.Batch].stays = f.Err
		default:
			batches[f.Batch].fail(f.Index, f.Err)
		}
	}
}
