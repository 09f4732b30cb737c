package brokertest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var limitChecks = []check{
	{"no more runs of a key are held at once than its limit allows", limitHolds},
	{"runs that a limit holds back do not hold up others", limitPassed},
	{"runs that a limit holds back are counted as waiting", limitCounted},
	{"runs of a key that wait go before those queued since", limitOrder},
	{"a limit counts a run until it is finished, retried, recovered or given back", limitUntil},
	{"a blocked Take wakes when a limit lets a run go", limitWakes},
	{"a run with several limits starts when all allow it and counts for none before", limitsTogether},
	{"each run brings its own limit", limitOwn},
	{"the limits of a consumer's program hold in place of those that runs bring", limitOfProgram},
	{"a limit of a program holds for each value by itself", limitOfProgramByValue},
	{"a rate of a program holds in place of those that runs bring", limitOfProgramRate},
	{"of two programs' limits those of the newer one hold", limitOfNewerProgram},
	{"a rate lets no more runs start within any time that long", rateHolds},
	{"a blocked Take wakes when a rate lets a run go, and no earlier", rateWakes},
	{"a run with a limit is not taken ahead", limitNotAhead},
	{"limits hold while runs are retried, given back and finished by many", limitChurn},
}

// limit adds a limit to a new run. A zero time is one on how many are held.
func limit(key string, most int, per time.Duration) func(*broker.TaskRun) {
	return func(r *broker.TaskRun) {
		r.EnsureRules().Limits = append(r.EnsureRules().Limits, broker.Limit{Key: key, Max: most, Per: per})
	}
}

// requireNext checks which runs can be taken now, and that no more can.
func (f *fixture) requireNext(s broker.Session, what string, want ...*broker.TaskRun) []*broker.TaskRun {
	f.Helper()
	got := f.take(s, len(want), "q")
	require.Equal(f, ids(want), ids(got), what)
	f.takesNothing(s, "q")
	return got
}

func limitHolds(f *fixture) {
	runs := f.queueNew("q", 5, limit("key", 2, 0))
	other := f.queueNew("other", 1, limit("key", 2, 0))
	s := f.openSession(longHold)
	held := f.requireNext(s, "runs of 5 that a limit of 2 lets go", runs[:2]...)
	require.Equal(f, ids(other), ids(f.take(s, 1, "other")), "a run with the key in another queue")
	f.takesNothing(f.openSession(longHold), "q")
	f.finish(s, succeeded(held[1])...)
	next := f.requireNext(s, "runs after one of two has ended", runs[2])
	f.finish(s, succeeded(held[0], next[0])...)
	f.requireNext(s, "runs after both have ended", runs[3], runs[4])
}

func limitPassed(f *fixture) {
	first := f.queueNew("q", 50, limit("a", 1, 0), priority(broker.High))
	others := f.queueNew("q", 2, limit("b", 2, 0))
	plain := f.queueNew("q", 2)
	cpu := f.queueNew("q", 1, kind(broker.CPU), priority(broker.Low))
	s := f.openSession(longHold)
	f.requireNext(s, "runs with 49 of 50 held back",
		first[0], others[0], others[1], plain[0], plain[1], cpu[0])
}

func limitCounted(f *fixture) {
	f.queueNew("q", 10, limit("key", 3, 0))
	s := f.openSession(longHold)
	held := f.take(s, 3, "q")
	f.takesNothing(s, "q")
	require.Equal(f, 7, f.length("q"), "length with 3 of 10 taken and the rest held back")
	f.finish(s, succeeded(held...)...)
	require.Equal(f, 7, f.length("q"), "length after these have ended")
	f.take(s, 3, "q")
	require.Equal(f, 4, f.length("q"), "length after three more were taken")
}

func limitOrder(f *fixture) {
	runs := f.queueNew("q", 4, limit("key", 1, 0))
	s := f.openSession(longHold)
	held := f.requireNext(s, "the first of its key", runs[0])
	since := f.queueNew("q", 2, limit("key", 1, 0))
	for _, want := range append(runs[1:], since...) {
		f.finish(s, succeeded(held...)...)
		held = f.requireNext(s, "the next of its key", want)
	}
}

