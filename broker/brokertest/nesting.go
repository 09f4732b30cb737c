package brokertest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var nestingChecks = []check{
	{"members of several queues end in any order, and are gathered in their own", spreadGathered},
	{"a member of another queue that does not succeed has ended", spreadFailed},
	{"a retry, a recovery and a giving back do not end a member of another queue", spreadLives},
	{"groups in one another are gathered from the inside out", nestGathered},
	{"a run that gathers a group within another holds its id and unique key while it waits", nestHolds},
	{"groups can be MaxNesting deep", nestDeepest},
	{"a member of another queue or group that is skipped has failed", nestSkipped},
	{"a run that gathers a group within another is cancelled while it waits", nestCancelled},
	{"inner groups go on when the run that gathers the outermost is cancelled", nestOutermostCancelled},
	{"a dead member of another queue or group that is queued again and succeeds counts so", nestRequeued},
	{"groups in one another that many finish at once are each gathered once", nestRace},
}

// nestQueues are the queues of groups of several queues. The first keeps the outermost group.
var nestQueues = []string{"q", "other", "third"}

// gathers makes a run that gathers members, with them: the queue of the first keeps the group.
func (f *fixture) gathers(queue string, members []*broker.TaskRun, edits ...func(*broker.TaskRun)) *broker.TaskRun {
	r := f.newRun(queue, edits...)
	links := r.EnsureLinks()
	links.Awaits = broker.Group{ID: "group-of-" + r.ID, Queue: members[0].Queue, Size: len(members)}
	links.Members = members
	for i, m := range members {
		f.joins(m, links.Awaits.Queue, links.Awaits.ID, i)
	}
	return r
}

// joins makes a run the member of a group.
func (f *fixture) joins(m *broker.TaskRun, queue, group string, place int) {
	links := m.EnsureLinks()
	links.Group, links.GroupQueue, links.Member = group, "", place
	if m.Queue != queue {
		links.GroupQueue = queue
	}
}

// group is members, for gathers.
func group(members ...*broker.TaskRun) []*broker.TaskRun { return members }

// apart returns a run without the members of the group that it gathers.
func apart(gathering *broker.TaskRun) *broker.TaskRun {
	r, links := *gathering, *gathering.Links
	links.Members, r.Links = nil, &links
	return &r
}

// queueNest queues what gathers made.
func (f *fixture) queueNest(gathering *broker.TaskRun) {
	f.Helper()
	f.queueGroup(apart(gathering), gathering.Links.Members...)
}

// takeThese takes runs of several queues, in any order, and returns them in the order wanted. No
// other may come before them.
func (f *fixture) takeThese(s broker.Session, what string, want ...*broker.TaskRun) []*broker.TaskRun {
	f.Helper()
	taken := f.take(s, len(want), nestQueues...)
	require.ElementsMatch(f, ids(want), ids(taken), what)
	by := byID(taken)
	got := make([]*broker.TaskRun, len(want))
	for i, r := range want {
		got[i] = by[r.ID]
		require.Empty(f, got[i].Links.OrZero().Members, "members that run %s of a queue has with it", r.ID)
	}
	return got
}

// requireResults checks that all members of a run's group succeeded, and with which results.
func (f *fixture) requireResults(gathering *broker.TaskRun, want ...string) {
	f.Helper()
	var got []string
	for i, rec := range f.members(gathering.Links.Awaits) {
		require.NotNil(f, rec, "record of member %d of run %s", i, gathering.ID)
		require.Equal(f, broker.StateSucceeded, rec.State, "state of member %d of run %s", i, gathering.ID)
		got = append(got, string(rec.Result))
	}
	require.Equal(f, want, got, "results that run %s gathers", gathering.ID)
}

// requireFailed checks how a member of a run's group failed.
func (f *fixture) requireFailed(gathering *broker.TaskRun, place int, id string, want broker.Failure) {
	f.Helper()
	rec := f.members(gathering.Links.Awaits)[place]
	require.NotNil(f, rec, "record of member %d of run %s", place, gathering.ID)
	require.Equal(f, id, rec.ID, "id of member %d", place)
	state := broker.StateFailed
	if want.Kind == broker.FailureCancelled {
		state = broker.StateCancelled
	}
	require.Equal(f, state, rec.State, "state of member %d", place)
	require.NotNil(f, rec.Failure, "failure of member %d", place)
	require.Equal(f, want, *rec.Failure, "failure of member %d", place)
}

