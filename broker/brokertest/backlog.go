package brokertest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var backlogChecks = []check{
	{"Queue says since when the run is due that waits the longest", oldestDue},
	{"Queue says since when a run is due that was retried, recovered or queued again", oldestAgain},
	{"Queue says what limits hold back", limitsHeld},
}

// requireOldest checks since when the run is due that waits the longest.
func (f *fixture) requireOldest(want time.Time, what string) {
	f.Helper()
	require.WithinDuration(f, want, f.queueInfo("q").Oldest, 2*slack, "since when the run is due that waits the longest: %s", what)
}

// needsOldest skips the check of a broker that does not know since when runs are due.
func (f *fixture) needsOldest() {
	f.Helper()
	f.queueNew("probe", 1)
	if f.queueInfo("probe").Oldest.IsZero() {
		f.Skip("the broker does not know since when runs are due")
	}
}

func oldestDue(f *fixture) {
	f.needsOldest()
	require.Zero(f, f.queueInfo("q").Oldest, "in a queue never used")
	late := f.newRun("q", delay(5*quiet))
	f.queue(late)
	require.Zero(f, f.queueInfo("q").Oldest, "when the only run is delayed")
	start := time.Now()
	first := f.queueOne("q")
	f.pass(quiet)
	second := f.queueOne("q", priority(broker.High))
	third := f.queueOne("q", kind(broker.CPU))
	f.requireOldest(start, "the first of three")
	f.pause("q", true)
	f.requireOldest(start, "in a paused queue")
	f.pause("q", false)
	f.pass(quiet)
	s := f.openSession(longHold)
	f.requireNext(s, "the first two", second, first, third)
	require.Zero(f, f.queueInfo("q").Oldest, "when all were taken")
	f.eventually(func() bool { return f.queueInfo("q").Queued == 1 }, "a delayed run is due")
	f.requireOldest(late.QueuedAt.Add(late.Delay), "a run that was delayed")
	f.requireNext(s, "the run that was delayed", late)
	past := f.queueOne("q", due(time.Now().Add(-time.Hour)))
	f.queueOne("q")
	f.requireOldest(past.Due, "a run that was queued an hour after it was due")
}

func oldestAgain(f *fixture) {
	f.needsOldest()
	s, run := f.holdOne()
	run.QueuedAt = run.QueuedAt.Add(-time.Hour)
	attempt(run, "first")
	again := time.Now().Add(quiet)
	run.History.Due = again
	f.finish(s, retried(run, quiet))
	require.Zero(f, f.queueInfo("q").Oldest, "until the retry is due")
	f.eventually(func() bool { return f.queueInfo("q").Queued == 1 }, "a retry is due")
	f.requireOldest(again, "a run that was retried")
	f.pass(quiet)
	f.requireOldest(again, "a run that was retried, later")
	f.takeOne(s, "q")
	f.close(s)
	f.requireOldest(again, "a run that was given back")
	s = f.openSession(longHold)
	run = f.takeOne(s, "q")
	f.finish(s, died(run))
	f.pass(quiet)
	start := time.Now()
	f.requeueDead(1, run.ID)
	f.requireOldest(start, "a dead letter that was queued again")
}

func limitsHeld(f *fixture) {
	f.needs(broker.PolicyLimits, "limits")
	info := f.queueInfo("q")
	require.Zero(f, info.Held, "runs that are held back of an unused queue")
	require.Empty(f, info.Limits, "limits of an unused queue")
	s := f.openSession(longHold)
	f.queueNew("q", 6, limit("key", 2, 0))
	held := f.take(s, 2, "q")
	f.takesNothing(s, "q")
	f.queueNew("q", 10, limit("rate", 1, time.Hour))
	f.takeOne(s, "q")
	f.takesNothing(s, "q")
	f.queueNew("q", 3)
	f.queueNew("q", 2, limit("free", 5, 0))
	info = f.queueInfo("q")
	require.EqualValues(f, 18, info.Queued, "runs that wait")
	require.EqualValues(f, 13, info.Held, "runs that are held back")
	want := []broker.LimitInfo{
		{Limit: broker.Limit{Key: "rate", Max: 1, Per: time.Hour}, Used: 1, Waiting: 9},
		{Limit: broker.Limit{Key: "key", Max: 2}, Used: 2, Waiting: 4},
	}
	for i := range info.Limits {
		if run := info.Limits[i].Run; run != nil {
			require.Equal(f, want[i].Key, run.Rules.OrZero().Limits[0].Key, "the limit of a run that it holds back")
		}
		info.Limits[i].Run = nil
	}
	require.Equal(f, want, info.Limits, "limits that hold runs back")

	f.finish(s, succeeded(held...)...)
	f.take(s, 7, "q")
	f.takesNothing(s, "q")
	require.EqualValues(f, 11, f.queueInfo("q").Held, "runs that are still held back")
}
