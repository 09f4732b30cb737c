package brokertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var changeChecks = []check{
	{"all runs that wait and match are cancelled as by Cancel, page by page", changeCancels},
	{"sessions learn of their runs that were cancelled together", changeCancelsHeld},
	{"runs that are held back are cancelled as any others", changeCancelsHeldBack},
	{"members that are cancelled together have ended", changeCancelsMembers},
	{"delayed runs that match can be taken at once", changeRunsNow},
	{"dead letters that match are queued again or deleted, page by page", changeDeadLetters},
	{"dead letters whose ids or unique keys are taken stay, and the page says why", changeStays},
	{"a change that makes no sense is refused and changes nothing", changeRefused},
	{"a change that is cut short says where to try again", changeCutShort},
	{"a run is either cancelled while it waits or taken", changeTakenRace},
	{"runs that are cancelled together, finished, retried and recovered end once", changeRace},
}

func (f *fixture) changer() broker.Changer { return f.b.(broker.Changer) }

// change applies a change to all pages, and returns how many it changed and those that stayed.
func (f *fixture) change(queue string, state broker.State, s broker.RunSearch, c broker.RunChange) (changed int, stayed []broker.Stay) {
	f.Helper()
	require.NoError(f, everyPage(func(after string) (string, error) {
		s.After = after
		page, err := f.changer().ChangeRuns(f.ctx(), queue, state, s, c)
		return f.addPage(page, err, s.Max, s.Look, &changed, &stayed)
	}), "ChangeRuns that are %s", state)
	return changed, stayed
}

// changeDead is change for dead letters of queue q.
func (f *fixture) changeDead(s broker.DeadSearch, c broker.DeadChange) (changed int, stayed []broker.Stay) {
	f.Helper()
	require.NoError(f, everyPage(func(after string) (string, error) {
		s.After = after
		page, err := f.changer().ChangeDead(f.ctx(), "q", s, c)
		return f.addPage(page, err, s.Max, s.Look, &changed, &stayed)
	}), "ChangeDead")
	return changed, stayed
}

// addPage checks a page against the bounds of its search, and adds it up.
func (f *fixture) addPage(page *broker.ChangePage, err error, most, look int, changed *int, stayed *[]broker.Stay) (after string, _ error) {
	if err != nil {
		return "", err
	}
	if most > 0 {
		require.LessOrEqual(f, page.Changed, most, "runs changed by one page")
	}
	if look > 0 {
		require.LessOrEqual(f, page.Looked, look, "entries that one page looked at")
	}
	for _, s := range page.Stayed {
		require.NotEmpty(f, s.Why, "why %s stayed", s.ID)
	}
	*changed += page.Changed
	*stayed = append(*stayed, page.Stayed...)
	return page.After, nil
}

var cancelling = broker.RunChange{Cancel: &cancelled}

func ofTask(name string) func(*broker.RunInfo) bool {
	return func(i *broker.RunInfo) bool { return i.Run.Task == name }
}