// requireWaits checks that a run with Keep still waits for its group.
func (f *fixture) requireWaits(gathering *broker.TaskRun) {
	f.Helper()
	f.requireRecord(gathering, broker.Record{State: broker.StateDelayed})
}

func spreadGathered(f *fixture) {
	s := f.openSession(longHold)
	for _, order := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {2, 0, 3, 1}} {
		members := group(f.newRun("q"), f.newRun("other"), f.newRun("third", keep(time.Hour)), f.newRun("other", priority(broker.High)))
		gathering := f.gathers("third", members, keep(time.Hour))
		f.queueNest(gathering)
		got := f.takeThese(s, "members of three queues", members...)
		for i, m := range members {
			f.requireSame(m, got[i], "a member")
		}
		for _, i := range order {
			f.requireWaits(gathering)
			f.finish(s, returned(got[i], fmt.Sprint(i)))
		}
		last := f.takeThese(s, "the run that gathers them", gathering)
		want := apart(gathering)
		want.QueuedAt = last[0].QueuedAt
		f.requireSame(want, last[0], "the run that gathers them")
		f.requireResults(gathering, "0", "1", "2", "3")
		f.requireRecord(members[2], broker.Record{State: broker.StateSucceeded, Result: []byte("2")})
		f.finish(s, succeeded(last...)...)
		f.requireNoMembers(gathering.Links.Awaits, "a group that was gathered")
	}
	f.takesNothing(s, nestQueues...)
}

func spreadFailed(f *fixture) {
	members := group(f.newRun("q"), f.newRun("other"), f.newRun("other"), f.newRun("third"))
	gathering := f.gathers("q", members, keep(time.Hour))
	f.queueNest(gathering)
	got := f.get(1, "third")
	require.Equal(f, members[3].ID, got[0].ID, "the member that GetTaskRuns takes")
	s := f.openSession(longHold)
	held := f.takeThese(s, "the other members", members[:3]...)
	f.finish(s, dropped(held[1]), died(held[2]))
	f.requireWaits(gathering)
	f.finish(s, succeeded(held[0])...)
	last := f.takeThese(s, "the run that gathers them", gathering)
	f.requireFailed(gathering, 1, members[1].ID, *failure("expired"))
	f.requireFailed(gathering, 2, members[2].ID, *failure("bad"))
	records := f.members(gathering.Links.Awaits)
	require.Equal(f, broker.StateSucceeded, records[0].State, "member that succeeded")
	require.Equal(f, broker.StateFailed, records[3].State, "member that was taken for good")
	f.finish(s, succeeded(last...)...)
}

func spreadLives(f *fixture) {
	members := group(f.newRun("q"), f.newRun("other"))
	gathering := f.gathers("q", members, keep(time.Hour))
	f.queueNest(gathering)
	f.takeThese(f.openSession(shortHold), "members", members...)
	f.lapse(2, nestQueues...)
	s := f.openSession(longHold)
	f.takeThese(s, "members that were recovered", members...)
	f.close(s)
	s = f.openSession(longHold)
	held := f.takeThese(s, "members that were given back", members...)
	f.finish(s, succeeded(held[0])...)
	f.finish(s, retried(held[1], 0))
	held = f.takeThese(s, "the member that was retried", members[1])
	f.requireWaits(gathering)
	f.finish(s, returned(held[0], "at last"))
	f.takeThese(s, "the run that gathers them", gathering)
	f.requireResults(gathering, "", "at last")
}