func limitUntil(f *fixture) {
	const key = "key"
	runs := f.queueNew("q", 4, limit(key, 1, 0))
	s := f.openSession(longHold)
	held := f.requireNext(s, "the first of its key", runs[0])
	f.finish(s, retried(held[0], time.Hour))
	f.requireNext(s, "the next of its key after a retry", runs[1])
	f.close(s)

	s = f.openSession(shortHold)
	first := f.takeOne(s, "q")
	f.lapse(1, "q")
	s = f.openSession(longHold)
	second := f.takeOne(s, "q")
	f.takesNothing(s, "q")
	f.finish(s, died(second))
	third := f.takeOne(s, "q")
	f.takesNothing(s, "q")
	f.finish(s, dropped(third))
	fourth := f.takeOne(s, "q")
	require.ElementsMatch(f, ids(runs[1:]), ids([]*broker.TaskRun{second, third, fourth}), "runs after one was given back and recovered")
	require.Contains(f, ids(runs[1:]), first.ID, "run after Close")
	f.finish(s, succeeded(fourth)...)
	require.Equal(f, 1, f.length("q"), "length: the retry waits")
}

func limitWakes(f *fixture) {
	s := f.openSession(longHold)
	for i, o := range []broker.Outcome{
		{Verdict: broker.Succeeded},
		{Verdict: broker.Dead, Failure: failure("bad")},
		{Verdict: broker.Retry, Delay: time.Hour, Failure: failure("again")},
	} {
		queue := fmt.Sprint("q", i)
		runs := f.queueNew(queue, 2, limit("key", 1, 0))
		o.Run = f.takeOne(s, queue)
		f.requireWakes(runs[1], 0, func() { f.finish(s, o) })
	}
	runs := f.queueNew("q", 2, limit("key", 1, 0))
	f.take(f.openSession(shortHold), 1, "q")
	arrived := f.receiveLeased(s, "q")
	f.lapse(1, "q")
	a := <-arrived
	require.NoError(f, a.err, "a blocked Take after the holder's lease ended")
	require.Contains(f, ids(runs), a.run.ID, "run taken after the holder's lease ended")
}

func limitsTogether(f *fixture) {
	ab := f.queueNew("q", 2, limit("a", 1, 0), limit("b", 2, 0))
	s := f.openSession(longHold)
	held := f.requireNext(s, "the first of two with both limits", ab[0])
	// The second waits for a, so that it does not count for b.
	b := f.queueNew("q", 2, limit("b", 2, 0))
	heldB := f.requireNext(s, "the first of two with the other limit", b[0])
	f.finish(s, succeeded(held...)...)
	got := f.take(s, 1, "q")
	f.takesNothing(s, "q")
	f.finish(s, succeeded(got...)...)
	got = append(got, f.take(s, 1, "q")...)
	require.ElementsMatch(f, []string{ab[1].ID, b[1].ID}, ids(got), "runs as the limit they share lets them go")
	f.finish(s, succeeded(got[1], heldB[0])...)
	require.Zero(f, f.length("q"), "length after all have ended")
}

func limitOwn(f *fixture) {
	first := f.queueNew("q", 1, limit("key", 1, 0))
	s := f.openSession(longHold)
	held := f.requireNext(s, "the first of its key", first...)
	wide := f.queueNew("q", 1, limit("key", 2, 0))
	held = append(held, f.requireNext(s, "a run with a higher limit", wide...)...)
	narrow := f.queueNew("q", 1, limit("key", 1, 0))
	f.takesNothing(s, "q")
	f.finish(s, succeeded(held[0])...)
	f.takesNothing(s, "q")
	f.finish(s, succeeded(held[1])...)
	f.requireNext(s, "a run with a lower limit", narrow...)
}