func changeCancels(f *fixture) {
	const n = 30
	for _, d := range []time.Duration{0, time.Hour} {
		state := broker.StateQueued
		if d > 0 {
			state = broker.StateDelayed
		}
		var bad, good, plain []*broker.TaskRun
		for i := range n {
			bad = append(bad, f.newRun("q", task("bad"), delay(d), keep(time.Hour), ownID(fmt.Sprint("own-", i))))
			good = append(good, f.newRun("q", delay(d), keep(time.Hour)))
			plain = append(plain, f.newRun("q", task("bad"), delay(d)))
			f.queue(bad[i], good[i], plain[i])
		}
		if f.keeps(broker.PolicyUnique) {
			f.queueNew("q", 1, task("bad"), delay(d), unique("key"))
		}
		recs, wait := f.waiters(2, bad[n/2])
		changed, stayed := f.change("q", state, broker.RunSearch{Match: ofTask("bad"), Max: 7, Look: 20}, cancelling)
		require.Empty(f, stayed, "runs that stayed")
		require.NoError(f, wait(), "WaitRecord of a run that was cancelled with others")
		require.Equal(f, broker.StateCancelled, recs[0].State, "state that WaitRecord returned")
		for _, r := range bad {
			f.requireCancelled(r)
		}
		want := 2 * n
		if f.keeps(broker.PolicyUnique) {
			want++
			f.queueNew("q", 1, task("good"), delay(d), unique("key"))
			f.change("q", state, broker.RunSearch{Match: ofTask("good")}, cancelling)
		}
		require.Equal(f, want, changed, "runs that were cancelled")
		f.queueNew("q", 1, task("good"), delay(d), ownID("own-1"))
		f.change("q", state, broker.RunSearch{Match: ofTask("good")}, cancelling)

		changed, stayed = f.change("q", state, broker.RunSearch{Match: ofTask("bad")}, cancelling)
		require.Zero(f, changed, "runs cancelled by a second call")
		require.Empty(f, stayed, "runs that stayed at a second call")
		require.Equal(f, n, f.length("q"), "runs that are left")
		rest, _ := f.allRuns("q", state, broker.RunSearch{})
		require.ElementsMatch(f, ids(good), infoIDs(rest), "runs that are left")
		require.Empty(f, f.deadLetters("q", aLot), "dead letters of cancelled runs")
		changed, _ = f.change("q", state, broker.RunSearch{}, cancelling)
		require.Equal(f, n, changed, "runs cancelled without Match")
		require.Zero(f, f.length("q"), "length after all were cancelled")
	}
	if f.keeps(broker.PolicyNext) {
		f.queueNew("q", 1, func(r *broker.TaskRun) {
			r.EnsureLinks().Then = []broker.FollowUp{{Run: &broker.TaskRun{ID: r.ID + "-next", Task: theTask, Queue: "next", Payload: []byte{0x80}}}}
		})
		changed, _ := f.change("q", broker.StateQueued, broker.RunSearch{}, cancelling)
		require.Equal(f, 1, changed, "runs that another follows")
		require.Zero(f, f.length("next"), "follow-ups of a run that was cancelled")
	}
	f.takesNothing(f.openSession(longHold), "q", "next")
}

func changeCancelsHeld(f *fixture) {
	s, held := f.hold(6, keep(time.Hour))
	other := f.openSession(longHold)
	f.queueNew("q", 2, keep(time.Hour), task("bad"))
	bad := f.take(other, 2, "q")
	f.queueNew("q", 2) // which wait, and are not asked for
	for range 2 {      // repeating it is safe
		_, stayed := f.change("q", broker.StateRunning, broker.RunSearch{Max: 3, Match: func(i *broker.RunInfo) bool {
			return i.Session == other.ID() || i.Run.ID == held[2].ID
		}}, cancelling)
		require.Empty(f, stayed, "runs in flight that stayed")
	}
	require.Equal(f, []string{held[2].ID}, ids(f.heartbeat(s, broker.Report{})), "runs that a session learns of")
	require.ElementsMatch(f, ids(bad), ids(f.heartbeat(other, broker.Report{})), "runs that the other session learns of")
	f.requireRecord(held[2], broker.Record{State: broker.StateRunning})
	f.finish(s, retried(held[2], 0))
	f.requireCancelled(held[2])
	f.finish(other, returned(bad[0], "r"))
	f.requireRecord(bad[0], broker.Record{State: broker.StateSucceeded, Result: []byte("r")})
	f.close(other)
	f.requireCancelled(bad[1])
	require.Equal(f, 2, f.length("q"), "length: those that waited")
}

