package brokertest

import (
	"bytes"
	"slices"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/poison"
)

var recoverChecks = []check{
	{"a run whose lease ended comes back after that and not before", recoveredAfterLease},
	{"recovered runs go to the head of their queue in order, deliveries raised", recoveredAtHead},
	{"a run that began and came back again has its deliveries raised again", recoveredAgain},
	{"Recover gives back only of the queues named", recoversNamedQueues},
	{"a recovered run is as it was stored", recoveredUnchanged},
	{"of a batch only what is unfinished comes back", recoversUnfinished},
	{"a stale session's Finish is fenced and applied nowhere", staleFenced},
	{"a stale session's Renew says ErrLeaseLost", staleRenew},
	{"Recover wakes a blocked Take", recoverWakes},
	{"Recover by many at once gives each run back once", recoverRace},
}

var beginChecks = []check{
	{"a run that did not begin again is near the end of many sessions before that counts", recoveredNotBegun},
	{"a session that holds a run no longer is told so at its begin", beginLost},
}

var survivorChecks = []check{
	{"a lost lease of a consumer that lives is spared its runs", sparedRuns},
}

func sparedRuns(f *fixture) {
	f.queueNew("q", 2)
	s := f.openSession(shortHold)
	f.take(s, 2, "q")
	f.lapse(2, "q")
	for range 2 { // the second time there is nothing to spare
		require.NoError(f, s.(poison.Survivor).Survived(f.ctx()), "Survived")
	}
	other := f.openSession(longHold)
	for _, r := range f.take(other, 2, "q") {
		require.Equal(f, 2, r.Deliveries, "deliveries of run %s", r.ID)
		n, err := other.(poison.Survivor).Spared(f.ctx(), r)
		require.NoError(f, err, "Spared")
		require.Equal(f, 1, n, "deliveries that run %s is spared", r.ID)
	}
}

func recoveredAfterLease(f *fixture) {
	f.queueNew("q", 1)
	start := time.Now()
	f.take(f.openSession(shortHold), 1, "q")
	f.lapse(1, "q")
	require.GreaterOrEqual(f, time.Since(start), shortHold-slack, "time until a lease of %v was recovered", shortHold)
	require.Less(f, time.Since(start), shortHold+prompt, "time until a lease of %v was recovered", shortHold)
	require.Equal(f, 1, f.length("q"), "length after the run was given back")
	require.Zero(f, f.recover("q").Runs, "runs given back when all were already")
}

func recoveredAtHead(f *fixture) {
	high := f.queueNew("q", 2, priority(broker.High))
	low := f.queueNew("q", 2, priority(broker.Low))
	f.take(f.openSession(shortHold), 4, "q")
	newHigh := f.queueNew("q", 1, priority(broker.High))
	newLow := f.queueNew("q", 1, priority(broker.Low))
	f.lapse(4, "q")

	var want []*broker.TaskRun
	for _, runs := range [][]*broker.TaskRun{high, newHigh, low, newLow} {
		want = append(want, runs...)
	}
	s := f.openSession(shortHold)
	got := f.take(s, 6, "q")
	require.Equal(f, ids(want), ids(got), "recovered runs before those queued since, in each priority")
	require.Equal(f, []int{2, 2, 1, 2, 2, 1}, deliveries(got), "deliveries of those runs, in that order")
}

func recoveredAgain(f *fixture) {
	old := f.queueNew("q", 3)
	f.take(f.openSession(shortHold), 3, "q")
	f.lapse(3, "q")
	s := f.openSession(shortHold)
	back := f.take(s, 3, "q")
	f.begin(s, true, back...)
	f.queueNew("q", 1)
	f.take(s, 1, "q")
	f.lapse(4, "q")
	require.Equal(f, 4, f.length("q"), "length after another recovery")
	for _, r := range f.take(f.openSession(longHold), 4, "q") {
		want := 2
		if slices.Contains(ids(old), r.ID) {
			want = 3
		}
		require.Equal(f, want, r.Deliveries, "deliveries of run %s", r.ID)
	}
}

func recoveredNotBegun(f *fixture) {
	const often, brief = 25, 20 * time.Millisecond
	runs := f.queueNew("q", 2)
	begun, counts := runs[0].ID, map[string]int{}
	for range often {
		s := f.openSession(brief)
		for _, r := range f.take(s, 2, "q") {
			counts[r.ID] = r.Deliveries
			if r.ID == begun && r.Deliveries == 2 {
				f.begin(s, true, r)
			}
		}
		f.lapse(2, "q")
	}
	require.GreaterOrEqual(f, counts[begun], 3, "deliveries of the run that began again")
	require.Less(f, counts[runs[1].ID], 4, "deliveries of the run that came back %d times and did not begin", often)
}

func beginLost(f *fixture) {
	f.queueNew("q", 2)
	f.take(f.openSession(shortHold), 2, "q")
	f.lapse(2, "q")
	s, other := f.openSession(shortHold), f.openSession(longHold)
	back := f.take(s, 2, "q")
	f.begin(other, false, back...)
	f.begin(s, true, back...)
	f.begin(s, true, back...)
	f.finish(s, succeeded(back[1])...)
	f.begin(s, false, back[1])
	f.lapse(1, "q")
	f.begin(s, false, back[0])
}

