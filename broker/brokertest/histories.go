package brokertest

import (
	"fmt"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var historyChecks = []check{
	{"a record says when and where its run was queued, due, started and ended", recordTimes},
	{"a record and a dead letter have the attempts of their run", recordAttempts},
	{"a history stays with its run through retries, recovery and leaving", historyStays},
	{"a history has the last attempts", historyCut},
	{"a record has the parameters of a run that has ended, if it has KeepParams", recordPayload},
	{"a run that ended with FailureCancelled is cancelled", recordCancelled},
}

// attempt adds an attempt to the run's history, as the runtime does.
func attempt(r *broker.TaskRun, message string) {
	r.Attempt++
	r.History = r.History.Add(broker.Attempt{
		Started: time.Now().UTC().Round(0), Took: time.Duration(r.Attempt) * time.Second, Host: "host:1",
		Kind: broker.FailureFailed, Message: message,
	})
}

// messages returns those of attempts.
func messages(attempts []broker.Attempt) (list []string) {
	for _, a := range attempts {
		list = append(list, a.Message)
	}
	return list
}

func (f *fixture) record(r *broker.TaskRun) *broker.Record {
	f.Helper()
	rec, err := f.records().Record(f.ctx(), r.Queue, r.ID)
	require.NoError(f, err, "Record of run %s", r.ID)
	return rec
}

// requireBetween checks an instant that the broker took after from and before now. Brokers
// store instants in milliseconds at least.
func (f *fixture) requireBetween(from, at time.Time, what string) {
	f.Helper()
	require.WithinRange(f, at, from.Add(-slack), time.Now().Add(slack), what)
}

// requireTimes checks the times of a record, of which those that its state does not have are
// zero. The test asked after from for the state that the run is in; a delayed run was to be
// due at due had the broker been asked at from.
func (f *fixture) requireTimes(r *broker.TaskRun, state broker.State, due, from time.Time) {
	f.Helper()
	rec := f.record(r)
	require.Equal(f, state, rec.State, "state of run %s", r.ID)
	require.True(f, rec.QueuedAt.Equal(r.QueuedAt), "queued at %v, its record says %v", r.QueuedAt, rec.QueuedAt)
	if state == broker.StateDelayed {
		asked := time.Since(from) // or less: the broker counts a delay from when it is asked
		require.WithinRange(f, rec.Due, due.Add(-slack), due.Add(asked+slack), "when the run is due")
	} else {
		require.Zero(f, rec.Due, "due time of a run that is %s", state)
	}
	if state == broker.StateRunning {
		f.requireBetween(from, rec.StartedAt, "when the attempt began")
		require.Equal(f, broker.ThisHost(), rec.Host, "who executes the run")
	} else {
		require.Zero(f, rec.StartedAt, "start of a run that is %s", state)
		require.Empty(f, rec.Host, "who executes a run that is %s", state)
	}
	if state.Ended() {
		f.requireBetween(from, rec.EndedAt, "when the run ended")
	} else {
		require.Zero(f, rec.EndedAt, "end of a run that is %s", state)
	}
}

// needsTimes skips the check of a broker whose records do not say when things happened.
func (f *fixture) needsTimes() {
	f.Helper()
	if f.record(f.queueOne("probe", keep(time.Hour))).QueuedAt.IsZero() {
		f.Skip("the broker's records have no times and attempts")
	}
}

func recordTimes(f *fixture) {
	f.needsTimes()
	never := time.Time{}
	start := time.Now()
	later := f.queueOne("q", keep(time.Hour), delay(time.Hour))
	f.requireTimes(later, broker.StateDelayed, start.Add(time.Hour), start)
	at := start.Add(2 * time.Hour)
	fixed := f.queueOne("q", keep(time.Hour), due(at))
	f.requireTimes(fixed, broker.StateDelayed, at, time.Now())

	r := f.queueOne("q", keep(time.Hour))
	f.requireTimes(r, broker.StateQueued, never, never)
	s := f.openSession(longHold)
	start = time.Now()
	run := f.takeOne(s, "q")
	f.requireTimes(r, broker.StateRunning, never, start)
	f.pass(quiet) // some brokers note what goes on for longer
	f.requireTimes(r, broker.StateRunning, never, start)
	start = time.Now()
	f.finish(s, retried(run, time.Hour))
	f.requireTimes(r, broker.StateDelayed, start.Add(time.Hour), start)
	if is[broker.Controls](f.b) {
		f.cancel("q", r.ID)
		f.requireTimes(r, broker.StateCancelled, never, start)
	}

	for _, o := range []broker.Outcome{{Verdict: broker.Succeeded}, died(nil), dropped(nil)} {
		r := f.queueOne("q", keep(time.Hour))
		o.Run = f.takeOne(s, "q")
		start := time.Now()
		f.finish(s, o)
		state := broker.StateFailed
		if o.Verdict == broker.Succeeded {
			state = broker.StateSucceeded
		}
		f.requireTimes(r, state, never, start)
	}
	start = time.Now()
	waiting := f.queueOne("q", keep(time.Hour))
	recs, wait := f.waiters(1, waiting)
	f.finish(s, returned(f.takeOne(s, "q"), "r"))
	require.NoError(f, wait(), "WaitRecord")
	f.requireBetween(start, recs[0].EndedAt, "the end in what WaitRecord returned")
	require.True(f, recs[0].QueuedAt.Equal(waiting.QueuedAt), "the queueing in what WaitRecord returned")
}

func recordAttempts(f *fixture) {
	f.needsTimes()
	s := f.openSession(longHold)
	var want []string
	given := f.queueOne("q", keep(time.Hour))
	requireAttempts := func(state broker.State) []broker.Attempt {
		f.Helper()
		rec := f.record(given)
		require.Equal(f, state, rec.State)
		require.Equal(f, want, messages(rec.Attempts), "attempts in the record of a run that is %s", state)
		return rec.Attempts
	}
	for i, d := range []time.Duration{0, time.Millisecond, 0} {
		run := f.takeOne(s, "q")
		requireAttempts(broker.StateRunning)
		attempt(run, fmt.Sprint("attempt ", i))
		want = append(want, fmt.Sprint("attempt ", i))
		f.finish(s, retried(run, d))
		if d == 0 {
			requireAttempts(broker.StateQueued)
		}
	}
	run := f.takeOne(s, "q")
	attempt(run, "the last")
	want = append(want, "the last")
	history := run.History.Clone()
	f.finish(s, died(run))
	scribble(run) // the broker has its own
	require.Equal(f, history.Attempts, requireAttempts(broker.StateFailed), "attempts of a dead run")
	clear(requireAttempts(broker.StateFailed)) // and so has the caller
	requireAttempts(broker.StateFailed)
	letters := f.deadLetters("q", aLot)
	require.Len(f, letters, 1, "dead letters")
	require.Equal(f, history, letters[0].Run.History, "history of a dead letter")

	good := f.queueOne("q", keep(time.Hour))
	run = f.takeOne(s, "q")
	run.Attempt = 1
	ended := broker.Attempt{Started: time.Now().UTC().Round(0), Took: time.Second, Host: "host:1"}
	run.History = run.History.Add(ended)
	f.finish(s, succeeded(run)...)
	require.Equal(f, []broker.Attempt{ended}, f.record(good).Attempts, "attempts of a success")
}

func historyStays(f *fixture) {
	want := []string{"first"}
	requireHistory := func(r *broker.TaskRun, how string) {
		f.Helper()
		require.Equal(f, want, messages(r.History.OrZero().Attempts), "attempts of a run that was %s", how)
	}
	s, run := f.holdOne()
	attempt(run, "first")
	f.finish(s, retried(run, time.Millisecond))
	run = f.takeOne(s, "q")
	requireHistory(run, "retried later")
	attempt(run, "second")
	want = append(want, "second")
	f.finish(s, retried(run, 0))
	lapsing := f.openSession(shortHold)
	requireHistory(f.takeOne(lapsing, "q"), "retried at once")
	f.lapse(1, "q")
	requireHistory(f.takeOne(s, "q"), "recovered")
	f.close(s)
	s = f.openSession(longHold)
	run = f.takeOne(s, "q")
	requireHistory(run, "given back")
	f.finish(s, died(run))
	letters := f.deadLetters("q", aLot)
	require.Len(f, letters, 1, "dead letters")
	requireHistory(letters[0].Run, "given up")
	if !is[broker.Controls](f.b) {
		return
	}
	f.requeueDead(1, run.ID)
	run = f.takeOne(s, "q")
	require.Zero(f, run.Attempt, "attempts of a run that was queued again")
	requireHistory(run, "queued again")
}

func historyCut(f *fixture) {
	s, run := f.holdOne()
	for i := range broker.MaxHistory + 3 {
		attempt(run, fmt.Sprint(i))
		f.finish(s, retried(run, 0))
		run = f.takeOne(s, "q")
	}
	got := messages(run.History.OrZero().Attempts)
	require.Len(f, got, broker.MaxHistory, "attempts of a run with more")
	require.Equal(f, []string{"3", "12"}, []string{got[0], got[len(got)-1]}, "the first and the last of them")

	run.History = &broker.History{Attempts: make([]broker.Attempt, broker.MaxHistory+1)}
	_, err := s.Finish(f.ctx(), retried(run, 0))
	require.Error(f, err, "Finish of a retry with too long a history")
}

func recordPayload(f *fixture) {
	params := []byte("\x81\xa1k\x01")
	keeps := func(r *broker.TaskRun) { r.Payload, r.KeepParams = slices.Clone(params), true }
	s := f.openSession(longHold)
	for _, o := range []broker.Outcome{{Verdict: broker.Succeeded, Result: []byte("r")}, died(nil), dropped(nil)} {
		r := f.queueOne("q", keep(time.Hour), keeps)
		require.Empty(f, f.record(r).Payload, "parameters in the record of a run that waits")
		o.Run = f.takeOne(s, "q")
		f.finish(s, retried(o.Run, 0))
		o.Run = f.takeOne(s, "q")
		f.finish(s, o)
		rec := f.record(r)
		require.Equal(f, params, rec.Payload, "parameters in the record of a run that has ended")
		require.Equal(f, o.Result, rec.Result, "result beside parameters")
		rec.Payload[0] = 0 // it is the caller's
		require.Equal(f, params, f.record(r).Payload, "parameters after a reader changed its copy")

		r = f.queueOne("q", keep(time.Hour))
		o.Run = f.takeOne(s, "q")
		f.finish(s, o)
		require.Empty(f, f.record(r).Payload, "parameters in the record of a run without KeepParams")
	}
	if !is[broker.Controls](f.b) {
		return
	}
	waiting := f.queueOne("q", keep(time.Hour), keeps)
	f.cancel("q", waiting.ID)
	require.Equal(f, params, f.record(waiting).Payload, "parameters of a run that was cancelled while it waited")
	running := f.queueOne("q", keep(time.Hour), keeps)
	run := f.takeOne(s, "q")
	f.cancel("q", running.ID)
	f.finish(s, retried(run, time.Hour))
	require.Equal(f, params, f.record(running).Payload, "parameters of a run that was cancelled while it ran")
}

func recordCancelled(f *fixture) {
	for _, verdict := range []broker.Verdict{broker.Dropped, broker.Dead} {
		s, run := f.holdOne(keep(time.Hour))
		recs, wait := f.waiters(1, run)
		f.finish(s, broker.Outcome{Run: run, Verdict: verdict, Failure: &cancelled})
		f.requireRecord(run, broker.Record{State: broker.StateCancelled, Failure: &cancelled})
		require.NoError(f, wait(), "WaitRecord")
		require.Equal(f, broker.StateCancelled, recs[0].State, "state that WaitRecord returned")
	}
	require.Len(f, f.deadLetters("q", aLot), 1, "dead letters")
}
