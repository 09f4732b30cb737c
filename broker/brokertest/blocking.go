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

var blockingChecks = []check{
	{"a blocked take wakes when a run is queued", wakesOnQueue},
	{"a blocked take wakes for each of its queues", wakesForEachQueue},
	{"every blocked take wakes when there is a run for each", wakesEveryone},
	{"a blocked take ends with its context's error", endsWithContext},
	{"a take whose context has ended takes nothing", endedContextTakesNothing},
	{"cancelled takes lose no run", cancelsLoseNothing},
	{"a cancelled take leaves its run to another that is blocked", cancelPassesOn},
}

type arrival struct {
	run *broker.TaskRun
	at  time.Time
	err error
}

// receive takes n runs one by one in a goroutine of its own.
func (f *fixture) receive(n int, queues ...string) <-chan arrival {
	ctx := f.ctx()
	arrived := make(chan arrival, n)
	done := f.start(1, func(int) error {
		defer close(arrived)
		for range n {
			runs, err := f.b.GetTaskRuns(ctx, queues, 1)
			if err == nil && len(runs) != 1 {
				err = errors.New("GetTaskRuns with max 1 returned neither one run nor an error")
			}
			if err != nil {
				arrived <- arrival{err: err}
				return err
			}
			arrived <- arrival{run: runs[0], at: time.Now()}
		}
		return nil
	})
	f.Cleanup(func() { _ = done() })
	return arrived
}

// requireArrival checks that the next arrival is the run, and prompt.
func (f *fixture) requireArrival(arrived <-chan arrival, want *broker.TaskRun, since time.Time) {
	f.Helper()
	a := <-arrived
	require.NoError(f, a.err, "blocked take")
	require.Equal(f, want.ID, a.run.ID, "run of the blocked take")
	require.Less(f, a.at.Sub(since), prompt, "time from there being a run to the blocked take's return")
}

// requireArrivalAt checks that a blocked take returned a run at an instant, and not
// before.
func (f *fixture) requireArrivalAt(arrived <-chan arrival, want *broker.TaskRun, at time.Time) {
	f.Helper()
	f.requireArrival(arrived, want, at)
	require.False(f, time.Now().Before(at.Add(-slack)), "run %s was taken %v too early", want.ID, time.Until(at))
}

func wakesOnQueue(f *fixture) {
	const rounds = 20
	arrived := f.receive(rounds, "q")
	for range rounds {
		f.pass(rand.N(20 * time.Millisecond))
		start := time.Now()
		f.requireArrival(arrived, f.queueOne("q"), start)
	}
}

func wakesForEachQueue(f *fixture) {
	arrived := f.receive(6, "a", "b", "c")
	for _, q := range []string{"c", "a", "b", "b", "a", "c"} {
		f.pass(10 * time.Millisecond)
		start := time.Now()
		f.requireArrival(arrived, f.queueNew(q, 1, kind(broker.CPU))[0], start)
	}
}

func wakesEveryone(f *fixture) {
	const fetchers = 12
	for _, calls := range []int{1, fetchers} {
		var blocked []<-chan arrival
		for range fetchers {
			blocked = append(blocked, f.receive(1, "q"))
		}
		f.pass(50 * time.Millisecond)
		start := time.Now()
		var seen tally
		var runs []*broker.TaskRun
		for range calls {
			runs = append(runs, f.queueNew("q", fetchers/calls)...)
		}
		for _, arrived := range blocked {
			a := <-arrived
			require.NoError(f, a.err, "one of %d blocked takes, with a run queued for each in %d calls", fetchers, calls)
			require.Less(f, a.at.Sub(start), 2*prompt, "time until one of %d blocked takes returned", fetchers)
			seen.add(a.run)
		}
		f.requireOnce(&seen, runs, "runs of blocked takes")
	}
}

func endsWithContext(f *fixture) {
	start := time.Now()
	f.nothing("q")
	require.GreaterOrEqual(f, time.Since(start), quiet-slack, "time a take with nothing due blocked")
	require.Less(f, time.Since(start), quiet+prompt, "time a take blocked beyond its deadline")

	ctx, cancel := context.WithCancel(f.ctx())
	defer cancel()
	ended := make(chan error, 1)
	wait := f.start(1, func(int) error {
		_, err := f.b.GetTaskRuns(ctx, []string{"q"}, 1)
		ended <- err
		return nil
	})
	f.pass(20 * time.Millisecond)
	start = time.Now()
	cancel()
	require.ErrorIs(f, <-ended, context.Canceled, "a blocked take that was cancelled")
	require.Less(f, time.Since(start), prompt, "time from the cancel to the blocked take's return")
	require.NoError(f, wait())
}

