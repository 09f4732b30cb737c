package brokertest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var uniqueChecks = []check{
	{"a run with the unique key of a live one is refused and that one named", uniqueRefused},
	{"a batch with duplicates is refused whole, each of them named", uniqueBatch},
	{"a batch of thousands with a duplicate is refused whole, and leaves no key", uniqueLargeBatch},
	{"a unique key is held through taking, retries, recovery and giving back", uniqueHeld},
	{"a unique key is free once its run has ended in any way", uniqueFreed},
	{"a unique key is free once its run was taken for good", uniqueTakenForGood},
	{"a unique key with a time is free that long after its run is due", uniqueTimed},
	{"a unique key until the start is free once its run has started, and not before", uniqueUntilStart},
	{"the end of a run does not free a key that another has since", uniqueOvertaken},
	{"of a thousand racers on one unique key one is accepted", uniqueRace},
	{"a tick whose run is a duplicate is claimed and queues nothing", uniqueTick},
}

func unique(key string) func(*broker.TaskRun) {
	return func(r *broker.TaskRun) { r.EnsureRules().Unique = key }
}

func uniqueFor(key string, d time.Duration) func(*broker.TaskRun) {
	return func(r *broker.TaskRun) {
		rules := r.EnsureRules()
		rules.Unique, rules.UniqueFor = key, d
	}
}

// queueConflict queues runs that must be refused for their unique keys.
func (f *fixture) queueConflict(what string, want []broker.Duplicate, runs ...*broker.TaskRun) {
	f.Helper()
	f.requireConflict(f.b.QueueTasks(f.ctx(), runs...), want, "QueueTasks with the unique key of a run that is "+what)
}

func (f *fixture) requireConflict(err error, want []broker.Duplicate, what string) {
	f.Helper()
	require.ErrorIs(f, err, broker.ErrDuplicate, what)
	var conflict *broker.DuplicateError
	require.ErrorAs(f, err, &conflict, what)
	require.Equal(f, want, conflict.Runs, "duplicates of %s", what)
}

// held is the one duplicate of a call whose only run has the key of r.
func held(r *broker.TaskRun) []broker.Duplicate { return []broker.Duplicate{{Index: 0, ID: r.ID}} }

func uniqueRefused(f *fixture) {
	now := f.queueOne("q", unique("now"))
	later := f.queueOne("q", unique("later"), delay(time.Hour))
	f.queueConflict("queued", held(now), f.newRun("q", unique("now")))
	f.queueConflict("delayed", held(later), f.newRun("q", unique("later")))
	f.queueConflict("queued", held(now), f.newRun("q", unique("now"), ownID("own"), delay(time.Hour)))
	require.Equal(f, 2, f.length("q"), "length after duplicates were refused")
	f.queueNew("q", 1, unique("NOW"))
	f.queueNew("q", 1, ownID("own"))
	f.queueNew("other", 1, unique("now"))
	f.queueNew("q", 3)
}

func uniqueBatch(f *fixture) {
	live := f.queueOne("q", unique("live"))
	batch := []*broker.TaskRun{
		f.newRun("q"), f.newRun("q", unique("live")), f.newRun("q", unique("twice")),
		f.newRun("q", unique("once")), f.newRun("q", unique("twice")), f.newRun("q", unique("live")),
		f.newRun("q", unique("twice"), keep(time.Hour)),
	}
	f.queueConflict("in the same batch or live", []broker.Duplicate{
		{Index: 1, ID: live.ID}, {Index: 4, ID: batch[2].ID}, {Index: 5, ID: live.ID}, {Index: 6, ID: batch[2].ID},
	}, batch...)
	require.Equal(f, 1, f.length("q"), "length after a batch with duplicates")

	f.queueNew("q", 1, ownID("own"))
	f.queueDuplicate("queued", f.newRun("q", unique("once")), f.newRun("q", ownID("own")), f.newRun("q", unique("twice")))
	// A conflict leaves no lock.
	f.queue(f.newRun("q", unique("once")), f.newRun("q", unique("twice")))
	require.Equal(f, 4, f.length("q"), "length after runs with the keys of refused ones")
}

