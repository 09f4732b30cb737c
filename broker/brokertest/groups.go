package brokertest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var groupChecks = []check{
	{"the last end of a group queues the run that gathers it", groupGathered},
	{"a group is gathered in another queue too, and wakes a blocked Take", groupElsewhere},
	{"Members tells how each has ended while the run that gathers them lives", groupMembers},
	{"a retry, a recovery and a giving back do not end a member", groupLives},
	{"a group is stored whole or not at all", groupWhole},
	{"a group without members is gathered at once", groupEmpty},
	{"a run that waits for its group has a record and can be waited for", groupWaited},
	{"a run that waits for its group can be cancelled", groupCancelled},
	{"a member that is cancelled has ended", groupMemberCancelled},
	{"a member that GetTaskRuns takes has ended as failed", groupMemberTaken},
	{"a dead member that is queued again and succeeds counts so, and only so", groupRequeued},
	{"the end of a gathering run forgets the group, and nothing else does", groupForgotten},
	{"a gathering run that died finds its members when it is queued again", groupGatheredAgain},
	{"a group whose results are too large together is not read", groupTooLarge},
	{"a group whose members are too large together is refused whole", membersTooLarge},
	{"a group that many finish at once is gathered once", groupRace},
	{"a group of ten thousand is gathered as any other", groupBig},
}

// newGroup makes a run for the queue and the members in queue q that it gathers.
func (f *fixture) newGroup(queue string, n int, edits ...func(*broker.TaskRun)) (then *broker.TaskRun, members []*broker.TaskRun) {
	then = f.newRun(queue)
	then.EnsureLinks().Awaits = broker.Group{ID: "group-of-" + then.ID, Queue: "q", Size: n}
	members = f.newRuns("q", n, edits...)
	for i, m := range members {
		links := m.EnsureLinks()
		links.Group, links.Member = then.Links.Awaits.ID, i
	}
	return then, members
}

func (f *fixture) queueGroup(then *broker.TaskRun, members ...*broker.TaskRun) {
	f.Helper()
	require.NoError(f, f.groups().QueueGroup(f.ctx(), then, members...), "QueueGroup of %d", len(members))
}

// members returns the records of a group's members.
func (f *fixture) members(of broker.Group) []*broker.Record {
	f.Helper()
	records, err := f.groups().Members(f.ctx(), of)
	require.NoError(f, err, "Members")
	return records
}

// requireNoMembers waits until the queue that keeps the group, which may be on another server than
// the run that gathers it, has forgotten it.
func (f *fixture) requireNoMembers(of broker.Group, what string) {
	f.Helper()
	f.eventually(func() bool {
		_, err := f.groups().Members(f.ctx(), of)
		return errors.Is(err, broker.ErrNoRecord)
	}, "Members returns ErrNoRecord of %s", what)
}

func groupMemberTaken(f *fixture) {
	then, members := f.newGroup("q", 3, keep(time.Hour))
	members[2].Keep = 0
	f.queueGroup(then, members...)
	s := f.openSession(longHold)
	f.finish(s, succeeded(f.take(s, 1, "q")...)...)
	for range 2 {
		got, err := f.b.GetTaskRuns(f.ctx(), []string{"q"}, 1)
		require.NoError(f, err, "GetTaskRuns of a member")
		require.Len(f, got, 1)
	}
	require.Equal(f, []string{then.ID}, ids(f.take(s, 1, "q")), "the run that gathers them")
	records := f.members(then.Links.Awaits)
	require.Equal(f, broker.StateSucceeded, records[0].State, "member that succeeded")
	for _, r := range records[1:] {
		require.Equal(f, broker.StateFailed, r.State, "member that was taken for good")
		require.NotNil(f, r.Failure, "its failure")
	}
}

func groupGathered(f *fixture) {
	then, members := f.newGroup("q", 4)
	then.Priority, then.Headers = broker.High, map[string]string{"k": "v"}
	then.QueuedAt = then.QueuedAt.Add(-time.Hour)
	f.queueGroup(then, members...)
	require.Equal(f, 4, f.length("q"), "length with a group of 4")
	s := f.openSession(longHold)
	held := f.requireNext(s, "members", members...)
	for i, m := range members {
		f.requireSame(m, held[i], "a member")
	}
	f.finish(s, broker.Outcome{Run: held[2], Verdict: broker.Succeeded})
	f.finish(s, died(held[0]),
		dropped(held[3]))
	require.Zero(f, f.length("q"), "length before the last member has ended")
	f.takesNothing(s, "q")
	f.finish(s, succeeded(held[1])...)
	got := f.requireNext(s, "the run that gathers the group", then)
	require.WithinDuration(f, time.Now(), got[0].QueuedAt, time.Minute, "when it was queued, by the clock of whoever did it")
	then.QueuedAt = got[0].QueuedAt
	f.requireSame(then, got[0], "the run that gathers the group")
	require.Equal(f, 1, got[0].Deliveries, "its deliveries")
	f.finishFenced(s, succeeded(held...)...)
	f.finish(s, succeeded(got...)...)
	f.takesNothing(s, "q")
}

