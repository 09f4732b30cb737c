package runtime

import (
	"context"
	"errors"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/backoff"
)

func (h *Handle[R]) id() string { return h.ID }

const (
	// longestMove is how long the first's success and the second's being queued
	// can lie apart for one who asks: they may be on different servers.
	longestMove = 5 * time.Second
	// longestDoubt is that where a run with the second's own id is known, which
	// may be in its way, or have ended long before.
	longestDoubt = time.Second
)

func (h *Handle[R]) ended(ctx context.Context) (*broker.Record, error) {
	if h.after == nil || !h.keep {
		return h.record(ctx, recorder.WaitRecord)
	}
	record, err := h.record(ctx, recorder.Record)
	if errors.Is(err, ErrNoRecord) || err == nil && !h.isOwn(record) {
		var before *broker.Record
		if before, err = h.after.ended(ctx); err != nil || before.State != broker.StateSucceeded {
			return before, err
		}
		record, err = h.awaitOwn(ctx, longestMove)
	}
	if err != nil || record.State.Ended() {
		return record, err
	}
	return h.record(ctx, recorder.WaitRecord)
}

// isOwn reports whether a record with the id of a run that follows another is
// that run's, and not of one that has, or had, its id too. Of a run that nobody
// could read it says neither task nor parent.
func (h *Handle[R]) isOwn(record *broker.Record) bool {
	return !h.ownID || record.ParentID == h.after.id() || record.Task == ""
}

// awaitOwn returns the record of a run whose predecessor has succeeded. It waits
// for one until it is clear that there will be none, at most for the time given.
func (h *Handle[R]) awaitOwn(ctx context.Context, longest time.Duration) (*broker.Record, error) {
	began := time.Now()
	for wait := backoff.New(10*time.Millisecond, 500*time.Millisecond); ; wait.Sleep(ctx) {
		record, err := h.record(ctx, recorder.Record)
		waited := time.Since(began)
		switch {
		case err == nil && h.isOwn(record):
			return record, nil
		case err == nil && waited >= longestDoubt:
			// It is, or was, in the way. Of what has no record of its own this is it.
			return &broker.Record{
				ID: h.ID, Task: h.def.name(), Queue: h.queue, ParentID: h.after.id(), State: broker.StateFailed,
				Failure: &broker.Failure{Kind: broker.FailureDuplicate, Message: h.ID},
			}, nil
		case err != nil && (!errors.Is(err, ErrNoRecord) || waited >= longest):
			return nil, err
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
	}
}

// statusBefore is the status of a run that is to follow another, which has not
// succeeded.
func (h *Handle[R]) statusBefore(before Status) Status {
	s := Status{ID: h.ID, Task: h.def.name(), Queue: h.queue, State: broker.StateDelayed}
	if before.State == broker.StateFailed {
		s.State, s.Err = broker.StateFailed, before.Err
	}
	return s
}