func uniqueLargeBatch(f *fixture) {
	const n = 5000
	live := f.queueOne("q", unique(fmt.Sprint("key-", n-1)))
	batch := func() []*broker.TaskRun {
		runs := f.newRuns("q", n, keep(time.Hour))
		for i, r := range runs {
			r.EnsureRules().Unique = fmt.Sprint("key-", i)
		}
		return runs
	}
	f.queueConflict("in a large batch", []broker.Duplicate{{Index: n - 1, ID: live.ID}}, batch()...)
	require.Equal(f, 1, f.length("q"), "length after a large batch with a duplicate")
	first := f.queueOne("q", unique("key-0"))
	f.queueConflict("in a large batch", []broker.Duplicate{{Index: 0, ID: first.ID}, {Index: n - 1, ID: live.ID}}, batch()...)
	f.get(2, "q")
	runs := batch()
	f.queue(runs...)
	require.Equal(f, n, f.length("q"), "length after a large batch")
	for _, i := range []int{0, n / 2, n - 1} {
		f.queueConflict("of a large batch", held(runs[i]), f.newRun("q", unique(fmt.Sprint("key-", i))))
	}
	require.Equal(f, ids(runs), ids(f.get(n, "q")), "runs of a large batch in order")
}

func uniqueHeld(f *fixture) {
	given := f.queueOne("q", unique("key"))
	refused := func(what string) { f.queueConflict(what, held(given), f.newRun("q", unique("key"))) }
	s := f.openSession(shortHold)
	run := f.takeOne(s, "q")
	refused("leased")
	f.finish(s, retried(run, 0))
	refused("queued for its retry")
	run = f.takeOne(s, "q")
	f.finish(s, retried(run, quiet))
	refused("delayed for its retry")
	f.take(s, 1, "q")
	f.lapse(1, "q")
	refused("recovered")
	s = f.openSession(longHold)
	f.take(s, 1, "q")
	f.close(s)
	refused("given back")
	s = f.openSession(longHold)
	f.finish(s, succeeded(f.take(s, 1, "q")...)...)
	f.queueNew("q", 1, unique("key"))
}

func uniqueFreed(f *fixture) {
	s := f.openSession(longHold)
	for _, v := range []broker.Verdict{broker.Succeeded, broker.Dead, broker.Dropped} {
		for _, d := range []time.Duration{0, time.Hour} {
			given := f.queueOne("q", uniqueFor("key", d), keep(time.Hour))
			f.queueConflict("queued", held(given), f.newRun("q", unique("key")))
			o := broker.Outcome{Run: f.takeOne(s, "q"), Verdict: v}
			if v != broker.Succeeded {
				o.Failure = failure("over")
			}
			f.finish(s, o)
			f.finishFenced(s, o)
		}
	}
	f.queueNew("q", 1, unique("key"))
}

func uniqueTakenForGood(f *fixture) {
	f.queueNew("q", 1, unique("key"))
	f.get(1, "q")
	given := f.queueOne("q", unique("key"))
	f.queueConflict("queued", held(given), f.newRun("q", unique("key")))
}

// requireFree queues a run with the key as soon as it can, and checks that this
// was not before the instant.
func (f *fixture) requireFree(key string, from time.Time, what string) *broker.TaskRun {
	f.Helper()
	run := f.newRun("q", unique(key))
	f.eventually(func() bool {
		err := f.b.QueueTasks(f.ctx(), run)
		if err != nil {
			require.ErrorIs(f, err, broker.ErrDuplicate, "QueueTasks")
		}
		return err == nil
	}, "the key of %s is free", what)
	require.False(f, time.Now().Before(from.Add(-slack)), "the key of %s was free %v too early", what, time.Until(from))
	return run
}

func uniqueTimed(f *fixture) {
	const held = 200 * time.Millisecond
	start := time.Now()
	f.queueNew("q", 1, uniqueFor("queued", held))
	f.queueNew("q", 1, uniqueFor("leased", held))
	f.queueNew("q", 1, uniqueFor("delayed", held), delay(2*held))
	f.queueNew("q", 1, uniqueFor("due", held), due(start.Add(3*held)))
	s := f.openSession(longHold)
	f.take(s, 2, "q")
	f.requireFree("queued", start.Add(held), "a run that waited")
	f.requireFree("leased", start.Add(held), "a run that is held")
	f.requireFree("delayed", start.Add(3*held), "a run that was delayed")
	f.requireFree("due", start.Add(4*held), "a run that was due at an instant")
	require.Less(f, time.Since(start), 4*held+prompt, "time until all keys were free")
}