func rateHolds(f *fixture) {
	const most, total, per = 3, 10, 300 * time.Millisecond
	runs := f.queueNew("q", total, limit("key", most, per))
	free := f.queueNew("q", 1)
	s := f.openSession(longHold)
	var got []*broker.TaskRun
	var early, late []time.Time // bounds on when each was taken
	start := time.Now()
	for stop := f.ctx(); len(got) < total+1; {
		before := time.Now()
		taken, err := s.Take(stop, anyOf(1+rand.N(5), "q"))
		require.NoError(f, err, "Take after %d of %d runs", len(got), total)
		f.finish(s, succeeded(taken...)...)
		for range taken {
			early, late = append(early, before), append(late, time.Now())
		}
		got = append(got, taken...)
	}
	require.Less(f, time.Since(start), (total-1)/most*per+prompt, "time until %d runs with at most %d in %v were taken", total, most, per)
	require.Equal(f, ids(append(runs[:most:most], append(free, runs[most:]...)...)), ids(got), "runs, those held back behind the one without a rate")
	early, late = append(early[:most], early[most+1:]...), append(late[:most], late[most+1:]...)
	for i := range total - most {
		// The take of one blocked since before the other's window opened.
		require.GreaterOrEqual(f, late[i+most].Sub(early[i]), per-slack, "time between the start of run %d and that of run %d, with at most %d in %v", i, i+most, most, per)
	}
}

func rateWakes(f *fixture) {
	const per = 300 * time.Millisecond
	runs := f.queueNew("q", 2, limit("key", 1, per))
	s := f.openSession(longHold)
	start := time.Now()
	held := f.take(s, 1, "q")
	taken := time.Now()
	f.finish(s, succeeded(held...)...)
	arrived := f.receiveLeased(f.openSession(longHold), "q")
	f.requireArrival(arrived, runs[1], taken.Add(per))
	require.GreaterOrEqual(f, time.Since(start), per-slack, "time until a run at most once in %v was taken again", per)
}

func limitNotAhead(f *fixture) {
	runs := f.queueNew("q", 8, limit("key", 5, 0))
	s := f.openSession(longHold)
	take := func(io, ahead int) []*broker.TaskRun {
		got, err := s.Take(f.within(quiet), broker.Want{Queues: []string{"q"}, IO: io, PrefetchIO: ahead})
		require.NoError(f, ignoreTimeout(err), "Take")
		return got
	}
	got := take(6, 4)
	require.Equal(f, ids(runs[:2]), ids(got), "runs with limits for 2 free slots and 4 ahead")
	require.Empty(f, ids(take(3, 3)), "runs with limits for no slot and 3 ahead")
	require.Equal(f, 6, f.length("q"), "length after runs with limits were not taken ahead")
	require.Equal(f, ids(runs[2:5]), ids(take(10, 1)), "runs with limits for 9 free slots")
	plain := f.queueNew("q", 4)
	require.Equal(f, ids(plain), ids(take(4, 3)), "runs without limits for a slot and 3 ahead, behind those held back")
}

// limitChurn has sessions hold runs in all the ways there are, and counts how
// many of each key are held, never more than are.
func limitChurn(f *fixture) {
	const keys, each, most, sessions = 4, 60, 2, 5
	var all []*broker.TaskRun
	for i := range keys * each {
		r := f.newRun("q", limit(fmt.Sprint("key-", i%keys), most, 0))
		if i%3 == 0 {
			limit("all", sessions, 0)(r)
		}
		if i%5 == 0 {
			limit("rate", 40, 50*time.Millisecond)(r)
		}
		all = append(all, r)
	}
	f.queue(all...)
	var ended tally
	var held holding
	stop := f.within(endurance)
	f.each(sessions, func(int) error {
		for ended.len() < len(all) && stop.Err() == nil {
			if err := f.holdSome(&ended, &held); err != nil {
				return err
			}
		}
		return nil
	})
	f.requireOnce(&ended, all, "ends of runs with limits")
	require.Zero(f, f.length("q"), "length after all have ended")
	for key, n := range held.most {
		if key != "rate" && key != "all" {
			require.LessOrEqual(f, n, most, "runs of %s held at once", key)
		}
	}
	require.LessOrEqual(f, held.most["all"], sessions, "runs held at once with the limit they share")
}