func nestGathered(f *fixture) {
	a, b, c, d, e := f.newRun("q"), f.newRun("other"), f.newRun("third"), f.newRun("q"), f.newRun("third")
	inner := f.gathers("q", group(c, d), keep(time.Hour))
	middle := f.gathers("other", group(b, inner), keep(time.Hour))
	outer := f.gathers("third", group(a, middle, e), keep(time.Hour))
	f.queueNest(outer)
	s := f.openSession(longHold)
	held := f.takeThese(s, "the members that gather nothing", a, b, c, d, e)
	f.requireSame(c, held[2], "a member of the inner group")
	f.finish(s, returned(held[4], "e"), returned(held[2], "c"), returned(held[1], "b"))
	for _, r := range []*broker.TaskRun{inner, middle, outer} {
		f.requireWaits(r)
	}
	f.finish(s, returned(held[3], "d"))
	got := f.takeThese(s, "the run that gathers the inner group", inner)[0]
	want := apart(inner)
	want.QueuedAt = got.QueuedAt
	f.requireSame(want, got, "the run that gathers the inner group")
	f.requireRecord(inner, broker.Record{State: broker.StateRunning})
	f.requireResults(inner, "c", "d")
	f.requireWaits(middle)
	f.finish(s, returned(got, "cd"))
	got = f.takeThese(s, "the run that gathers the middle group", middle)[0]
	f.requireRecord(inner, broker.Record{State: broker.StateSucceeded, Result: []byte("cd")})
	f.requireNoMembers(inner.Links.Awaits, "an inner group that was gathered")
	f.requireResults(middle, "b", "cd")
	f.finish(s, returned(got, "bcd"))
	f.requireWaits(outer)
	f.finish(s, returned(held[0], "a"))
	got = f.takeThese(s, "the run that gathers the outermost group", outer)[0]
	f.requireResults(outer, "a", "bcd", "e")
	require.Equal(f, middle.ID, f.members(outer.Links.Awaits)[1].ID, "id of the member that gathered the middle group")
	f.finish(s, returned(got, "all"))
	f.requireRecord(outer, broker.Record{State: broker.StateSucceeded, Result: []byte("all")})
	f.takesNothing(s, nestQueues...)
}

func nestHolds(f *fixture) {
	f.needs(broker.PolicyUnique, "unique keys")
	a := f.newRun("q")
	inner := f.gathers("other", group(a), ownID("inner"), unique("key"))
	outer := f.gathers("third", group(inner, f.newRun("q")))
	f.queueNest(outer)
	s := f.openSession(longHold)
	members := f.takeThese(s, "members", a, outer.Links.Members[1])
	f.queueDuplicate("waiting for its group", f.newRun("other", ownID(inner.ID)))
	f.queueConflict("waiting for its group", held(inner), f.newRun("other", unique("key")))
	f.finish(s, succeeded(members...)...)
	got := f.takeThese(s, "the run that gathers the inner group", inner)
	f.queueConflict("taken", held(inner), f.newRun("other", unique("key")))
	f.finish(s, succeeded(got...)...)
	f.takeThese(s, "the run that gathers the outer group", outer)
	f.queue(f.newRun("other", ownID(inner.ID), unique("key"), delay(time.Hour)))
}

// deep returns groups of one, nested so deep, the innermost first, and the one
// member that gathers nothing.
func (f *fixture) deep(n int) (gathering []*broker.TaskRun, first *broker.TaskRun) {
	first = f.newRun("q")
	for inner := first; n > 0; n-- {
		inner = f.gathers(nestQueues[n%len(nestQueues)], group(inner))
		gathering = append(gathering, inner)
	}
	return gathering, first
}

func nestDeepest(f *fixture) {
	gathering, first := f.deep(broker.MaxNesting)
	f.queueNest(gathering[len(gathering)-1])
	s := f.openSession(longHold)
	f.finish(s, returned(f.takeThese(s, "the innermost member", first)[0], "0"))
	for i, r := range gathering {
		got := f.takeThese(s, fmt.Sprintf("what gathers group %d from the inside", i), r)[0]
		f.requireResults(r, fmt.Sprint(i))
		f.finish(s, returned(got, fmt.Sprint(i+1)))
	}
	f.takesNothing(s, nestQueues...)
}

// skips collects which runs were skipped, and in whose favour.
type skips map[string]string

// finish applies outcomes that must all count.
func (d skips) finish(f *fixture, s broker.Session, outcomes ...broker.Outcome) {
	f.Helper()
	done, err := s.Finish(f.ctx(), outcomes...)
	require.NoError(f, err, "Finish")
	require.Empty(f, ids(done.Fenced), "fenced runs that the session holds")
	d.note(f, done.Skipped)
}

func (d skips) note(f *fixture, skipped []broker.SkippedDuplicate) {
	f.Helper()
	for _, one := range skipped {
		require.NotContains(f, d, one.Run.ID, "runs skipped before")
		d[one.Run.ID] = one.LiveID
	}
}

// require checks which runs were skipped. A broker may report them late.
func (d skips) require(f *fixture, want skips) {
	f.Helper()
	f.eventually(func() bool {
		d.note(f, f.recover(nestQueues...).Skipped)
		return len(d) >= len(want)
	}, "%d skipped runs are reported", len(want))
	require.Equal(f, want, d, "runs skipped, and in whose favour")
}

