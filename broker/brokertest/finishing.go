package brokertest

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var finishChecks = []check{
	{"a run that ended is gone", endedIsGone},
	{"a retry without delay goes to the head of its queue", retryAtHead},
	{"a retry with a delay is due after it", retryDelayed},
	{"a run left to others goes to another session that waits", leftToOthers},
	{"a retry is stored as it is now", retryStoredAsNow},
	{"a retry wakes a blocked Take", retryWakes},
	{"one Finish applies every outcome, of several queues too", finishMixed},
	{"a second Finish of the same delivery is fenced", finishTwice},
	{"a session cannot finish what another holds", finishForeign},
}

func endedIsGone(f *fixture) {
	s := f.openSession(shortHold)
	for _, v := range []broker.Verdict{broker.Succeeded, broker.Dead, broker.Dropped} {
		f.queueNew("q", 3)
		for _, r := range f.take(s, 3, "q") {
			f.finish(s, broker.Outcome{Run: r, Verdict: v, Failure: failure("over")})
		}
	}
	require.Zero(f, f.length("q"), "length after all have ended")
	f.pass(shortHold + 2*slack)
	require.Zero(f, f.recover("q").Runs, "runs given back although all have ended")
	f.takesNothing(s, "q")
}

func retryAtHead(f *fixture) {
	f.queueNew("q", 1)
	waiting := f.queueNew("q", 2)
	s := f.openSession(longHold)
	run := f.takeOne(s, "q")
	f.finish(s, retried(run, 0))
	got := f.take(s, 3, "q")
	require.Equal(f, append([]string{run.ID}, ids(waiting)...), ids(got), "a retried run before those that wait")
	require.Equal(f, []int{2, 1, 1}, deliveries(got), "deliveries after a retry that left the count as it was")
}

func retryDelayed(f *fixture) {
	const d = 300 * time.Millisecond
	s, run := f.holdOne()
	start := time.Now()
	f.finish(s, retried(run, d))
	f.takesNothing(s, "q")
	f.requireArrivalAt(f.receiveLeased(s, "q"), run, start.Add(d))
}

func retryStoredAsNow(f *fixture) {
	given := fullRuns(f, "q")[0]
	f.queue(given)
	s := f.openSession(longHold)
	run := f.takeOne(s, "q")
	now := *run
	now.Attempt, now.Deliveries = 8, 0
	now.Headers = map[string]string{"new": "1"}
	now.Kind, now.Priority = broker.IO, broker.Low
	now.Payload = []byte("\x81\xa1k\x02")
	f.finish(s, broker.Outcome{Run: &now, Verdict: broker.Retry, Failure: failure("again")})
	want := now
	want.Headers, want.Payload = cloneMap(now.Headers), slices.Clone(now.Payload)
	want.Rules, want.Links, want.History = cloneRules(now.Rules), cloneLinks(now.Links), now.History.Clone()
	scribble(&now)

	runs, err := s.Take(f.ctx(), broker.Want{Queues: []string{"q"}, IO: 1})
	require.NoError(f, err, "Take of a run that was retried as another kind")
	f.requireSame(&want, runs[0], "a run changed by its retry")
	require.Equal(f, 1, runs[0].Deliveries, "deliveries after a retry that set the count to 0")
	f.finish(s, succeeded(runs...)...)
}

func retryWakes(f *fixture) {
	for _, d := range []time.Duration{0, 200 * time.Millisecond} {
		s := f.openSession(longHold)
		f.queueNew("q", 1)
		run := f.takeOne(s, "q")
		f.requireWakes(run, d, func() { f.finish(s, retried(run, d)) })
	}
}

func finishMixed(f *fixture) {
	f.queueNew("a", 3)
	f.queueNew("b", 3)
	s := f.openSession(longHold)
	runs := f.take(s, 6, "a", "b")
	f.finish(s,
		returned(runs[0], "r"),
		broker.Outcome{Run: runs[3], Verdict: broker.Retry, Failure: failure("now")},
		died(runs[1]),
		broker.Outcome{Run: runs[4], Verdict: broker.Dropped, Failure: failure("cancelled")},
		broker.Outcome{Run: runs[2], Verdict: broker.Retry, Delay: time.Hour, Failure: failure("later")},
		broker.Outcome{Run: runs[5], Verdict: broker.Succeeded},
	)
	require.Equal(f, 1, f.length("a"), "length of queue a: a delayed retry")
	require.Equal(f, 1, f.length("b"), "length of queue b: a retry at once")
	require.Equal(f, []string{runs[3].ID}, ids(f.take(s, 1, "a", "b")), "run retried at once")
	f.takesNothing(s, "a", "b")
}