func groupElsewhere(f *fixture) {
	then, members := f.newGroup("other", 2)
	f.queueGroup(then, members...)
	s := f.openSession(longHold)
	held := f.take(s, 2, "q")
	f.finish(s, succeeded(held[0])...)
	f.requireWakes(then, 0, func() { f.finish(s, succeeded(held[1])...) })

	then, members = f.newGroup("other", 1)
	then.Delay = 2 * quiet
	f.queueGroup(then, members...)
	f.pass(then.Delay)
	last := f.take(s, 1, "q")
	start := time.Now()
	f.finish(s, succeeded(last...)...)
	f.requireArrivalAt(f.receiveLeased(s, "other"), then, start.Add(then.Delay))
}

func groupMembers(f *fixture) {
	then, members := f.newGroup("other", 4)
	members[1].Keep = time.Hour
	f.queueGroup(then, members...)
	f.requireNoMembers(broker.Group{ID: "unknown", Queue: "q", Size: 1}, "an unknown group")
	s := f.openSession(longHold)
	held := f.take(s, 4, "q")
	want := make([]*broker.Record, 4)
	requireMembers := func(what string) {
		f.Helper()
		got := f.members(then.Links.Awaits)
		require.Len(f, got, 4, "members %s", what)
		for i, w := range want {
			require.Equal(f, w == nil, got[i] == nil, "whether member %d has not ended, %s", i, what)
			if w != nil {
				w.ID, w.Task, w.Queue = members[i].ID, theTask, "q"
				f.equalRecord(w, got[i])
			}
		}
	}
	requireMembers("before any has ended")
	held[3].Attempt = 1
	f.finish(s, returned(held[3], "three"))
	want[3] = &broker.Record{State: broker.StateSucceeded, Attempt: 1, Result: []byte("three")}
	requireMembers("after one has ended")
	f.finish(s, returned(held[1], "one"),
		died(held[0]),
		dropped(held[2]))
	want[1] = &broker.Record{State: broker.StateSucceeded, Result: []byte("one")}
	want[0] = &broker.Record{State: broker.StateFailed, Failure: failure("bad")}
	want[2] = &broker.Record{State: broker.StateFailed, Failure: failure("expired")}
	requireMembers("after all have ended")
	f.requireRecord(members[1], *want[1])
	f.requireNoRecord("q", members[3].ID, "a member without Keep")

	run := f.takeOne(s, "other")
	f.finish(s, retried(run, 0))
	requireMembers("after the run that gathers them was retried")
	run = f.takeOne(s, "other")
	requireMembers("while the run that gathers them goes on")
	f.finish(s, succeeded(run)...)
	f.requireNoMembers(then.Links.Awaits, "a group that was gathered")
}

func groupLives(f *fixture) {
	then, members := f.newGroup("q", 1)
	f.queueGroup(then, members...)
	f.take(f.openSession(shortHold), 1, "q")
	f.lapse(1, "q")
	s := f.openSession(longHold)
	f.take(s, 1, "q")
	f.close(s)
	s = f.openSession(longHold)
	for _, d := range []time.Duration{0, quiet} {
		held := f.takeOne(s, "q")
		f.finish(s, retried(held, d))
	}
	f.finish(s, succeeded(f.requireNext(s, "the member, and not the run that gathers it", members...)...)...)
	f.requireNext(s, "the run that gathers it", then)
}