func changeCancelsHeldBack(f *fixture) {
	s := f.openSession(longHold)
	f.disable("q", "off", true)
	f.queueNew("q", 3, task("off"), keep(time.Hour))
	f.takesNothing(s, "q")
	f.pause("q", true)
	paused := f.queueNew("q", 2, keep(time.Hour))
	changed, stayed := f.change("q", broker.StateQueued, broker.RunSearch{}, cancelling)
	require.Empty(f, stayed, "runs that stayed")
	require.Equal(f, 5, changed, "runs of a disabled task, and of a paused queue")
	f.requireCancelled(paused[1])
	f.pause("q", false)
	f.disable("q", "off", false)
	f.takesNothing(s, "q")
	if !f.keeps(broker.PolicyLimits) {
		return
	}
	runs := f.queueNew("q", 5, limit("key", 1, 0), keep(time.Hour))
	held := f.requireNext(s, "the first of its key", runs[0])
	changed, _ = f.change("q", broker.StateQueued, broker.RunSearch{Match: func(i *broker.RunInfo) bool { return i.Run.ID != runs[3].ID }}, cancelling)
	require.Equal(f, 3, changed, "runs that a limit holds back")
	require.Equal(f, 1, f.length("q"), "length with one run held back")
	f.finish(s, succeeded(held...)...)
	f.requireNext(s, "the next of its key", runs[3])
}

func changeCancelsMembers(f *fixture) {
	if !is[broker.Groups](f.b) {
		f.Skip("the broker has no groups")
	}
	gathers, members := f.newGroup("q", 3)
	f.queueGroup(gathers, members...)
	s := f.openSession(longHold)
	changed, stayed := f.change("q", broker.StateQueued, broker.RunSearch{Max: 2}, cancelling)
	require.Empty(f, stayed, "members that stayed")
	require.Equal(f, 3, changed, "members that were cancelled")
	f.requireNext(s, "the run that gathers a group of which all were cancelled", gathers)
	for _, rec := range f.members(gathers.Links.Awaits) {
		require.Equal(f, &cancelled, rec.Failure, "failure of a member that was cancelled")
	}
}

func changeRunsNow(f *fixture) {
	const n = 12
	s, run := f.holdOne(task("soon"), keep(time.Hour))
	run.Attempt = 2
	f.finish(s, broker.Outcome{Run: run, Verdict: broker.Retry, Failure: failure("again"), Delay: time.Hour})
	soon := append(f.queueNew("q", n, task("soon"), delay(time.Hour)), run)
	later := f.queueNew("q", n, delay(time.Hour), keep(time.Hour))
	at := f.queueOne("q", task("soon"), due(time.Now().Add(24*time.Hour)))
	soon = append(soon, at)
	arrived := f.receiveLeased(f.openSession(longHold), "q")
	f.pass(quiet / 3)
	start := time.Now()
	changed, stayed := f.change("q", broker.StateDelayed, broker.RunSearch{Match: ofTask("soon"), Max: 5}, broker.RunChange{RunNow: true})
	require.Empty(f, stayed, "runs that stayed")
	require.Equal(f, len(soon), changed, "runs that were made due")
	first := <-arrived
	require.NoError(f, first.err, "a Take that was blocked")
	require.Less(f, first.at.Sub(start), prompt, "time until a blocked Take returned")
	got := []*broker.TaskRun{first.run}
	if len(got) < len(soon) {
		got = append(got, f.take(s, len(soon)-1, "q")...)
	}
	require.ElementsMatch(f, ids(soon), ids(got), "runs that were made due")
	require.Equal(f, 2, byID(got)[run.ID].Attempt, "attempts of a run that was made due")
	f.requireRecord(run, broker.Record{State: broker.StateRunning, Attempt: 2, Failure: failure("again")})
	f.requireRecord(later[0], broker.Record{State: broker.StateDelayed})
	require.Len(f, f.list(broker.StateDelayed, aLot), n, "runs that are still delayed")
	changed, _ = f.change("q", broker.StateDelayed, broker.RunSearch{Match: ofTask("soon")}, broker.RunChange{RunNow: true})
	require.Zero(f, changed, "runs made due by a second call")
}

