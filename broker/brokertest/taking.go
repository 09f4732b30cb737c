package brokertest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var takeChecks = []check{
	{"a leased run has every field and its deliveries counted from 1", leasedFields},
	{"a session takes no more of a kind than it wants", kindsRespected},
	{"a backlog of one kind does not hold up the other", kindsIndependent},
	{"what a session prefetches leaves others their share", prefetchShared},
	{"a session takes by preference, priority and order", leasedOrder},
	{"QueueLength does not count what is leased", leasedNotCounted},
	{"two sessions never hold the same run", neverShared},
	{"a blocked Take wakes when a run is queued or becomes due", takeWakes},
	{"a Take whose context ends loses nothing", cancelledTakeLosesNothing},
	{"a cancelled Take leaves its run to another session that is blocked", cancelledTakePassesOn},
	{"an own id is a duplicate until its run has ended", duplicateUntilEnd},
	{"sessions have different ids", sessionIDs},
}

func leasedFields(f *fixture) {
	want := fullRuns(f, "q")
	f.queue(want...)
	got := byID(f.take(f.openSession(longHold), len(want), "q"))
	for _, w := range want {
		require.Contains(f, got, w.ID, "leased runs")
		f.requireSame(w, got[w.ID], "a leased run")
		require.Equal(f, 1, got[w.ID].Deliveries, "deliveries of a run's first delivery")
	}
}

func prefetchShared(f *fixture) {
	f.queueNew("q", 12)
	first, second := f.openSession(longHold), f.openSession(longHold)
	held := len(f.take(first, 1, "q")) + len(f.take(second, 1, "q"))
	require.Equal(f, 2, held)
	runs, err := first.Take(f.ctx(), broker.Want{Queues: []string{"q"}, IO: 10, PrefetchIO: 9})
	require.NoError(f, err)
	require.NotEmpty(f, runs, "a Take with a free slot")
	require.LessOrEqual(f, len(runs), 5, "runs of 10 that one of two sessions took, with one free slot and 9 to prefetch")
	more, err := second.Take(f.ctx(), broker.Want{Queues: []string{"q"}, IO: 10})
	require.NoError(f, err)
	require.Len(f, more, 10-len(runs), "runs for free slots, which no share limits")
}

func kindsRespected(f *fixture) {
	f.queueNew("q", 10, kind(broker.IO))
	f.queueNew("q", 10, kind(broker.CPU))
	s := f.openSession(longHold)
	left := 20
	for _, want := range []broker.Want{{IO: 3, CPU: 1}, {IO: 2}, {CPU: 4}, {IO: 1, CPU: 1}} {
		want.Queues = []string{"q"}
		runs, err := s.Take(f.ctx(), want)
		require.NoError(f, err, "Take of %+v", want)
		n := map[broker.Kind]int{}
		for _, r := range runs {
			n[r.Kind]++
		}
		require.NotEmpty(f, runs, "Take of %+v with %d runs due", want, left)
		require.LessOrEqual(f, n[broker.IO], want.IO, "io runs of a Take of %+v", want)
		require.LessOrEqual(f, n[broker.CPU], want.CPU, "cpu runs of a Take of %+v", want)
		left -= len(runs)
	}
	require.Equal(f, left, f.length("q"), "length after runs were taken")
}

func kindsIndependent(f *fixture) {
	f.queueNew("q", 100, kind(broker.CPU), priority(broker.High))
	io := f.queueNew("q", 2, kind(broker.IO), priority(broker.Low))
	s := f.openSession(longHold)
	var got []*broker.TaskRun
	for len(got) < 2 {
		runs, err := s.Take(f.ctx(), broker.Want{Queues: []string{"q"}, IO: 10})
		require.NoError(f, err, "Take of io runs behind a backlog of cpu runs")
		got = append(got, runs...)
	}
	require.Equal(f, ids(io), ids(got), "io runs behind a backlog of cpu runs")
	runs, err := s.Take(f.within(quiet), broker.Want{Queues: []string{"q"}, IO: 10})
	require.ErrorIs(f, err, context.DeadlineExceeded, "Take of io runs with only cpu runs there; it returned %v", ids(runs))
}

func leasedOrder(f *fixture) {
	want := []string{"a-high-1", "a-high-2", "a-medium-1", "a-medium-2", "a-low-1", "b-high-1", "b-low-1"}
	add := func(id, queue string, p broker.Priority) *broker.TaskRun {
		return f.newRun(queue, priority(p), func(r *broker.TaskRun) { r.ID = id })
	}
	f.queue(add("b-low-1", "b", broker.Low), add("b-high-1", "b", broker.High))
	f.queue(add("a-low-1", "a", broker.Low), add("a-medium-1", "a", broker.Medium), add("a-high-1", "a", broker.High))
	f.queue(add("a-high-2", "a", broker.High), add("a-medium-2", "a", broker.Medium))
	require.Equal(f, want, ids(f.take(f.openSession(longHold), len(want), "a", "b")),
		"queue a before b, high before medium before low, then as queued")
}

func leasedNotCounted(f *fixture) {
	f.queueNew("q", 5)
	s := f.openSession(longHold)
	runs := f.take(s, 2, "q")
	require.Equal(f, 3, f.length("q"), "length with 2 of 5 leased")
	f.finish(s, succeeded(runs[0])...)
	require.Equal(f, 3, f.length("q"), "length after one of them has ended")
	f.finish(s, retried(runs[1], time.Hour))
	require.Equal(f, 4, f.length("q"), "length after the other waits for its retry")
}