func groupWhole(f *fixture) {
	f.queueNew("q", 1, ownID("own"), delay(time.Hour))
	refused := func(what string, is error, spoil func(then *broker.TaskRun, members []*broker.TaskRun)) {
		f.Helper()
		then, members := f.newGroup("q", 3)
		then.Keep = time.Hour
		spoil(then, members)
		err := f.groups().QueueGroup(f.ctx(), then, members...)
		require.Error(f, err, "QueueGroup of %s", what)
		if is != nil {
			require.ErrorIs(f, err, is, "QueueGroup of %s", what)
		}
		require.Equal(f, 1, f.length("q"), "length after QueueGroup of %s", what)
		f.requireNoMembers(then.Links.Awaits, what)
		_, err = f.records().Record(f.ctx(), "q", then.ID)
		require.ErrorIs(f, err, broker.ErrNoRecord, "Record of the run that would gather %s", what)
	}
	refused("a member with the own id of a live run", broker.ErrDuplicate,
		func(_ *broker.TaskRun, m []*broker.TaskRun) { ownID("own")(m[1]) })
	refused("a gathering run with the own id of a live run", broker.ErrDuplicate,
		func(then *broker.TaskRun, _ []*broker.TaskRun) { then.ID, then.OwnID, then.Keep = "own", true, 0 })
	refused("a member with an unsafe id", nil, func(_ *broker.TaskRun, m []*broker.TaskRun) { m[2].ID = "a b" })
	refused("a gathering run with an unsafe task", nil, func(then *broker.TaskRun, _ []*broker.TaskRun) { then.Task = "a b" })
	refused("a member of another queue", nil, func(_ *broker.TaskRun, m []*broker.TaskRun) { m[0].Queue = "other" })
	refused("a member of another group", nil, func(_ *broker.TaskRun, m []*broker.TaskRun) { m[0].EnsureLinks().Group = "other" })
	refused("two members of one place", nil, func(_ *broker.TaskRun, m []*broker.TaskRun) { m[1].EnsureLinks().Member = 0 })
	refused("fewer members than it says", nil, func(then *broker.TaskRun, _ []*broker.TaskRun) { then.EnsureLinks().Awaits.Size = 4 })
	taken, others := f.newGroup("q", 3)
	taken.ID, taken.OwnID = "own", true
	f.requireConflict(f.groups().QueueGroup(f.ctx(), taken, others...), []broker.Duplicate{{Index: -1, ID: "own"}},
		"QueueGroup of a gathering run with the own id of a live run")
	if f.keeps(broker.PolicyUnique) {
		live := f.queueOne("other", unique("key"))
		then, members := f.newGroup("q", 3)
		then.EnsureLinks().Awaits.Queue = "other"
		for _, m := range members {
			m.Queue = "other"
		}
		members[1].EnsureRules().Unique = "key"
		f.requireConflict(f.groups().QueueGroup(f.ctx(), then, members...), []broker.Duplicate{{Index: 1, ID: live.ID}},
			"QueueGroup of a member with the unique key of a live run")
		require.Equal(f, 1, f.length("other"), "length after QueueGroup of a duplicate")
		f.requireNoMembers(then.Links.Awaits, "a group with a duplicate")
		members[1].EnsureRules().Unique = ""
		f.queueGroup(then, members...) // of a group that was refused nothing is left
	}
}

func groupEmpty(f *fixture) {
	then, _ := f.newGroup("q", 0)
	f.queueGroup(then)
	s := f.openSession(longHold)
	held := f.requireNext(s, "the run that gathers nothing", then)
	recs := f.members(then.Links.Awaits)
	require.Empty(f, recs, "members of a group without any")
	f.finish(s, succeeded(held...)...)
}

func groupWaited(f *fixture) {
	then, members := f.newGroup("other", 1)
	then.Keep, then.OwnID = time.Hour, true
	f.queueGroup(then, members...)
	f.requireRecord(then, broker.Record{State: broker.StateDelayed})
	require.Zero(f, f.length("other"), "length of the queue of a run that waits for its group")
	f.queueDuplicate("waiting for its group", f.newRun("other", ownID(then.ID)))
	recs, wait := f.waiters(2, then)
	s := f.openSession(longHold)
	f.finish(s, succeeded(f.take(s, 1, "q")...)...)
	held := f.takeOne(s, "other")
	f.requireRecord(then, broker.Record{State: broker.StateRunning})
	f.finish(s, returned(held, "all"))
	require.NoError(f, wait(), "WaitRecord of a run that waited for its group")
	for _, rec := range recs {
		require.Equal(f, []byte("all"), rec.Result, "result")
	}
}

func (f *fixture) needControls() {
	if !is[broker.Controls](f.b) {
		f.Skip("the broker has no controls")
	}
}

func groupCancelled(f *fixture) {
	f.needControls()
	then, members := f.newGroup("other", 2)
	then.Keep = time.Hour
	bare, others := f.newGroup("q", 1)
	f.queueGroup(then, members...)
	f.queueGroup(bare, others...)
	_, wait := f.waiters(1, then)
	f.cancel("other", then.ID)
	f.cancel("q", bare.ID)
	require.NoError(f, wait(), "WaitRecord of a run that was cancelled before its group has ended")
	f.requireCancelled(then)
	f.requireNotCancelled("other", then.ID, "a run that was cancelled")
	f.requireNoMembers(then.Links.Awaits, "a group whose gathering run was cancelled")
	s := f.openSession(longHold)
	f.finish(s, succeeded(f.take(s, 3, "q")...)...)
	f.takesNothing(s, "q", "other")
}