func changeDeadLetters(f *fixture) {
	const n = 10
	bad, worse := f.newRuns("q", n, keep(time.Hour)), f.newRuns("q", n, keep(time.Hour), task("worse"))
	for i := range n {
		f.die(bad[i])
		f.die(worse[i])
	}
	matches := func(l *broker.DeadLetter) bool { return l.Run.Task == "worse" }
	changed, stayed := f.changeDead(broker.DeadSearch{Match: matches, Max: 3, Look: 8}, broker.Delete)
	require.Equal(f, n, changed, "dead letters that were deleted")
	require.Empty(f, stayed, "dead letters that stayed")
	require.Len(f, f.deadLetters("q", aLot), n, "dead letters that are left")
	changed, _ = f.changeDead(broker.DeadSearch{Match: matches}, broker.Delete)
	require.Zero(f, changed, "dead letters deleted by a second call")

	changed, stayed = f.changeDead(broker.DeadSearch{Max: 4}, broker.Requeue)
	require.Equal(f, n, changed, "dead letters that were queued again")
	require.Empty(f, stayed, "dead letters that stayed")
	require.Empty(f, f.deadLetters("q", aLot), "dead letters after all were queued again")
	f.requireRecord(bad[0], broker.Record{State: broker.StateQueued})
	s := f.openSession(longHold)
	got := f.take(s, n, "q")
	require.ElementsMatch(f, ids(bad), ids(got), "runs that were queued again")
	for _, r := range got {
		require.Zero(f, r.Attempt, "attempts of a run that was queued again")
		require.Equal(f, 1, r.Deliveries, "deliveries of a run that was queued again")
	}
	f.takesNothing(s, "q")
}

func changeStays(f *fixture) {
	own, plain := f.newRun("q", ownID("own")), f.newRun("q")
	f.die(own)
	f.die(plain)
	f.queueNew("q", 1, ownID("own"))
	want := map[string]bool{"own": true}
	if f.keeps(broker.PolicyUnique) {
		f.change("q", broker.StateQueued, broker.RunSearch{}, cancelling)
		keyed := f.newRun("q", unique("key"))
		f.die(keyed)
		f.queueNew("q", 1, ownID("own"))
		f.queueNew("q", 1, unique("key"))
		want[keyed.ID] = true
	}
	for i, once := range []int{1, 0} { // the second time nothing is left to change
		changed, stayed := f.changeDead(broker.DeadSearch{Max: 1}, broker.Requeue)
		require.Equal(f, once, changed, "dead letters queued again by call %d", i)
		got := map[string]bool{}
		for _, s := range stayed {
			got[s.ID] = true
		}
		require.Equal(f, want, got, "dead letters that stayed at call %d", i)
		require.Len(f, f.deadLetters("q", aLot), len(want), "dead letters that are left")
	}
	changed, stayed := f.changeDead(broker.DeadSearch{}, broker.Delete)
	require.Equal(f, len(want), changed, "dead letters that were deleted")
	require.Empty(f, stayed, "dead letters that stayed")
}