// requireForgotten checks that a group is soon unknown, if it is one.
func (f *fixture) requireForgotten(of broker.Group, what string) {
	f.Helper()
	f.eventually(func() bool {
		_, err := f.groups().Members(f.ctx(), of)
		return of.ID == "" || errors.Is(err, broker.ErrNoRecord)
	}, "Members no longer knows %s", what)
}

func nestSkipped(f *fixture) {
	live := f.queueOne("other", ownID("live"), delay(time.Hour))
	kept := f.queueOne("third", ownID("kept"), delay(time.Hour), keep(time.Hour))
	first := f.newRun("q")
	member := f.newRun("other", ownID(live.ID), keep(time.Hour))
	inner := f.gathers("third", group(f.newRun("q"), f.newRun("other")), ownID(kept.ID), keep(time.Hour))
	members, by := group(first, member, inner), []*broker.TaskRun{nil, live, kept}
	want := skips{"live": "live", "kept": "kept"}
	if f.keeps(broker.PolicyUnique) {
		has := f.queueOne("other", unique("key"), delay(time.Hour))
		m := f.newRun("other", unique("key"), keep(time.Hour))
		g := f.gathers("other", group(f.newRun("third"), f.gathers("q", group(f.newRun("q")))), unique("key"), keep(time.Hour))
		members, by = append(members, m, g), append(by, has, has)
		want[m.ID], want[g.ID] = has.ID, has.ID
	}
	gathering, got := f.gathers("q", members), skips{}
	f.queueNest(gathering)
	s := f.openSession(longHold)
	got.finish(f, s, succeeded(f.takeThese(s, "the member that is no duplicate", first)...)...)
	last := f.takeThese(s, "the run that gathers them", gathering)
	for i, m := range members[1:] {
		live := by[i+1]
		f.requireFailed(gathering, i+1, m.ID, broker.Failure{Kind: broker.FailureDuplicate, Message: live.ID})
		if live == kept {
			f.requireRecord(live, broker.Record{State: broker.StateDelayed})
		} else {
			f.eventually(func() bool {
				rec, err := f.records().Record(f.ctx(), m.Queue, m.ID)
				return err == nil && rec.State == broker.StateFailed && rec.Failure.Kind == broker.FailureDuplicate
			}, "the record of run %s says that it was skipped", m.ID)
		}
	}
	got.finish(f, s, succeeded(last...)...)
	got.require(f, want)
	for _, m := range members[2:] {
		f.requireForgotten(m.Links.Awaits, "a group whose gathering run was skipped")
	}
	f.takesNothing(s, nestQueues...)
}

func nestCancelled(f *fixture) {
	f.needControls()
	s := f.openSession(longHold)
	for _, kept := range []time.Duration{0, time.Hour} {
		a, x, y := f.newRun("q"), f.newRun("third"), f.newRun("q")
		inner := f.gathers("other", group(x, y), keep(kept))
		outer := f.gathers("third", group(a, inner), keep(time.Hour))
		f.queueNest(outer)
		held := f.takeThese(s, "members", a, x, y)
		f.finish(s, succeeded(held[1])...)
		f.cancel("other", inner.ID)
		if kept > 0 {
			f.requireCancelled(inner)
		}
		f.requireNotCancelled("other", inner.ID, "a run that was cancelled")
		f.requireNoMembers(inner.Links.Awaits, "a group whose gathering run was cancelled")
		f.requireWaits(outer)
		f.finish(s, succeeded(held[2], held[0])...)
		last := f.takeThese(s, "the run that gathers the outer group, and no other", outer)
		require.Equal(f, broker.StateSucceeded, f.members(outer.Links.Awaits)[0].State, "state of the other member")
		f.requireFailed(outer, 1, inner.ID, cancelled)
		f.finish(s, succeeded(last...)...)
	}
	f.takesNothing(s, nestQueues...)
}