func groupMemberCancelled(f *fixture) {
	f.needControls()
	then, members := f.newGroup("q", 3)
	f.queueGroup(then, members...)
	f.cancel("q", members[1].ID)
	s := f.openSession(longHold)
	held := f.take(s, 2, "q")
	f.cancel("q", members[2].ID)
	f.finish(s, succeeded(held[0])...)
	f.takesNothing(s, "q")
	f.finish(s, retried(held[1], 0))
	f.requireNext(s, "the run that gathers a group two of which were cancelled", then)
	recs := f.members(then.Links.Awaits)
	require.Equal(f, broker.StateSucceeded, recs[0].State, "state of the member that was not cancelled")
	for _, rec := range recs[1:] {
		require.Equal(f, &cancelled, rec.Failure, "failure of a member that was cancelled")
	}
}

func groupRequeued(f *fixture) {
	f.needControls()
	then, members := f.newGroup("q", 3)
	f.queueGroup(then, members...)
	s := f.openSession(longHold)
	held := f.take(s, 3, "q")
	dead := func(runs ...*broker.TaskRun) (outcomes []broker.Outcome) {
		for _, r := range runs {
			outcomes = append(outcomes, died(r))
		}
		return outcomes
	}
	again := func(m *broker.TaskRun) *broker.TaskRun {
		f.Helper()
		f.requeueDead(1, m.ID)
		return f.requireNext(s, "a member that was queued again", m)[0]
	}
	requireMembers := func(what string, states ...broker.State) {
		f.Helper()
		recs := f.members(then.Links.Awaits)
		var got []broker.State
		for i, rec := range recs {
			require.Equal(f, members[i].ID, rec.ID, "id of member %d %s", i, what)
			got = append(got, rec.State)
		}
		require.Equal(f, states, got, "how the members ended %s", what)
	}
	const good, bad = broker.StateSucceeded, broker.StateFailed
	f.finish(s, dead(held[:2]...)...)
	first := again(held[0])
	f.finish(s, returned(first, "at last"))
	f.takesNothing(s, "q") // the third has not ended
	f.finish(s, succeeded(held[2])...)
	run := f.requireNext(s, "the run that gathers the group", then)[0]
	requireMembers("while it goes on", good, bad, good)
	f.finish(s, dead(run)...)
	f.finish(s, dead(again(held[1]))...)
	requireMembers("after one died twice", good, bad, good)
	f.finish(s, succeeded(again(held[1]))...)
	f.takesNothing(s, "q") // nothing is gathered twice
	requireMembers("after one succeeded at the third time", good, good, good)
	f.requeueDead(1, then.ID)
	run = f.requireNext(s, "the run that gathers the group, again", then)[0]
	recs := f.members(then.Links.Awaits)
	require.Equal(f, []byte("at last"), recs[0].Result, "result of the first member")
	f.finish(s, succeeded(run)...)
	f.requireNoMembers(then.Links.Awaits, "a group that was gathered at last")
}

func groupGatheredAgain(f *fixture) {
	f.needControls()
	s := f.openSession(longHold)
	for _, elsewhere := range []bool{false, true} {
		then, members := f.newGroup("q", 2)
		then.OwnID = true
		if elsewhere {
			then.Links.Awaits.Queue = "other"
			for _, m := range members {
				m.Queue = "other"
			}
		}
		f.queueGroup(then, members...)
		held := f.take(s, 2, then.Links.Awaits.Queue)
		f.finish(s, returned(held[0], "first"),
			died(held[1]))
		requireMembers := func(what string) {
			f.Helper()
			recs := f.members(then.Links.Awaits)
			require.Len(f, recs, 2, "members %s", what)
			require.Equal(f, []byte("first"), recs[0].Result, "result of the first member %s", what)
			require.Equal(f, failure("bad"), recs[1].Failure, "failure of the second member %s", what)
		}
		die := func() {
			f.Helper()
			run := f.requireNext(s, "the run that gathers the group", then)[0]
			requireMembers("while the run that gathers them goes on")
			f.finish(s, died(run))
			requireMembers("after it died")
		}
		die()
		f.requeueDead(1, then.ID)
		requireMembers("after it was queued again")
		die()
		f.requeueDead(1, then.ID)
		f.finish(s, succeeded(f.requireNext(s, "the run that died twice", then)...)...)
		f.requireNoMembers(then.Links.Awaits, "a group that was gathered at last")

		then, members = f.newGroup("q", 1)
		f.queueGroup(then, members...)
		f.finish(s, succeeded(f.take(s, 1, "q")...)...)
		f.finish(s, died(f.takeOne(s, "q")))
		f.deleteDead(1, then.ID)
		f.requireNoMembers(then.Links.Awaits, "a group whose dead letter was deleted")
	}
}