func recoversNamedQueues(f *fixture) {
	f.queueNew("a", 1)
	f.queueNew("b", 1)
	f.take(f.openSession(shortHold), 2, "a", "b")
	f.lapse(1, "a", "unknown")
	require.Equal(f, 1, f.length("a"), "length of the queue named")
	require.Zero(f, f.length("b"), "length of the queue not named")
	f.lapse(1, "b")
}

func recoveredUnchanged(f *fixture) {
	want := fullRuns(f, "q")
	f.queue(want...)
	before := make(map[string]broker.TaskRun)
	for _, w := range want {
		c := *w
		c.Payload, c.Headers = bytes.Clone(w.Payload), cloneMap(w.Headers)
		c.Rules, c.Links, c.History = cloneRules(w.Rules), cloneLinks(w.Links), w.History.Clone()
		before[w.ID] = c
	}
	for _, r := range f.take(f.openSession(shortHold), len(want), "q") {
		scribble(r) // it is the caller's alone
	}
	f.lapse(len(want), "q")
	for _, r := range f.take(f.openSession(longHold), len(want), "q") {
		w := before[r.ID]
		f.requireSame(&w, r, "a recovered run whose first session changed its copy")
	}
}

func recoversUnfinished(f *fixture) {
	runs := f.queueNew("q", 6)
	s := f.openSession(shortHold)
	taken := f.take(s, 6, "q")
	f.finish(s, succeeded(taken[1])...)
	f.finish(s,
		died(taken[3]),
		retried(taken[5], time.Hour))
	f.lapse(3, "q")
	s2 := f.openSession(longHold)
	again := f.take(s2, 3, "q")
	require.Equal(f, []string{runs[0].ID, runs[2].ID, runs[4].ID}, ids(again), "runs given back of a batch half finished")
	require.Equal(f, []int{2, 2, 2}, deliveries(again), "their deliveries")
	f.takesNothing(s2, "q")
	require.Equal(f, 1, f.length("q"), "length: the retry waits")
}

func staleFenced(f *fixture) {
	runs := f.queueNew("q", 4, keep(time.Hour))
	stale := f.openSession(shortHold)
	old := f.take(stale, 4, "q")
	f.lapse(4, "q")

	all := []broker.Outcome{
		{Run: old[0], Verdict: broker.Succeeded, Result: []byte("stale")},
		{Run: old[1], Verdict: broker.Dead, Failure: failure("stale")},
		{Run: old[2], Verdict: broker.Dropped, Failure: failure("stale")},
		{Run: old[3], Verdict: broker.Retry, Delay: time.Hour, Failure: failure("stale")},
	}
	f.finishFenced(stale, all...)
	require.Equal(f, 4, f.length("q"), "length after a stale Finish of runs that wait again")
	s := f.openSession(longHold)
	again := f.take(s, 4, "q")
	require.Equal(f, ids(runs), ids(again), "runs taken after a stale Finish")
	f.finishFenced(stale, all...)
	if records, ok := f.b.(broker.Records); ok {
		for _, r := range runs {
			rec, err := records.Record(f.ctx(), "q", r.ID)
			require.NoError(f, err, "Record of a run that another session holds")
			require.Equal(f, broker.StateRunning, rec.State, "state after a stale Finish")
			require.Nil(f, rec.Failure, "failure after a stale Finish")
		}
		dead, err := records.DeadLetters(f.ctx(), "q", aLot)
		require.NoError(f, err, "DeadLetters")
		require.Empty(f, dead, "dead letters after a stale Finish")
	}
	f.finish(s, succeeded(again...)...)
	require.Zero(f, f.length("q"), "length after the holder finished all")
}

func staleRenew(f *fixture) {
	f.queueNew("q", 2)
	s := f.openSession(shortHold)
	f.take(s, 2, "q")
	require.NoError(f, s.Renew(f.ctx()), "Renew of a lease that holds")
	f.lapse(2, "q")
	require.ErrorIs(f, s.Renew(f.ctx()), broker.ErrLeaseLost, "Renew after its runs were recovered")
}

func recoverWakes(f *fixture) {
	run := f.queueOne("q")
	f.take(f.openSession(shortHold), 1, "q")
	arrived := f.receiveLeased(f.openSession(longHold), "q")
	f.lapse(1, "q")
	f.requireArrival(arrived, run, time.Now())
}

func recoverRace(f *fixture) {
	const total, sweepers = 400, 8
	runs := f.queueNew("q", total)
	f.take(f.openSession(shortHold), total/2, "q")
	f.take(f.openSession(shortHold), total/2, "q")
	var back atomic.Int64
	stop := f.within(endurance)
	f.each(sweepers, func(int) error {
		for back.Load() < total && stop.Err() == nil {
			recovered, err := f.leaser().Recover(stop, []string{"q"})
			if err != nil {
				return err
			}
			back.Add(int64(recovered.Runs))
		}
		return nil
	})
	require.EqualValues(f, total, back.Load(), "runs that all Recovers together gave back")
	got := f.take(f.openSession(longHold), total, "q")
	var seen tally
	seen.add(got...)
	f.requireOnce(&seen, runs, "runs after many recovered at once")
	for _, r := range got {
		require.Equal(f, 2, r.Deliveries, "deliveries of run %s, recovered once", r.ID)
	}
	f.nothing("q")
}