func finishTwice(f *fixture) {
	f.queueNew("q", 4)
	s := f.openSession(longHold)
	runs := f.take(s, 3, "q")
	outcomes := []broker.Outcome{
		{Run: runs[0], Verdict: broker.Succeeded},
		{Run: runs[1], Verdict: broker.Dead, Failure: failure("bad")},
		{Run: runs[2], Verdict: broker.Retry, Failure: failure("again")},
	}
	f.finish(s, outcomes...)
	f.finishFenced(s, outcomes...)
	require.Equal(f, 2, f.length("q"), "length: the retry is there once")

	again := f.take(s, 2, "q")
	f.finishFenced(s, outcomes[2]) // of the delivery before
	done, err := s.Finish(f.ctx(), append(succeeded(again...), outcomes[0])...)
	require.NoError(f, err, "Finish of runs held and one not held")
	require.Equal(f, []string{runs[0].ID}, ids(done.Fenced), "fenced runs of a Finish of runs held and one not held")
	require.Zero(f, f.length("q"), "length after all have ended")
}

func finishForeign(f *fixture) {
	f.queueNew("q", 1)
	holder, other := f.openSession(longHold), f.openSession(longHold)
	run := f.takeOne(holder, "q")
	f.finishFenced(other, succeeded(run)...)
	bare := *run
	bare.Receipt = nil
	f.finishFenced(other, succeeded(&bare)...)
	f.finishFenced(holder, succeeded(f.newRun("q"))...)
	f.finish(holder, succeeded(run)...)
}

// leftToOthers has a session that leaves every run it takes and one that takes
// them. Were it chance who gets a run, they would be left more often in less than
// one of a million tests.
func leftToOthers(f *fixture) {
	const runs, most = 5, 40
	var left atomic.Int64
	leaver, other := f.openSession(longHold), f.openSession(longHold)
	ctx, cancel := context.WithCancel(f.ctx())
	done := f.start(1, func(int) error {
		for {
			got, err := leaver.Take(ctx, anyOf(1, "q"))
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			for _, run := range got {
				left.Add(1)
				run.Deliveries--
				o := broker.Outcome{Run: run, Verdict: broker.Retry, Delay: 50 * time.Millisecond, ForOthers: true}
				if _, err := leaver.Finish(f.ctx(), o); err != nil {
					return err
				}
			}
		}
	})
	defer func() {
		cancel()
		require.NoError(f, done())
	}()
	for range runs {
		before := left.Load()
		run := f.queueOne("q")
		f.eventually(func() bool { return left.Load() > before }, "the run is taken by the only one that waits")
		got := f.take(other, 1, "q")
		require.Equal(f, []string{run.ID}, ids(got))
		require.Equal(f, []int{1}, deliveries(got), "deliveries of a run that was left")
		f.finish(other, succeeded(got...)...)
	}
	require.LessOrEqual(f, left.Load(), int64(most), "times that %d runs were left", runs)
}

// queueOne makes a run and queues it.
func (f *fixture) queueOne(queue string, edits ...func(*broker.TaskRun)) *broker.TaskRun {
	f.Helper()
	return f.queueNew(queue, 1, edits...)[0]
}

// takeOne leases one run.
func (f *fixture) takeOne(s broker.Session, queues ...string) *broker.TaskRun {
	f.Helper()
	return f.take(s, 1, queues...)[0]
}

// hold queues n new runs in queue "q", and returns a session that has taken them.
func (f *fixture) hold(n int, edits ...func(*broker.TaskRun)) (broker.Session, []*broker.TaskRun) {
	f.Helper()
	f.queueNew("q", n, edits...)
	s := f.openSession(longHold)
	return s, f.take(s, n, "q")
}

// holdOne is hold for one run.
func (f *fixture) holdOne(edits ...func(*broker.TaskRun)) (broker.Session, *broker.TaskRun) {
	f.Helper()
	s, runs := f.hold(1, edits...)
	return s, runs[0]
}

// close closes a session.
func (f *fixture) close(s broker.Session) {
	f.Helper()
	require.NoError(f, s.Close(f.ctx()), "Close")
}

// failure is a failure with all its fields.
func failure(message string) *broker.Failure {
	return &broker.Failure{Kind: broker.FailureFailed, Message: message, Stack: "goroutine 1 [running]:\n\tmain.go:1"}
}

// succeeded returns outcomes of runs that succeeded without a result.
func succeeded(runs ...*broker.TaskRun) []broker.Outcome {
	out := make([]broker.Outcome, len(runs))
	for i, r := range runs {
		out[i] = broker.Outcome{Run: r, Verdict: broker.Succeeded}
	}
	return out
}

// returned is the outcome of a run that succeeded with a result.
func returned(r *broker.TaskRun, result string) broker.Outcome {
	return broker.Outcome{Run: r, Verdict: broker.Succeeded, Result: []byte(result)}
}

// retried is the outcome of a run that failed, and is tried again after a delay.
func retried(r *broker.TaskRun, delay time.Duration) broker.Outcome {
	return broker.Outcome{Run: r, Verdict: broker.Retry, Delay: delay, Failure: failure("again")}
}

// died is the outcome of a run that failed for good.
func died(r *broker.TaskRun) broker.Outcome {
	return broker.Outcome{Run: r, Verdict: broker.Dead, Failure: failure("bad")}
}

// dropped is the outcome of a run that expired.
func dropped(r *broker.TaskRun) broker.Outcome {
	return broker.Outcome{Run: r, Verdict: broker.Dropped, Failure: failure("expired")}
}