func changeRefused(f *fixture) {
	f.populate(3)
	before := f.queueInfo("q")
	before.Oldest = time.Time{} // which brokers may tell to more or less than a nanosecond
	for what, do := range map[string]func() error{
		"no change": func() error { return f.refused(broker.StateQueued, "", broker.RunChange{}) },
		"two changes": func() error {
			return f.refused(broker.StateDelayed, "", broker.RunChange{RunNow: true, Cancel: &cancelled})
		},
		"run now of what is due":            func() error { return f.refused(broker.StateQueued, "", broker.RunChange{RunNow: true}) },
		"run now of what runs":              func() error { return f.refused(broker.StateRunning, "", broker.RunChange{RunNow: true}) },
		"cancel of what has ended":          func() error { return f.refused(broker.StateFailed, "", cancelling) },
		"cancel in a state there is not":    func() error { return f.refused("odd", "", cancelling) },
		"cancel after what is no page":      func() error { return f.refused(broker.StateQueued, "garbage", cancelling) },
		"a change of letters there is not":  func() error { return f.refusedDead("", 9) },
		"a deletion after what is no page":  func() error { return f.refusedDead("garbage", broker.Delete) },
		"a requeueing after what is a page": func() error { return f.refusedDead("1", broker.Requeue) },
	} {
		require.Error(f, do(), what)
	}
	require.ErrorIs(f, f.refused(broker.StateQueued, "garbage", cancelling), broker.ErrAfter, "ChangeRuns after what is no page")
	require.ErrorIs(f, f.refusedDead("garbage", broker.Delete), broker.ErrAfter, "ChangeDead after what is no page")
	_, err := f.changer().ChangeRuns(f.ended(), "q", broker.StateQueued, broker.RunSearch{}, cancelling)
	require.ErrorIs(f, err, context.Canceled, "ChangeRuns with an ended context")
	_, err = f.changer().ChangeDead(f.ended(), "q", broker.DeadSearch{}, broker.Delete)
	require.ErrorIs(f, err, context.Canceled, "ChangeDead with an ended context")
	after := f.queueInfo("q")
	after.Oldest = time.Time{}
	require.Equal(f, before, after, "the queue after changes that were refused")
	changed, _ := f.change("unused", broker.StateQueued, broker.RunSearch{}, cancelling)
	require.Zero(f, changed, "runs changed in a queue never used")
}

func (f *fixture) refused(state broker.State, after string, c broker.RunChange) error {
	_, err := f.changer().ChangeRuns(f.ctx(), "q", state, broker.RunSearch{After: after}, c)
	return err
}

func (f *fixture) refusedDead(after string, c broker.DeadChange) error {
	_, err := f.changer().ChangeDead(f.ctx(), "q", broker.DeadSearch{After: after}, c)
	return err
}

// changeCutShort ends ctx while the second page of a change looks for runs.
func changeCutShort(f *fixture) {
	f.populate(3)
	cut := func(what, after string, change func(ctx context.Context, match func(), after string) (*broker.ChangePage, error)) {
		ctx, cancel := context.WithCancel(f.ctx())
		defer cancel()
		page, err := change(ctx, cancel, after)
		require.ErrorIs(f, err, context.Canceled, what)
		require.NotNil(f, page, "%s: the page beside the error", what)
		require.Zero(f, page.Changed, what)
		require.Equal(f, after, page.After, "%s: where to try again", what)
		page, err = change(f.ctx(), func() {}, after)
		require.NoError(f, err, "%s again", what)
		require.Positive(f, page.Changed, "%s again", what)
	}
	first, err := f.changer().ChangeRuns(f.ctx(), "q", broker.StateQueued, broker.RunSearch{Max: 1}, cancelling)
	require.NoError(f, err)
	require.NotEmpty(f, first.After)
	cut("ChangeRuns", first.After, func(ctx context.Context, match func(), after string) (*broker.ChangePage, error) {
		return f.changer().ChangeRuns(ctx, "q", broker.StateQueued, broker.RunSearch{After: after, Match: func(*broker.RunInfo) bool { match(); return true }}, cancelling)
	})
	first, err = f.changer().ChangeDead(f.ctx(), "q", broker.DeadSearch{Max: 1}, broker.Delete)
	require.NoError(f, err)
	require.NotEmpty(f, first.After)
	cut("ChangeDead", first.After, func(ctx context.Context, match func(), after string) (*broker.ChangePage, error) {
		return f.changer().ChangeDead(ctx, "q", broker.DeadSearch{After: after, Match: func(*broker.DeadLetter) bool { match(); return true }}, broker.Delete)
	})
}