// holding counts the runs of each key that are surely held at the same time.
type holding struct {
	mu        sync.Mutex
	now, most map[string]int
}

func (h *holding) add(n int, runs ...*broker.TaskRun) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now == nil {
		h.now, h.most = make(map[string]int), make(map[string]int)
	}
	for _, r := range runs {
		for _, l := range r.Rules.OrZero().Limits {
			h.now[l.Key] += n
			h.most[l.Key] = max(h.most[l.Key], h.now[l.Key])
		}
	}
}

// holdSome is one session's life: it takes, retries or finishes, and leaves
// with some it has not started.
func (f *fixture) holdSome(ended *tally, held *holding) error {
	s, err := f.leaser().OpenSession(f.ctx(), longHold)
	if err != nil {
		return err
	}
	for range 4 {
		runs, err := s.Take(f.within(quiet), anyOf(1+rand.N(4), "q"))
		if err != nil {
			return errors.Join(ignoreTimeout(err), s.Close(f.ctx()))
		}
		held.add(1, runs...)
		f.pass(rand.N(2 * time.Millisecond))
		held.add(-1, runs...) // before it is so
		for _, r := range runs {
			o := broker.Outcome{Run: r, Verdict: broker.Succeeded}
			switch rand.N(6) {
			case 0:
				continue // for Close
			case 1:
				o.Verdict, o.Failure, o.Delay = broker.Retry, failure("again"), rand.N(5*time.Millisecond)
			}
			if err := ends(f.ctx(), s, ended, o); err != nil {
				return err
			}
		}
	}
	return s.Close(f.ctx())
}

var backlogChecks = []check{
	{"Queue says since when the run is due that waits the longest", oldestDue},
	{"Queue says since when a run is due that was retried, recovered or queued again", oldestAgain},
	{"Queue says what limits hold back", limitsHeld},
}

// span is the time in which something happened: while a call was made.
type span struct{ from, to time.Time }

// during runs f and returns when.
func during(f func()) span {
	from := time.Now()
	f()
	return span{from, time.Now()}
}

func (s span) add(d time.Duration) span { return span{s.from.Add(d), s.to.Add(d)} }

// requireOldest checks since when the run is due that waits the longest.
func (f *fixture) requireOldest(want span, what string) {
	f.Helper()
	require.WithinRange(f, f.queueInfo("q").Oldest, want.from.Add(-slack), want.to.Add(slack),
		"since when the run is due that waits the longest: %s", what)
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
	delayed := during(func() { f.queue(late) })
	require.Zero(f, f.queueInfo("q").Oldest, "when the only run is delayed")
	var first *broker.TaskRun
	start := during(func() { first = f.queueOne("q") })
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
	f.requireOldest(delayed.add(late.Delay), "a run that was delayed")
	f.requireNext(s, "the run that was delayed", late)
	past := f.queueOne("q", due(time.Now().Add(-time.Hour)))
	f.queueOne("q")
	f.requireOldest(span{past.Due, past.Due}, "a run that was queued an hour after it was due")
}

func oldestAgain(f *fixture) {
	f.needsOldest()
	s, run := f.holdOne()
	run.QueuedAt = run.QueuedAt.Add(-time.Hour)
	attempt(run, "first")
	run.History.Due = time.Now().Add(quiet)
	again := during(func() { f.finish(s, retried(run, quiet)) }).add(quiet)
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
	start := during(func() { f.requeueDead(1, run.ID) })
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

	other := f.openProgram(1, "rate", 2, 2*time.Hour)
	require.Len(f, other.takesAll(), 1, "runs that a rate of a program lets go")
	of := f.queueInfo("q").Limits
	require.NotEmpty(f, of)
	require.Equal(f, broker.Limit{Key: "rate", Max: 2, Per: 2 * time.Hour}, of[0].Limit, "the numbers that hold")
}