func uniqueUntilStart(f *fixture) {
	untilStart := func(r *broker.TaskRun) { r.EnsureRules().Unique, r.Rules.UntilStart = "key", true }
	first := f.queueOne("q", untilStart)
	f.queueConflict("queued", held(first), f.newRun("q", untilStart))
	s := f.openSession(shortHold)
	started := f.takeOne(s, "q")
	require.True(f, started.Rules.UntilStart, "UntilStart of a taken run")
	f.queueConflict("taken, and not started", held(first), f.newRun("q", untilStart))
	starter, ok := s.(broker.Starter)
	require.True(f, ok, "the session of a broker with policies is a broker.Starter")
	start := func() bool {
		ok, err := starter.Start(f.ctx(), started)
		require.NoError(f, err, "Start")
		return ok
	}
	require.True(f, start(), "Start of a run that the session holds")
	second := f.queueOne("q", untilStart)
	require.True(f, start(), "Start of a run once more")
	f.queueConflict("queued behind one that has started", held(second), f.newRun("q", untilStart))
	f.finish(s, retried(started, 0))
	started = f.takeOne(s, "q")
	require.Equal(f, first.ID, started.ID, "the run that is taken again")
	require.True(f, start(), "Start of a run whose key another has")
	f.queueConflict("queued behind a retry", held(second), f.newRun("q", untilStart))
	f.finish(s, succeeded(started)...)
	require.False(f, start(), "Start of a run that has ended")
	f.queueConflict("queued behind one that has ended", held(second), f.newRun("q", untilStart))
	started = f.takeOne(s, "q")
	f.lapse(1, "q")
	require.False(f, start(), "Start of a run that was recovered")
	f.queueConflict("recovered before its start", held(second), f.newRun("q", untilStart))
}

func uniqueOvertaken(f *fixture) {
	start := time.Now()
	s, first := f.hold(1, uniqueFor("key", quiet))
	second := f.requireFree("key", start.Add(quiet), "a run that is held")
	f.finish(s, succeeded(first...)...)
	f.queueConflict("queued", held(second), f.newRun("q", unique("key")))
	f.finish(s, succeeded(f.take(s, 1, "q")...)...)
	f.queueNew("q", 1, unique("key"))
}

func uniqueRace(f *fixture) {
	const rounds, racers = 4, 1000
	for round := range rounds {
		key := fmt.Sprintf("key-%d", round)
		var accepted atomic.Int32
		f.each(racers, func(int) error {
			err := f.b.QueueTasks(f.ctx(), f.newRun("q", unique(key)))
			if err == nil {
				accepted.Add(1)
			} else if !errors.Is(err, broker.ErrDuplicate) {
				return err
			}
			return nil
		})
		require.EqualValues(f, 1, accepted.Load(), "accepted of %d producers of the key %s", racers, key)
	}
	require.Equal(f, rounds, f.length("q"), "length after the races")
	s := f.openSession(longHold)
	f.finish(s, succeeded(f.take(s, rounds, "q")...)...)
	for round := range rounds {
		f.queueNew("q", 1, unique(fmt.Sprintf("key-%d", round)))
	}
}

func uniqueTick(f *fixture) {
	if !is[broker.Ticks](f.b) {
		f.Skip("the broker has no schedules")
	}
	live := f.queueOne("q", unique("key"))
	tick := midnight.Add(time.Second)
	run := f.newRun("q", unique("key"))
	f.requireConflict(f.ticks().QueueTick(f.ctx(), run, tick), held(live), "QueueTick with the unique key of a live run")
	f.requireLastTick("q", theTask, tick)
	require.Equal(f, 1, f.length("q"), "length after a tick that was a duplicate")

	err := f.ticks().QueueTick(f.ctx(), run, tick)
	require.ErrorIs(f, err, broker.ErrDuplicate, "QueueTick of a tick that was claimed")
	var conflict *broker.DuplicateError
	require.False(f, errors.As(err, &conflict), "QueueTick of a tick that was claimed is a DuplicateError: %v", err)

	s := f.openSession(longHold)
	f.finish(s, succeeded(f.take(s, 1, "q")...)...)
	require.NoError(f, f.ticks().QueueTick(f.ctx(), run, tick.Add(time.Second)), "QueueTick once the key is free")
	f.queueConflict("a tick's", held(run), f.newRun("q", unique("key")))
}