func endedContextTakesNothing(f *fixture) {
	f.queueNew("q", 1)
	ctx, cancel := context.WithCancel(f.Context())
	cancel()
	for range 20 {
		runs, err := f.b.GetTaskRuns(ctx, []string{"q"}, 1)
		require.ErrorIs(f, err, context.Canceled, "take with an ended context; it returned %v", ids(runs))
	}
	require.Equal(f, 1, f.length("q"), "length after takes with an ended context")
}

// cancelsLoseNothing cancels takes at any moment while runs are queued one by
// one, so that cancels meet deliveries.
func cancelsLoseNothing(f *fixture) {
	const total, fetchers = 800, 8
	runs := f.newRuns("q", total)
	var seen tally
	var cancelled atomic.Int64
	var queued atomic.Bool // all: no more are queued
	stop := f.within(endurance)
	taken := f.start(fetchers, func(int) error {
		for seen.len() < total && stop.Err() == nil {
			limit := rand.N(500 * time.Microsecond)
			if queued.Load() {
				limit = 50 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(stop, limit)
			got, err := f.b.GetTaskRuns(ctx, []string{"q"}, 3)
			cancel()
			seen.add(got...)
			switch {
			case errors.Is(err, context.DeadlineExceeded):
				cancelled.Add(1)
			case err != nil:
				return err
			}
		}
		return nil
	})
	for _, r := range runs {
		f.pass(rand.N(200 * time.Microsecond)) // so that takes block now and then
		f.queue(r)
	}
	queued.Store(true)
	require.NoError(f, taken(), "takes")
	f.requireOnce(&seen, runs, "runs queued while takes were cancelled")
	require.NotZero(f, cancelled.Load(), "takes that were cancelled")
	f.Logf("%d takes were cancelled", cancelled.Load())
	f.nothing("q")
}

// cancelPassesOn cancels a take as a run is queued that could wake it, while
// another blocks that nothing else would wake.
func cancelPassesOn(f *fixture) {
	f.handOver(func() takeFunc {
		return func(ctx context.Context) ([]*broker.TaskRun, error) {
			return f.b.GetTaskRuns(ctx, []string{"q"}, 1)
		}
	})
}

type takeFunc func(ctx context.Context) ([]*broker.TaskRun, error)

// handOver blocks two takes, cancels the first and queues a run, a hundred times. It checks
// that the second take returns the run at once. If the first take returns the run, because it
// was not cancelled in time, handOver queues another run for the second.
func (f *fixture) handOver(newTake func() takeFunc) {
	f.Helper()
	const rounds = 100
	cancelled := 0
	for range rounds {
		ctx, cancel := context.WithCancel(f.ctx())
		var first, second []*broker.TaskRun
		firstTake, secondTake := newTake(), newTake()
		firstDone := f.start(1, func(int) (err error) {
			first, err = firstTake(ctx)
			return err
		})
		stop := f.within(patience)
		secondDone := f.start(1, func(int) (err error) {
			second, err = secondTake(stop)
			return err
		})
		f.pass(rand.N(time.Millisecond)) // so that they block, mostly
		cancel()
		want := f.queueNew("q", 1)
		if err := firstDone(); err == nil {
			require.Equal(f, ids(want), ids(first), "run of the first of two takes")
			want = f.queueNew("q", 1)
		} else {
			require.ErrorIs(f, err, context.Canceled, "the take that was cancelled")
			cancelled++
		}
		start := time.Now()
		require.NoError(f, secondDone(), "a blocked take beside one that was cancelled")
		require.Less(f, time.Since(start), prompt, "time until a blocked take beside one that was cancelled returned")
		require.Equal(f, ids(want), ids(second), "run of the second of two takes")
	}
	require.NotZero(f, cancelled, "takes that were cancelled")
	f.Logf("%d of %d takes were cancelled", cancelled, rounds)
}