func nestOutermostCancelled(f *fixture) {
	f.needControls()
	a, x, y := f.newRun("q"), f.newRun("third"), f.newRun("q")
	inner := f.gathers("other", group(x, y), keep(time.Hour))
	outer := f.gathers("third", group(a, inner), keep(time.Hour))
	f.queueNest(outer)
	s := f.openSession(longHold)
	held := f.takeThese(s, "members", a, x, y)
	f.cancel("third", outer.ID)
	f.requireCancelled(outer)
	f.requireNoMembers(outer.Links.Awaits, "a group whose gathering run was cancelled")
	f.finish(s, returned(held[1], "x"), returned(held[2], "y"), returned(held[0], "a"))
	got := f.takeThese(s, "the run that gathers the inner group", inner)
	f.requireResults(inner, "x", "y")
	f.finish(s, returned(got[0], "xy"))
	f.requireRecord(inner, broker.Record{State: broker.StateSucceeded, Result: []byte("xy")})
	f.takesNothing(s, nestQueues...)
}

func nestRequeued(f *fixture) {
	f.needControls()
	again := func(r *broker.TaskRun) {
		f.Helper()
		n, err := f.controls().RequeueDead(f.ctx(), r.Queue, r.ID)
		require.NoError(f, err, "RequeueDead of run %s", r.ID)
		require.Equal(f, 1, n, "dead letters of run %s", r.ID)
	}
	counts := func(gathering *broker.TaskRun, place int, result string) {
		f.Helper()
		f.eventually(func() bool {
			rec := f.members(gathering.Links.Awaits)[place]
			return rec.State == broker.StateSucceeded && string(rec.Result) == result
		}, "the success of member %d counts", place)
	}
	a, x, y := f.newRun("third"), f.newRun("q"), f.newRun("other")
	inner := f.gathers("other", group(x, y))
	outer := f.gathers("q", group(a, inner))
	f.queueNest(outer)
	s := f.openSession(longHold)
	held := f.takeThese(s, "members", a, x, y)
	f.finish(s, returned(held[0], "a"), returned(held[1], "x"), died(held[2]))
	f.finish(s, died(f.takeThese(s, "the run that gathers the inner group", inner)[0]))
	f.finish(s, died(f.takeThese(s, "the run that gathers the outer group", outer)[0]))
	f.requireFailed(inner, 1, y.ID, *failure("bad"))
	f.requireFailed(outer, 1, inner.ID, *failure("bad"))

	again(y)
	f.finish(s, returned(f.takeThese(s, "the dead member, again", y)[0], "y"))
	counts(inner, 1, "y")
	again(inner)
	got := f.takeThese(s, "the run that gathers the inner group, again", inner)
	f.requireResults(inner, "x", "y")
	f.finish(s, returned(got[0], "xy"))
	counts(outer, 1, "xy")
	again(outer)
	got = f.takeThese(s, "the run that gathers the outer group, again", outer)
	f.requireResults(outer, "a", "xy")
	f.finish(s, succeeded(got...)...)
	f.requireNoMembers(outer.Links.Awaits, "a group that was gathered at last")
	f.takesNothing(s, nestQueues...)
}

// nestOf makes a group of groups, and adds all its runs to a list.
func (f *fixture) nestOf(depth, size int, all *[]*broker.TaskRun) *broker.TaskRun {
	var r *broker.TaskRun
	queue := nestQueues[len(*all)%len(nestQueues)]
	if depth == 0 {
		r = f.newRun(queue)
	} else {
		var members []*broker.TaskRun
		for range size {
			members = append(members, f.nestOf(depth-1, size, all))
		}
		r = f.gathers(queue, members)
	}
	*all = append(*all, r)
	return r
}

func nestRace(f *fixture) {
	var all []*broker.TaskRun
	for range 5 {
		f.queueNest(f.nestOf(3, 3, &all))
	}
	var seen tally
	stop := f.within(endurance)
	f.each(4, func(int) error {
		s, err := f.leaser().OpenSession(stop, longHold)
		if err != nil {
			return err
		}
		for seen.len() < len(all) && stop.Err() == nil {
			runs, err := s.Take(f.within(quiet), anyOf(7, nestQueues...)) // which may find none in time, and then does later
			if err = ignoreTimeout(err); err != nil {
				return err
			}
			seen.add(runs...)
			slices.Reverse(runs)
			for range 2 { // the second is fenced
				if _, err := s.Finish(stop, succeeded(runs...)...); err != nil {
					return err
				}
			}
		}
		return s.Close(f.ctx())
	})
	f.requireOnce(&seen, all, "runs of groups in one another")
	f.takesNothing(f.openSession(longHold), nestQueues...)
}
