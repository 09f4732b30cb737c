package brokertest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var leaseChecks = []check{
	{"a renewed lease holds", renewedHolds},
	{"a lease lasts from each Take", takeRenews},
	{"a session that holds nothing has nothing to lose", emptySession},
	{"Close gives back what is held, unpunished", leaveGivesBack},
	{"Close wakes a blocked Take", leaveWakes},
}

// holdFor keeps calling keep and Recover for a time in which a lease of
// shortHold would end twice, and checks that nothing is given back.
func (f *fixture) holdFor(keep func(), queues ...string) {
	f.Helper()
	end := time.Now().Add(2*shortHold + shortHold/2)
	for last := time.Now(); time.Now().Before(end); {
		keep()
		require.Less(f, time.Since(last), shortHold, "the machine is too slow: time between two renewals of a lease of %v", shortHold)
		last = time.Now()
		require.Zero(f, f.recover(queues...).Runs, "runs given back of a lease that is kept")
		f.pass(shortHold / 8)
	}
}

func renewedHolds(f *fixture) {
	s := f.openSession(shortHold)
	f.queueNew("a", 2)
	f.queueNew("b", 1)
	runs := f.take(s, 3, "a", "b")
	f.holdFor(func() { require.NoError(f, s.Renew(f.ctx()), "Renew of a lease that holds") }, "a", "b")
	f.finish(s, succeeded(runs...)...)
	f.nothing("a", "b")
}

func takeRenews(f *fixture) {
	s := f.openSession(shortHold)
	f.queueNew("q", 100)
	runs := f.take(s, 1, "q")
	f.holdFor(func() { runs = append(runs, f.take(s, 1, "q")...) }, "q")
	f.finish(s, succeeded(runs...)...)
}

func emptySession(f *fixture) {
	s := f.openSession(shortHold)
	f.pass(shortHold + 2*slack)
	f.recover("q")
	require.NoError(f, s.Renew(f.ctx()), "Renew by a session that never took a run, after its time")
	f.queueNew("q", 1)
	f.finish(s, succeeded(f.take(s, 1, "q")...)...)
	f.finish(s)
	require.NoError(f, s.Close(f.ctx()), "Close by a session that holds nothing")
}

func leaveGivesBack(f *fixture) {
	s := f.openSession(longHold)
	f.queueNew("a", 4)
	f.queueNew("b", 2, kind(broker.CPU), priority(broker.High))
	runs := f.take(s, 6, "a", "b")
	f.finish(s, succeeded(runs[0])...)
	f.close(s)

	require.Equal(f, 5, f.length("a")+f.length("b"), "length after a session that held 5 runs left")
	next := f.openSession(longHold)
	again := f.take(next, 5, "a", "b")
	require.ElementsMatch(f, ids(runs[1:]), ids(again), "runs given back")
	for i, r := range again {
		require.Equal(f, 1, r.Deliveries, "deliveries of run %s, which was given back unpunished", r.ID)
		f.requireSame(runs[1+i], r, "a run given back")
	}
	f.finishFenced(s, succeeded(runs[1], runs[5])...)
	f.finish(next, succeeded(again...)...)
}

func leaveWakes(f *fixture) {
	s, run := f.holdOne()
	f.requireWakes(run, 0, func() { f.close(s) })
}

var heartbeatChecks = []check{
	{"progress shows in the record while the run lives and after", progressShows},
	{"progress of a run that is not held, or has no record, is passed over", progressOfOthers},
	{"the latest run of each task is known, by when it started", lastRuns},
}

func progress(r *broker.TaskRun, done int64, note string) broker.Report {
	return broker.Report{Progress: []broker.ProgressReport{{Run: r, Progress: broker.Progress{Done: done, Total: 9, Note: note}}}}
}

func progressShows(f *fixture) {
	runs := f.queueNew("q", 2, keep(time.Hour))
	s := f.openSession(longHold)
	held := f.take(s, 2, "q")
	f.heartbeat(s, progress(held[0], 1, "one"))
	f.requireRecord(runs[0], broker.Record{State: broker.StateRunning, Progress: &broker.Progress{Done: 1, Total: 9, Note: "one"}})
	report := progress(held[0], 2, "two \u00e9")
	report.Progress = append(report.Progress, progress(held[1], 3, "").Progress...)
	f.heartbeat(s, report)
	f.heartbeat(s, broker.Report{})
	two, three := &broker.Progress{Done: 2, Total: 9, Note: "two \u00e9"}, &broker.Progress{Done: 3, Total: 9}
	f.requireRecord(runs[0], broker.Record{State: broker.StateRunning, Progress: two})
	f.requireRecord(runs[1], broker.Record{State: broker.StateRunning, Progress: three})
	f.finish(s, returned(held[0], "r"))
	f.finish(s, died(held[1]))
	f.requireRecord(runs[0], broker.Record{State: broker.StateSucceeded, Result: []byte("r"), Progress: two})
	f.requireRecord(runs[1], broker.Record{State: broker.StateFailed, Failure: failure("bad"), Progress: three})
}

func progressOfOthers(f *fixture) {
	runs := f.queueNew("q", 2, keep(time.Hour))
	bare := f.queueOne("q")
	s, other := f.openSession(longHold), f.openSession(longHold)
	held := f.take(s, 3, "q")
	f.heartbeat(other, progress(held[0], 1, "foreign"))
	f.requireRecord(runs[0], broker.Record{State: broker.StateRunning})
	f.finish(s, succeeded(held[1])...)
	f.heartbeat(s, progress(held[1], 1, "late"))
	f.requireRecord(runs[1], broker.Record{State: broker.StateSucceeded})
	f.heartbeat(s, progress(held[2], 1, "no record"))
	f.requireNoRecord("q", bare.ID, "a run without Keep that told of its progress")
	f.heartbeat(s, progress(f.newRun("q"), 1, "unknown"))
	f.finish(s, succeeded(held[0], held[2])...)
}

func lastRuns(f *fixture) {
	if !is[broker.Controls](f.b) {
		f.Skip("the broker has no controls")
	}
	f.queueNew("q", 1)
	f.queueNew("other", 1)
	s := f.openSession(longHold)
	f.take(s, 2, "q", "other")
	at := time.Unix(1_800_000_000, 123_456_789).UTC()
	last := func(queue, task, id string, started time.Time, failure broker.FailureKind) broker.LastRun {
		return broker.LastRun{Queue: queue, Task: task, ID: id, Started: started, Took: 5*time.Second + 1, Failure: failure}
	}
	report := func(runs ...broker.LastRun) { f.heartbeat(s, broker.Report{Last: runs}) }
	report(last("q", "a", "a1", at, "failed"), last("q", "b", "b1", at, ""), last("other", "a", "o1", at, "timeout"))
	report(last("q", "a", "a2", at.Add(time.Second), ""))
	report(last("q", "a", "a0", at.Add(-time.Second), "crashed"), last("q", "b", "b2", at.Add(time.Hour), "oom"))
	require.Equal(f, map[string]broker.LastRun{
		"a": last("q", "a", "a2", at.Add(time.Second), ""), "b": last("q", "b", "b2", at.Add(time.Hour), "oom"),
	}, f.queueInfo("q").Last, "last runs of queue q")
	require.Equal(f, map[string]broker.LastRun{"a": last("other", "a", "o1", at, "timeout")},
		f.queueInfo("other").Last, "last runs of the other queue")
}
