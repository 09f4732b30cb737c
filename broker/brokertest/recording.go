package brokertest

import (
	"context"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var recordChecks = []check{
	{"a record follows its run from queued to succeeded", recordSucceeded},
	{"a record follows its run through a retry to failed", recordFailed},
	{"a record shows what recovery and leaving did", recordGivenBack},
	{"there is no record of an unknown run or one without Keep", recordNone},
	{"a record is kept for Keep after the end and no longer", recordExpires},
	{"WaitRecord wakes every waiter when the run ends", waitWakes},
	{"WaitRecord returns at once for a run that has ended", waitEnded},
	{"WaitRecord waits through retries", waitThroughRetry},
	{"WaitRecord ends with its context's error", waitCancelled},
}

// requireRecord checks the record of a run.
func (f *fixture) requireRecord(r *broker.TaskRun, want broker.Record) {
	f.Helper()
	want.ID, want.Task, want.Queue, want.ParentID = r.ID, r.Task, r.Queue, r.ParentID
	got, err := f.records().Record(f.ctx(), r.Queue, r.ID)
	require.NoError(f, err, "Record of run %s, which is %s", r.ID, want.State)
	f.equalRecord(&want, got)
}

func (f *fixture) equalRecord(want, got *broker.Record) {
	f.Helper()
	w, g := withoutTimes(want), withoutTimes(got)
	if len(w.Result) == 0 {
		w.Result = nil
	}
	if len(g.Result) == 0 {
		g.Result = nil
	}
	require.Equal(f, w, g, "record of run %s", want.ID)
}

// withoutTimes returns a record without the fields that historyChecks check.
func withoutTimes(r *broker.Record) broker.Record {
	c := *r
	c.QueuedAt, c.Due, c.StartedAt, c.EndedAt = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	c.Host, c.Attempts, c.Payload = "", nil, nil
	return c
}

func (f *fixture) requireNoRecord(queue, id, what string) {
	f.Helper()
	rec, err := f.records().Record(f.ctx(), queue, id)
	require.ErrorIs(f, err, broker.ErrNoRecord, "Record of %s; it returned %+v", what, rec)
	start := time.Now()
	rec, err = f.records().WaitRecord(f.ctx(), queue, id)
	require.ErrorIs(f, err, broker.ErrNoRecord, "WaitRecord of %s; it returned %+v", what, rec)
	require.Less(f, time.Since(start), prompt, "time WaitRecord took to find no record")
}

func recordSucceeded(f *fixture) {
	now := f.queueOne("q", keep(time.Hour))
	later := f.queueOne("q", keep(time.Hour), delay(time.Hour))
	f.requireRecord(now, broker.Record{State: broker.StateQueued})
	f.requireRecord(later, broker.Record{State: broker.StateDelayed})
	s := f.openSession(longHold)
	run := f.takeOne(s, "q")
	f.requireRecord(now, broker.Record{State: broker.StateRunning})
	run.Attempt = 1
	result := []byte("\x00\xffresult\r\n")
	f.finish(s, broker.Outcome{Run: run, Verdict: broker.Succeeded, Result: result})
	f.requireRecord(now, broker.Record{State: broker.StateSucceeded, Attempt: 1, Result: []byte("\x00\xffresult\r\n")})

	result[0] = 'x' // the broker has its own
	rec, err := f.records().Record(f.ctx(), "q", now.ID)
	require.NoError(f, err)
	rec.Result[1] = 'x' // and so has the caller
	f.requireRecord(now, broker.Record{State: broker.StateSucceeded, Attempt: 1, Result: []byte("\x00\xffresult\r\n")})
}

func recordFailed(f *fixture) {
	given := f.queueOne("q", keep(time.Hour))
	s := f.openSession(longHold)
	run := f.takeOne(s, "q")
	run.Attempt = 1
	f.finish(s, broker.Outcome{Run: run, Verdict: broker.Retry, Failure: failure("first"), Delay: quiet})
	f.requireRecord(given, broker.Record{State: broker.StateDelayed, Attempt: 1, Failure: failure("first")})
	run = f.takeOne(s, "q")
	f.requireRecord(given, broker.Record{State: broker.StateRunning, Attempt: 1, Failure: failure("first")})
	run.Attempt = 2
	f.finish(s, broker.Outcome{Run: run, Verdict: broker.Retry, Failure: failure("second")})
	f.requireRecord(given, broker.Record{State: broker.StateQueued, Attempt: 2, Failure: failure("second")})
	run = f.takeOne(s, "q")
	run.Attempt = 3
	last := &broker.Failure{Kind: broker.FailureCrashed, Message: "odd \x1b[2J text \u00e9\r\n", Stack: ""}
	f.finish(s, broker.Outcome{Run: run, Verdict: broker.Dead, Failure: last})
	f.requireRecord(given, broker.Record{State: broker.StateFailed, Attempt: 3, Failure: last})
}

func recordGivenBack(f *fixture) {
	given := f.queueOne("q", keep(time.Hour))
	f.take(f.openSession(shortHold), 1, "q")
	f.requireRecord(given, broker.Record{State: broker.StateRunning})
	f.lapse(1, "q")
	f.requireRecord(given, broker.Record{State: broker.StateQueued})
	s := f.openSession(longHold)
	f.take(s, 1, "q")
	f.requireRecord(given, broker.Record{State: broker.StateRunning})
	f.close(s)
	f.requireRecord(given, broker.Record{State: broker.StateQueued})
}

func recordNone(f *fixture) {
	f.requireNoRecord("q", "unknown", "an unknown run of a queue never used")
	kept := f.queueOne("q", keep(time.Hour))
	f.requireNoRecord("other", kept.ID, "a run of another queue")
	f.requireNoRecord("q", "unknown", "an unknown run")
	s := f.openSession(longHold)
	f.finish(s, succeeded(f.take(s, 1, "q")...)...)

	for _, v := range []broker.Verdict{broker.Succeeded, broker.Dead, broker.Dropped} {
		run := f.queueOne("q")
		f.requireNoRecord("q", run.ID, "a queued run without Keep")
		taken := f.takeOne(s, "q")
		f.requireNoRecord("q", run.ID, "a running run without Keep")
		f.finish(s, broker.Outcome{Run: taken, Verdict: v, Result: []byte("r"), Failure: failure("over")})
		f.requireNoRecord("q", run.ID, "an ended run without Keep")
	}
}

func recordExpires(f *fixture) {
	const kept = 300 * time.Millisecond
	s := f.openSession(longHold)
	for _, v := range []broker.Verdict{broker.Succeeded, broker.Dead, broker.Dropped} {
		run := f.queueOne("q", keep(kept))
		f.pass(kept + 2*slack) // Keep counts from the end
		f.requireRecord(run, broker.Record{State: broker.StateQueued})
		taken := f.take(s, 1, "q")
		start := time.Now()
		o := broker.Outcome{Run: taken[0], Verdict: v}
		if v != broker.Succeeded {
			o.Failure = failure("over")
		}
		f.finish(s, o)
		f.eventually(func() bool {
			rec, err := f.records().Record(f.ctx(), "q", run.ID)
			if err == nil {
				require.True(f, rec.State.Ended(), "state %s of a run that has ended", rec.State)
				return false
			}
			require.ErrorIs(f, err, broker.ErrNoRecord, "Record")
			return true
		}, "the record of a run with Keep %v is gone", kept)
		require.GreaterOrEqual(f, time.Since(start), kept-slack, "time a record with Keep %v was kept", kept)
		f.requireNoRecord("q", run.ID, "a run whose record has expired")
	}
}

// waiters calls WaitRecord n times at once and returns what waits for them.
func (f *fixture) waiters(n int, r *broker.TaskRun) (recs []*broker.Record, wait func() error) {
	recs = make([]*broker.Record, n)
	ctx := f.ctx()
	return recs, f.start(n, func(i int) (err error) {
		recs[i], err = f.records().WaitRecord(ctx, r.Queue, r.ID)
		return err
	})
}

func waitWakes(f *fixture) {
	s := f.openSession(longHold)
	for _, o := range []broker.Outcome{
		{Verdict: broker.Succeeded, Result: []byte("result")},
		{Verdict: broker.Dead, Failure: failure("bad")},
		{Verdict: broker.Dropped, Failure: failure("cancelled")},
	} {
		run := f.queueOne("q", keep(time.Hour))
		recs, wait := f.waiters(5, run)
		o.Run = f.takeOne(s, "q")
		f.pass(50 * time.Millisecond)
		start := time.Now()
		f.finish(s, o)
		require.NoError(f, wait(), "WaitRecord of a run that ended")
		require.Less(f, time.Since(start), prompt, "time from the end until every waiter returned")
		want := &broker.Record{ID: run.ID, Task: run.Task, Queue: "q", State: broker.StateSucceeded, Result: o.Result, Failure: o.Failure}
		if o.Failure != nil {
			want.State = broker.StateFailed
		}
		for _, rec := range recs {
			f.equalRecord(want, rec)
		}
	}
}

func waitEnded(f *fixture) {
	s := f.openSession(longHold)
	run := f.queueOne("q", keep(time.Hour))
	f.finish(s, returned(f.takeOne(s, "q"), "r"))
	start := time.Now()
	rec, err := f.records().WaitRecord(f.ctx(), "q", run.ID)
	require.NoError(f, err, "WaitRecord of a run that has ended")
	require.Equal(f, []byte("r"), rec.Result, "result")
	require.Less(f, time.Since(start), prompt, "time WaitRecord took")
}

func waitThroughRetry(f *fixture) {
	s := f.openSession(longHold)
	run := f.queueOne("q", keep(time.Hour))
	recs, wait := f.waiters(1, run)
	for _, d := range []time.Duration{0, quiet} {
		taken := f.takeOne(s, "q")
		f.finish(s, retried(taken, d))
	}
	f.finish(s, succeeded(f.take(s, 1, "q")...)...)
	require.NoError(f, wait(), "WaitRecord of a run that succeeded after two retries")
	require.Equal(f, broker.StateSucceeded, recs[0].State, "state WaitRecord returned")
}

func waitCancelled(f *fixture) {
	run := f.queueOne("q", keep(time.Hour))
	start := time.Now()
	_, err := f.records().WaitRecord(f.within(quiet), "q", run.ID)
	require.ErrorIs(f, err, context.DeadlineExceeded, "WaitRecord of a run that does not end")
	require.Less(f, time.Since(start), quiet+prompt, "time WaitRecord blocked beyond its deadline")
	f.requireRecord(run, broker.Record{State: broker.StateQueued})
}
