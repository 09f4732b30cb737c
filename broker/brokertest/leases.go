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