func groupTooLarge(f *fixture) {
	s := f.openSession(longHold)
	const n = 8
	for _, more := range []int{-4096, 1} {
		then, members := f.newGroup("other", n)
		f.queueGroup(then, members...)
		for _, run := range f.take(s, n, "q") {
			f.finish(s, broker.Outcome{Run: run, Verdict: broker.Succeeded, Result: make([]byte, broker.MaxGroupResults/n+more)})
		}
		recs, err := f.groups().Members(f.ctx(), then.Links.Awaits)
		if more < 0 {
			require.NoError(f, err, "Members of %d that are as large as can be", n)
			require.Len(f, recs, n, "members")
			continue
		}
		require.ErrorIs(f, err, broker.ErrGroupTooLarge, "Members of %d that are larger than MaxGroupResults together", n)
		require.ErrorContains(f, err, then.Links.Awaits.ID, "Members of a group that is too large")
		require.ErrorContains(f, err, fmt.Sprint(broker.MaxGroupResults), "Members of a group that is too large")
	}
}

func membersTooLarge(f *fixture) {
	then, members := f.newGroup("q", 2, func(r *broker.TaskRun) { r.Payload = make([]byte, broker.MaxBatch/2+1) })
	err := f.groups().QueueGroup(f.ctx(), then, members...)
	require.ErrorIs(f, err, broker.ErrBatchTooLarge, "members that carry more than MaxBatch")
	require.Zero(f, f.length("q"), "members of a group that was refused")
	f.requireNoMembers(then.Links.Awaits, "a group that was refused")
}

func groupRace(f *fixture) {
	const groups, size = 20, 15
	var all, members []*broker.TaskRun
	for i := range groups {
		queue := "q"
		if i%2 == 0 {
			queue = "other"
		}
		then, of := f.newGroup(queue, size)
		f.queueGroup(then, of...)
		all, members = append(all, then), append(members, of...)
	}
	s := f.openSession(longHold)
	held := f.take(s, len(members), "q")
	stop := f.within(endurance)
	f.each(4, func(int) error {
		mine := slices.Clone(held)
		rand.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
		for part := range slices.Chunk(mine, 7) {
			if _, err := s.Finish(stop, succeeded(part...)...); err != nil {
				return err
			}
		}
		return nil
	})
	var seen tally
	seen.add(f.take(s, groups, "q", "other")...)
	f.requireOnce(&seen, all, "runs that gather groups whose members four goroutines finished")
	f.takesNothing(s, "q", "other")
}

func groupBig(f *fixture) {
	then, members := f.newGroup("q", broker.MaxGroup)
	f.queueGroup(then, members...)
	var seen tally
	stop := f.within(endurance)
	f.each(4, func(i int) error {
		s, err := f.leaser().OpenSession(stop, longHold)
		if err != nil {
			return err
		}
		for seen.len() < len(members) && stop.Err() == nil {
			runs, err := s.Take(f.within(quiet), anyOf(500, "q")) // which may find none in time, and then does later
			if err = ignoreTimeout(err); err != nil {
				return errors.Join(err, s.Close(f.ctx()))
			}
			var outcomes []broker.Outcome
			for _, r := range runs {
				if r.ID == then.ID {
					return s.Close(f.ctx())
				}
				outcomes = append(outcomes, broker.Outcome{Run: r, Verdict: broker.Succeeded, Result: fmt.Append(nil, r.Links.OrZero().Member)})
			}
			seen.add(runs...)
			if done, err := s.Finish(stop, outcomes...); err != nil || len(done.Fenced) > 0 {
				return errors.Join(err, errFenced(done.Fenced))
			}
		}
		return nil
	})
	f.requireOnce(&seen, members, "members of a group of ten thousand")
	s := f.openSession(longHold)
	f.requireNext(s, "the run that gathers ten thousand", then)
	recs := f.members(then.Links.Awaits)
	require.Len(f, recs, len(members), "members")
	for i, rec := range recs {
		require.NotNil(f, rec, "record of member %d", i)
		require.Equal(f, fmt.Sprint(i), string(rec.Result), "result of member %d", i)
	}
}