func neverShared(f *fixture) {
	const total, sessions = 3_000, 8
	runs := f.queueNew("q", total)
	var seen tally
	stop := f.within(endurance)
	f.each(sessions, func(int) error {
		s, err := f.leaser().OpenSession(stop, longHold)
		if err != nil {
			return err
		}
		for seen.len() < total && stop.Err() == nil {
			got, err := s.Take(f.within(quiet), anyOf(1+rand.N(7), "q"))
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			seen.add(got...)
		}
		return nil
	})
	f.requireOnce(&seen, runs, "runs leased by 8 sessions")
}

// requireWakes lets a session block in Take and calls act. It checks that Take then returns
// the run, after the given time and not before.
func (f *fixture) requireWakes(run *broker.TaskRun, after time.Duration, act func()) {
	f.Helper()
	arrived := f.receiveLeased(f.openSession(longHold), run.Queue)
	f.pass(50 * time.Millisecond)
	start := time.Now()
	act()
	f.requireArrivalAt(arrived, run, start.Add(after))
}

// receiveLeased starts a goroutine in which the session takes one run, and returns a channel
// that gets the run.
func (f *fixture) receiveLeased(s broker.Session, queues ...string) <-chan arrival {
	ctx := f.ctx()
	arrived := make(chan arrival, 1)
	done := f.start(1, func(int) error {
		runs, err := s.Take(ctx, anyOf(1, queues...))
		if err == nil && len(runs) != 1 {
			err = errors.New("a take with room for one returned neither one run nor an error")
		}
		if err != nil {
			arrived <- arrival{err: err}
			return err
		}
		arrived <- arrival{run: runs[0], at: time.Now()}
		return nil
	})
	f.Cleanup(func() { _ = done() })
	return arrived
}

func takeWakes(f *fixture) {
	s := f.openSession(longHold)
	for _, d := range []time.Duration{0, 200 * time.Millisecond, 0} {
		arrived := f.receiveLeased(s, "other", "q")
		f.pass(20 * time.Millisecond)
		start := time.Now()
		f.requireArrivalAt(arrived, f.queueOne("q", delay(d)), start.Add(d))
	}
}

func cancelledTakeLosesNothing(f *fixture) {
	const total, sessions = 600, 6
	runs := f.newRuns("q", total)
	var seen tally
	var cancelled atomic.Int64
	var queued atomic.Bool // all runs are queued
	stop := f.within(endurance)
	taken := f.start(sessions, func(int) error {
		s, err := f.leaser().OpenSession(stop, longHold)
		if err != nil {
			return err
		}
		for seen.len() < total && stop.Err() == nil {
			limit := rand.N(500 * time.Microsecond)
			if queued.Load() {
				limit = 50 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(stop, limit)
			got, err := s.Take(ctx, anyOf(2, "q"))
			cancel()
			seen.add(got...)
			switch {
			case errors.Is(err, context.DeadlineExceeded):
				cancelled.Add(1)
			case err != nil:
				return err
			}
			if done, err := s.Finish(stop, succeeded(got...)...); err != nil || len(done.Fenced) > 0 {
				return errors.Join(err, errFenced(done.Fenced))
			}
		}
		return nil
	})
	for _, r := range runs {
		f.pass(rand.N(200 * time.Microsecond)) // so that takes block now and then
		f.queue(r)
	}
	queued.Store(true)
	require.NoError(f, taken(), "sessions")
	f.requireOnce(&seen, runs, "runs queued while sessions' takes were cancelled")
	require.NotZero(f, cancelled.Load(), "takes that were cancelled")
	f.Logf("%d takes were cancelled", cancelled.Load())
}

// cancelledTakePassesOn closes the session of a cancelled Take: the session may hold a run
// that Take did not return.
func cancelledTakePassesOn(f *fixture) {
	f.handOver(func() takeFunc {
		s := f.openSession(longHold)
		return func(ctx context.Context) ([]*broker.TaskRun, error) {
			runs, err := s.Take(ctx, anyOf(1, "q"))
			if err != nil {
				err = errors.Join(err, s.Close(f.ctx()))
			}
			return runs, err
		}
	})
}

func errFenced(fenced []*broker.TaskRun) error {
	if len(fenced) == 0 {
		return nil
	}
	return errors.New("fenced although its lease holds: " + fenced[0].ID)
}

func duplicateUntilEnd(f *fixture) {
	s := f.openSession(longHold)
	f.queue(f.newRun("q", ownID("mine")))
	run := f.takeOne(s, "q")
	f.queueDuplicate("leased", f.newRun("q", ownID("mine")))
	f.finish(s, retried(run, 0))
	f.queueDuplicate("queued for its retry", f.newRun("q", ownID("mine")))
	run = f.takeOne(s, "q")
	f.finish(s, retried(run, quiet))
	f.queueDuplicate("delayed for its retry", f.newRun("q", ownID("mine")))

	for _, v := range []broker.Verdict{broker.Succeeded, broker.Dead, broker.Dropped} {
		run = f.takeOne(s, "q")
		require.Equal(f, "mine", run.ID, "id of the run taken")
		f.queueDuplicate("leased", f.newRun("q", ownID("mine")))
		f.finish(s, broker.Outcome{Run: run, Verdict: v, Failure: failure("over")})
		f.queue(f.newRun("q", ownID("mine")))
	}
	f.take(s, 1, "q")
	f.close(s)
	f.queueDuplicate("given back", f.newRun("q", ownID("mine")))
}

func sessionIDs(f *fixture) {
	seen := map[string]bool{}
	for range 100 {
		id := f.openSession(longHold).ID()
		require.False(f, seen[id], "id %q of two sessions", id)
		seen[id] = true
	}
}
