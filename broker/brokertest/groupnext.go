package brokertest

import (
	"fmt"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var groupNextChecks = []check{
	{"a follow-up takes the place of a member that succeeds", groupPlacePassed},
	{"a follow-up that is skipped ends the member whose place it was to take", groupPlaceSkipped},
	{"a dead run in a member's place that is queued again counts once its follow-up succeeds", groupPlaceRequeued},
	{"a success queues a group, and only a success that counts does", groupBehind},
	{"a run that is followed by a group is stored with its members", groupFollows},
	{"a group that a success queues is skipped with the run that gathers it", groupBehindSkipped},
	{"a group takes the place of a member that succeeds, and passes it on", groupInPlace},
	{"a place is passed to other queues and back", placeElsewhere},
	{"a follow-up in another queue that is skipped ends the member whose place it was to take", placeElsewhereSkipped},
	{"the record of a run tells which runs succeed it", successorsRecorded},
	{"a group that cannot be stored is refused, and nothing of it is stored", nestRefused},
	{"a run with the members of its group is not queued without them", membersRefused},
	{"a call of more than MaxRuns with all members is refused", nestTooMany},
}

func (f *fixture) needsNext() {
	f.Helper()
	f.needs(broker.PolicyNext, "follow-ups")
}

// inPlace gives a run of any queue the place of a member.
func (f *fixture) inPlace(r, m *broker.TaskRun) *broker.TaskRun {
	f.joins(r, m.GroupQueue(), m.Links.Group, m.Links.Member)
	return r
}

// inPlaceOf makes a run that takes the place of a member, in its queue.
func (f *fixture) inPlaceOf(m *broker.TaskRun, edits ...func(*broker.TaskRun)) *broker.TaskRun {
	return f.inPlace(f.newRun(m.Queue, edits...), m)
}

// succeededBy is a success that queues the first of the runs that succeed it, which is all that
// is known of the others.
func succeededBy(r *broker.TaskRun, successors ...*broker.TaskRun) broker.Outcome {
	o := then(r, successors[0])
	o.Call = new(broker.ReturnedCall)
	for _, next := range successors {
		o.Call.Successors = append(o.Call.Successors, broker.RunRef{Queue: next.Queue, ID: next.ID})
	}
	return o
}

func groupPlacePassed(f *fixture) {
	gathering, members := f.newGroup("q", 2, keep(time.Hour))
	f.queueGroup(gathering, members...)
	s := f.openSession(longHold)
	held := f.requireNext(s, "members", members...)
	elsewhere, another, beyond := f.inPlaceOf(members[0]), f.inPlaceOf(members[1]), f.inPlaceOf(members[0])
	elsewhere.Queue, beyond.Links.Member = "other", broker.MaxGroup-1
	for what, next := range map[string][]*broker.TaskRun{
		"of another queue":              {elsewhere},
		"in another member's place":     {another},
		"in a place that there is not":  {beyond},
		"in a place that another takes": {f.inPlaceOf(members[0]), f.inPlaceOf(members[0])},
	} {
		_, err := s.Finish(f.ctx(), then(held[0], next...))
		require.ErrorContains(f, err, "no other", "Finish of a member with a follow-up %s", what)
	}

	foreign := f.inPlaceOf(members[0])
	foreign.Links.Group = "of-others"
	_, err := s.Finish(f.ctx(), then(held[0], foreign))
	require.ErrorContains(f, err, "no member", "Finish of a member with a follow-up of another group")
	alone := f.requireNext(s, "a run of no group", f.queueOne("q"))[0]
	_, err = s.Finish(f.ctx(), then(alone, f.inPlaceOf(members[0])))
	require.ErrorContains(f, err, "no member", "Finish of a run of no group with a follow-up in a member's place")
	f.finish(s, succeeded(alone)...)

	second, beside := f.inPlaceOf(members[0]), f.newRun("q")
	f.finish(s, then(held[0], second, beside), returned(held[1], "other"))
	got := f.requireNext(s, "what the success queued, and not the run that gathers", second, beside)
	f.requireRecord(members[0], broker.Record{State: broker.StateSucceeded})
	records := f.members(gathering.Links.Awaits)
	require.Nil(f, records[0], "record of a place that was passed on")
	f.finish(s, succeeded(got[1])...)
	third := f.inPlaceOf(members[0])
	f.finish(s, then(got[0], third))
	got = f.requireNext(s, "the third in the place", third)
	f.takesNothing(s, "q")
	f.finish(s, returned(got[0], "last"))
	got = f.requireNext(s, "the run that gathers", gathering)
	records = f.members(gathering.Links.Awaits)
	require.Equal(f, third.ID, records[0].ID, "id of who ended in the place")
	require.Equal(f, "last", string(records[0].Result), "result in the place")
	require.Equal(f, "other", string(records[1].Result), "result of the other member")
	f.finish(s, succeeded(got...)...)
}

func groupPlaceSkipped(f *fixture) {
	live := f.queueOne("q", ownID("live"), delay(time.Hour))
	gathering, members := f.newGroup("q", 1)
	f.queueGroup(gathering, members...)
	s := f.openSession(longHold)
	held := f.requireNext(s, "members", members...)
	f.finish(s, then(held[0], f.inPlaceOf(members[0], ownID(live.ID))))
	got := f.requireNext(s, "the run that gathers", gathering)
	records := f.members(gathering.Links.Awaits)
	require.Equal(f, broker.StateFailed, records[0].State, "state of a place whose run was skipped")
	require.Equal(f, broker.FailureDuplicate, records[0].Failure.Kind, "its failure")
	require.Equal(f, live.ID, records[0].Failure.Message, "the run in the way")
	f.finish(s, succeeded(got...)...)
}

func groupPlaceRequeued(f *fixture) {
	f.needControls()
	gathering, members := f.newGroup("q", 1)
	f.queueGroup(gathering, members...)
	s := f.openSession(longHold)
	f.finish(s, died(f.requireNext(s, "members", members...)[0]))
	f.finish(s, died(f.requireNext(s, "the run that gathers", gathering)[0]))
	second := f.inPlaceOf(members[0])
	f.requeueDead(1, members[0].ID)
	f.finish(s, then(f.requireNext(s, "the member, again", members[0])[0], second))
	f.finish(s, died(f.requireNext(s, "the second in the place", second)[0]))
	require.Equal(f, broker.StateFailed, f.members(gathering.Links.Awaits)[0].State, "after the second died")
	f.requeueDead(1, second.ID)
	f.finish(s, returned(f.requireNext(s, "the second, again", second)[0], "at last"))
	f.takesNothing(s, "q") // nothing is gathered twice
	f.requeueDead(1, gathering.ID)
	got := f.requireNext(s, "the run that gathers, again", gathering)
	require.Equal(f, "at last", string(f.members(gathering.Links.Awaits)[0].Result), "result in the place")
	f.finish(s, succeeded(got...)...)
}

func groupBehind(f *fixture) {
	f.needsNext()
	f.queueNew("q", 2)
	a, b := f.newRun("other"), f.newRun("third")
	inner := f.gathers("q", group(b))
	gathering := f.gathers("third", group(a, inner), keep(time.Hour))
	stale := f.openSession(shortHold)
	held := f.take(stale, 2, "q")
	f.finish(stale, succeeded(held[0])...)
	f.lapse(1, "q")
	f.finishFenced(stale, then(held[0], gathering), then(held[1], gathering))
	s := f.openSession(longHold)
	again := f.takeThese(s, "the run that was recovered, and nothing of a stale success", held[1])
	f.finish(s, broker.Outcome{Run: again[0], Verdict: broker.Retry, Failure: failure("again"), Next: []*broker.TaskRun{gathering}})
	f.requireNoMembers(gathering.Links.Awaits, "a group that a retry did not queue")
	again = f.takeThese(s, "the run that was retried, and nothing else", held[1])

	f.finish(s, then(again[0], gathering))
	f.finishFenced(s, then(again[0], gathering))
	members := f.takeThese(s, "members of what the success that counts queued", a, b)
	f.requireSame(a, members[0], "a member")
	f.requireWaits(gathering)
	f.finish(s, returned(members[1], "b"))
	got := f.takeThese(s, "the run that gathers the inner group", inner)
	f.requireResults(inner, "b")
	f.finish(s, returned(got[0], "inner"), returned(members[0], "a"))
	got = f.takeThese(s, "the run that gathers the group", gathering)
	f.requireResults(gathering, "a", "inner")
	f.finish(s, succeeded(got...)...)
	f.takesNothing(s, nestQueues...)
}

func groupFollows(f *fixture) {
	inner := f.gathers("other", group(f.newRun("third", keep(time.Hour)), f.newRun("q")))
	gathering := f.gathers("third", group(f.newRun("other"), inner), keep(time.Hour))
	run := f.newRun("q")
	run.EnsureLinks().Then = []broker.FollowUp{{Run: gathering, Param: "p"}}
	f.queue(run)
	s := f.openSession(longHold)
	f.requireSame(run, f.takeOne(s, "q"), "a run that a group follows")
}

func groupBehindSkipped(f *fixture) {
	f.needsNext()
	live := f.queueOne("other", ownID("live"), delay(time.Hour))
	s, held := f.hold(1)
	gathering := f.gathers("other", group(f.newRun("q"), f.newRun("third")), ownID(live.ID))
	beside := f.newRun("third")
	got := skips{}
	got.finish(f, s, then(held[0], gathering, beside))
	got.finish(f, s, succeeded(f.takeThese(s, "what the success queued besides", beside)...)...)
	got.require(f, skips{live.ID: live.ID})
	f.requireForgotten(gathering.Links.Awaits, "a group whose gathering run was skipped")
	f.takesNothing(s, nestQueues...)
}

func groupInPlace(f *fixture) {
	f.needsNext()
	s := f.openSession(longHold)
	for _, passed := range []bool{false, true} {
		members := group(f.newRun("other"), f.newRun("q", keep(time.Hour)))
		outer := f.gathers("third", members, keep(time.Hour))
		f.queueNest(outer)
		held := f.takeThese(s, "members", members...)
		inner := f.inPlace(f.gathers("third", group(f.newRun("q"), f.newRun("other"))), members[1])
		last := f.inPlace(f.newRun("q"), members[1])
		o := succeededBy(held[1], inner)
		if passed {
			o = succeededBy(held[1], inner, last)
		}
		f.finish(s, o, returned(held[0], "first"))
		f.requireRecord(members[1], broker.Record{State: broker.StateSucceeded, Successors: o.Call.Successors})
		within := f.takeThese(s, "members of the group in the place", inner.Links.Members...)
		require.Nil(f, f.members(outer.Links.Awaits)[1], "record of a place that was passed on")
		f.finish(s, returned(within[1], "1"), returned(within[0], "0"))
		got := f.takeThese(s, "the run that gathers the group in the place", inner)
		f.requireResults(inner, "0", "1")
		f.requireWaits(outer)
		end := inner
		if passed {
			f.finish(s, then(got[0], last))
			got, end = f.takeThese(s, "the follow-up of the run that gathers", last), last
			f.requireWaits(outer)
		}
		f.finish(s, returned(got[0], "second"))
		got = f.takeThese(s, "the run that gathers the outer group", outer)
		f.requireResults(outer, "first", "second")
		require.Equal(f, end.ID, f.members(outer.Links.Awaits)[1].ID, "id of who ended in the place")
		f.finish(s, succeeded(got...)...)
	}
	f.takesNothing(s, nestQueues...)
}

func placeElsewhere(f *fixture) {
	f.needsNext()
	members := group(f.newRun("q"), f.newRun("third"))
	gathering := f.gathers("other", members, keep(time.Hour))
	f.queueNest(gathering)
	s := f.openSession(longHold)
	held := f.takeThese(s, "members", members...)
	wrong := f.inPlace(f.newRun("third"), members[1])
	wrong.Links.GroupQueue = ""
	_, err := s.Finish(f.ctx(), then(held[1], wrong))
	require.ErrorContains(f, err, "no other", "Finish of a member with a follow-up in the same group of another queue")

	for _, queue := range []string{"other", "q", "third"} {
		here, there := f.inPlace(f.newRun(queue), members[0]), f.inPlace(f.newRun(queue), members[1])
		f.finish(s, then(held[0], here), then(held[1], there))
		held = f.takeThese(s, "follow-ups in queue "+queue, here, there)
		f.requireSame(here, held[0], "a follow-up in the place of a member")
		f.finish(s, retried(held[0], 0))
		held[0] = f.takeThese(s, "a follow-up that was retried", here)[0]
		f.requireWaits(gathering)
		require.Equal(f, []*broker.Record{nil, nil}, f.members(gathering.Links.Awaits), "records of places that were passed on")
	}
	f.finish(s, returned(held[0], "0"))
	f.finish(s, returned(held[1], "1"))
	got := f.takeThese(s, "the run that gathers them", gathering)
	f.requireResults(gathering, "0", "1")
	for i, rec := range f.members(gathering.Links.Awaits) {
		require.Equal(f, held[i].ID, rec.ID, "id of who ended in place %d", i)
		require.Equal(f, "third", rec.Queue, "queue of who ended in place %d", i)
	}
	f.finish(s, succeeded(got...)...)
	f.takesNothing(s, nestQueues...)
}

func placeElsewhereSkipped(f *fixture) {
	f.needsNext()
	live := f.queueOne("other", ownID("live"), delay(time.Hour))
	members := group(f.newRun("q"), f.newRun("third"), f.newRun("other"))
	gathering := f.gathers("q", members, keep(time.Hour))
	f.queueNest(gathering)
	s, got := f.openSession(longHold), skips{}
	held := f.takeThese(s, "members", members...)
	last := f.inPlace(f.gathers("other", group(f.newRun("q"), f.newRun("third")), ownID(live.ID)), members[2])
	got.finish(f, s,
		then(held[0], f.inPlace(f.newRun("other", ownID(live.ID)), members[0])))
	got.require(f, skips{live.ID: live.ID})
	got = skips{}
	f.requireWaits(gathering)
	got.finish(f, s, succeeded(held[1])...)
	got.finish(f, s, then(held[2], last))
	ended := f.takeThese(s, "the run that gathers them", gathering)
	for _, place := range []int{0, 2} {
		f.requireFailed(gathering, place, live.ID, broker.Failure{Kind: broker.FailureDuplicate, Message: live.ID})
	}
	got.finish(f, s, succeeded(ended...)...)
	got.require(f, skips{live.ID: live.ID})
	f.takesNothing(s, nestQueues...)
}

func successorsRecorded(f *fixture) {
	f.needsNext()
	given := f.queueOne("q", keep(time.Hour))
	recs, wait := f.waiters(2, given)
	s := f.openSession(longHold)
	first := f.newRun("other", keep(time.Hour))
	first.EnsureLinks().Returned = 7
	o := succeededBy(f.takeOne(s, "q"), first, f.newRun("third"))
	want := broker.Record{State: broker.StateSucceeded, Successors: slices.Clone(o.Call.Successors)}
	f.finish(s, o)
	o.Call.Successors[0].ID = "changed" // the broker has its own
	f.requireRecord(given, want)
	require.NoError(f, wait(), "WaitRecord of a run that others succeed")
	for _, rec := range recs {
		require.Equal(f, want.Successors, rec.Successors, "successors that WaitRecord returns")
	}
	recs[0].Successors[1].ID = "changed" // and so has the caller
	rec, err := f.records().WaitRecord(f.ctx(), "q", given.ID)
	require.NoError(f, err, "WaitRecord of a run that has ended")
	require.Equal(f, want.Successors, rec.Successors, "successors that WaitRecord returns later")

	got := f.takeThese(s, "the first of the successors", first)
	f.requireSame(first, got[0], "the first of the successors")
	f.finish(s, returned(got[0], "r"))
	f.requireRecord(first, broker.Record{State: broker.StateSucceeded, Result: []byte("r")})
}

func nestRefused(f *fixture) {
	tree := func() (gathering, inner *broker.TaskRun) {
		inner = f.gathers("third", group(f.newRun("q"), f.newRun("other")))
		return f.gathers("other", group(f.newRun("q"), inner), keep(time.Hour)), inner
	}
	deep, _ := f.deep(broker.MaxNesting + 1)
	spoils := map[string]func(gathering, inner *broker.TaskRun){
		"members deeper than MaxNesting": func(g, _ *broker.TaskRun) { *g = *deep[len(deep)-1] },
		"no member":                      func(g, _ *broker.TaskRun) { g.Links.Members[1] = nil },
		"no inner member":                func(_, in *broker.TaskRun) { in.Links.Members[0] = nil },
		"a member of another group":      func(_, in *broker.TaskRun) { in.Links.Group = "another" },
		"an inner member of another":     func(_, in *broker.TaskRun) { in.Links.Members[1].Links.Group = "another" },
		"a member in a wrong place":      func(_, in *broker.TaskRun) { in.Links.Member = 0 },
		"two members that are swapped":   func(g, _ *broker.TaskRun) { slices.Reverse(g.Links.Members) },
		"inner members that are swapped": func(_, in *broker.TaskRun) { slices.Reverse(in.Links.Members) },
		"a group in a wrong queue":       func(_, in *broker.TaskRun) { in.Links.GroupQueue = "other" },
		"an inner group in a wrong one":  func(_, in *broker.TaskRun) { in.Links.Members[1].Links.GroupQueue = "" },
		"fewer inner members":            func(_, in *broker.TaskRun) { in.Links.Members = in.Links.Members[:1] },
		"fewer members":                  func(g, _ *broker.TaskRun) { g.Links.Members = g.Links.Members[:1] },
		"an inner group without an id":   func(_, in *broker.TaskRun) { in.Links.Awaits.ID = "" },
		"an inner member with a bad id":  func(_, in *broker.TaskRun) { in.Links.Members[0].ID = "a b" },
	}
	for what, spoil := range spoils {
		gathering, inner := tree()
		spoil(gathering, inner)
		err := f.groups().QueueGroup(f.ctx(), apart(gathering), gathering.Links.Members...)
		require.Error(f, err, "QueueGroup of %s", what)
		f.requireNoMembers(gathering.Links.Awaits, what)
	}
	if f.keeps(broker.PolicyNext) {
		s, held := f.holdOne()
		for what, spoil := range spoils {
			gathering, inner := tree()
			spoil(gathering, inner)
			_, err := s.Finish(f.ctx(), then(held, f.newRun("q"), gathering))
			require.Error(f, err, "Finish with a group of %s", what)
		}
		f.finish(s, succeeded(held)...)
	}
	live := f.queueOne("other", ownID("live"), delay(time.Hour))
	gathering, _ := tree()
	gathering.ID, gathering.OwnID, gathering.Keep = live.ID, true, 0
	f.requireConflict(f.groups().QueueGroup(f.ctx(), apart(gathering), gathering.Links.Members...),
		[]broker.Duplicate{{Index: -1, ID: live.ID}}, "QueueGroup with the own id of a live run")
	f.requireNoMembers(gathering.Links.Awaits, "a group whose gathering run is a duplicate")
	f.takesNothing(f.openSession(longHold), nestQueues...)
}

func membersRefused(f *fixture) {
	gathering := f.gathers("q", group(f.newRun("q"), f.newRun("q")))
	require.ErrorContains(f, f.b.QueueTasks(f.ctx(), f.newRun("q"), gathering), gathering.ID, "QueueTasks of a run with the members of its group")
	require.ErrorContains(f, f.groups().QueueGroup(f.ctx(), gathering, gathering.Links.Members...), gathering.ID,
		"QueueGroup of a run with the members of its group")
	f.requireNoMembers(gathering.Links.Awaits, "a group that was refused")
	require.Zero(f, f.length("q"), "runs of calls that were refused")
}

func nestTooMany(f *fixture) {
	var members []*broker.TaskRun
	for range broker.MaxRuns / broker.MaxGroup {
		members = append(members, f.gathers("q", f.newRuns("other", broker.MaxGroup)))
	}
	many := f.gathers("third", members)
	large := f.gathers("third", group(f.newRun("q"), f.gathers("q", group(f.newRun("q")))))
	large.Links.Members[1].Links.Members[0].Payload = make([]byte, broker.MaxBatch+1)
	s, held := f.holdOne()
	for limit, gathering := range map[int]*broker.TaskRun{broker.MaxRuns: many, broker.MaxBatch: large} {
		err := f.groups().QueueGroup(f.ctx(), apart(gathering), gathering.Links.Members...)
		require.ErrorIs(f, err, broker.ErrBatchTooLarge, "QueueGroup of more than %d in all", limit)
		require.ErrorContains(f, err, fmt.Sprintf("at most %d are allowed", limit), "QueueGroup of more than %d in all", limit)
		f.requireNoMembers(gathering.Links.Awaits, "a group that was refused")
		if f.keeps(broker.PolicyNext) {
			_, err = s.Finish(f.ctx(), then(held, gathering))
			require.ErrorIs(f, err, broker.ErrBatchTooLarge, "Finish with more than %d in all", limit)
		}
	}
	f.finish(s, succeeded(held)...)
	f.takesNothing(s, nestQueues...)
}

// groupForgotten ends runs that gather groups of their own queue and of another, in each way that
// is for good.
func groupForgotten(f *fixture) {
	f.needControls()
	s := f.openSession(longHold)
	for _, queue := range []string{"q", "other"} {
		for what, end := range map[string]func(r *broker.TaskRun){
			"succeeded": func(r *broker.TaskRun) { f.finish(s, succeeded(r)...) },
			"expired":   func(r *broker.TaskRun) { f.finish(s, dropped(r)) },
			"was cancelled in flight": func(r *broker.TaskRun) {
				f.cancel(queue, r.ID)
				f.finish(s, retried(r, 0))
			},
		} {
			then, members := f.newGroup(queue, 1)
			f.queueGroup(then, members...)
			f.finish(s, succeeded(f.takeOne(s, "q"))...)
			run := f.takeOne(s, queue)
			f.finish(s, retried(run, 0))
			run = f.takeOne(s, queue)
			require.Len(f, f.members(then.Links.Awaits), 1, "members, before the run that gathers them %s", what)
			end(run)
			f.requireNoMembers(then.Links.Awaits, "a group whose gathering run "+what)
		}
	}
}