// changeTakenRace cancels runs that wait while sessions take them.
func changeTakenRace(f *fixture) {
	const total, sessions = 2000, 4
	runs := f.newRuns("q", total, keep(time.Hour))
	f.queue(runs...)
	var taken tally
	stop := f.within(endurance)
	working := f.start(sessions, func(int) error {
		s, err := f.leaser().OpenSession(stop, longHold)
		for err == nil {
			var got []*broker.TaskRun
			if got, err = s.Take(f.within(quiet), anyOf(5, "q")); err != nil {
				return nil // there is nothing left
			}
			taken.add(got...)
			f.pass(time.Millisecond) // else nothing is left to cancel
			_, err = s.Finish(stop, succeeded(got...)...)
		}
		return err
	})
	cancelledAll := 0
	for range 20 {
		page, err := f.changer().ChangeRuns(stop, "q", broker.StateQueued, broker.RunSearch{Max: 40, Match: func(*broker.RunInfo) bool { return rand.N(4) == 0 }}, cancelling)
		require.NoError(f, err, "ChangeRuns while others take")
		cancelledAll += page.Changed
		f.pass(time.Millisecond)
	}
	require.NoError(f, working(), "sessions")
	ended := map[broker.State]int{}
	for _, r := range runs {
		rec := f.record(r)
		ended[rec.State]++
		require.Equal(f, rec.State == broker.StateSucceeded, taken.count(r.ID) == 1, "run %s is %s, and was taken %d times", r.ID, rec.State, taken.count(r.ID))
	}
	require.Equal(f, total, ended[broker.StateSucceeded]+ended[broker.StateCancelled], "runs that have ended")
	require.Equal(f, ended[broker.StateCancelled], cancelledAll, "runs cancelled, by their records and by what pages said")
	require.Zero(f, f.length("q"), "length after all have ended")
	require.NotZero(f, cancelledAll, "runs that were cancelled")
	require.NotZero(f, taken.len(), "runs that were taken")
}

// changeRace cancels runs together at any moment of their lives.
func changeRace(f *fixture) {
	const total, sessions, lease = 600, 4, 60 * time.Millisecond
	runs := f.newRuns("q", total, keep(time.Hour))
	var ended tally
	stop := f.within(endurance)
	var over atomic.Bool
	working := f.start(sessions, func(int) error {
		for !over.Load() {
			if err := f.cancelledLife(&ended, lease); err != nil {
				return err
			}
			if _, err := f.leaser().Recover(stop, []string{"q"}); err != nil {
				return err
			}
		}
		return nil
	})
	f.queue(runs...)
	for range 40 {
		for _, state := range liveStates {
			_, err := f.changer().ChangeRuns(stop, "q", state, broker.RunSearch{Match: func(*broker.RunInfo) bool { return rand.N(10) == 0 }}, cancelling)
			require.NoError(f, err, "ChangeRuns that are %s", state)
		}
	}
	byState := make(map[broker.State]int)
	for _, r := range runs {
		rec, err := f.records().WaitRecord(stop, "q", r.ID)
		require.NoError(f, err, "WaitRecord of run %s", r.ID)
		byState[rec.State]++
		if rec.State == broker.StateSucceeded {
			require.LessOrEqual(f, ended.count(r.ID), 1, "ends of run %s, which succeeded", r.ID)
		} else {
			require.Zero(f, ended.count(r.ID), "ends of run %s, which was cancelled", r.ID)
			require.Equal(f, &cancelled, rec.Failure, "failure of run %s", r.ID)
		}
	}
	over.Store(true)
	require.NoError(f, working(), "sessions")
	require.Equal(f, byState[broker.StateSucceeded], ended.len(), "runs that succeeded, by their records and by Finish")
	require.Zero(f, f.length("q"), "length after all have ended")
	require.Zero(f, f.queueInfo("q").Running, "runs held after all have ended")
	require.NotZero(f, byState[broker.StateCancelled], "runs that were cancelled")
}
