package brokertest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var groupPlaceChecks = []check{
	{"a follow-up takes the place of a member that succeeds", groupPlacePassed},
	{"a follow-up that is skipped ends the member whose place it was to take", groupPlaceSkipped},
	{"a dead run in a member's place that is queued again counts once its follow-up succeeds", groupPlaceRequeued},
}

// inPlaceOf makes a run that takes the place of a member.
func (f *fixture) inPlaceOf(m *broker.TaskRun, edits ...func(*broker.TaskRun)) *broker.TaskRun {
	r := f.newRun(m.Queue, edits...)
	links := r.EnsureLinks()
	links.Group, links.Member = m.Links.Group, m.Links.Member
	return r
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
