package brokertest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var deadLetterChecks = []check{
	{"a dead run leaves a letter with its run and failure", deadLetter},
	{"dead letters come newest first, up to max, by queue", deadLetterOrder},
	{"only dead runs leave a letter", onlyDead},
}

var requeueChecks = []check{
	{"a dead letter that is queued again is a new run", requeueIsANewRun},
	{"a dead letter that is deleted is gone", deadDeleted},
	{"dead letters that are not named stay", requeueOthers},
	{"a dead letter whose id or unique key is taken stays", requeueTaken},
	{"a dead letter that is queued again wakes a blocked Take", requeueWakes},
}

func (f *fixture) deadLetters(queue string, most int) []*broker.DeadLetter {
	f.Helper()
	letters, err := f.records().DeadLetters(f.ctx(), queue, most)
	require.NoError(f, err, "DeadLetters of %s", queue)
	return letters
}

func deadLetter(f *fixture) {
	given := fullRuns(f, "q")[0]
	f.queue(given)
	s := f.openSession(longHold)
	run := f.takeOne(s, "q")
	run.Attempt = 9
	f.finish(s, died(run))
	letters := f.deadLetters("q", aLot)
	require.Len(f, letters, 1, "dead letters")
	require.NotNil(f, letters[0].Run, "run of the dead letter")
	given.Attempt = 9
	f.requireSame(given, letters[0].Run, "the run of a dead letter")
	require.Equal(f, *failure("bad"), letters[0].Failure, "failure of the dead letter")
	require.WithinDuration(f, time.Now(), letters[0].At, time.Minute, "instant of the dead letter")
	f.requireRecord(given, broker.Record{State: broker.StateFailed, Attempt: 9, Failure: failure("bad")})

	scribble(letters[0].Run) // it is the caller's alone
	f.requireSame(given, f.deadLetters("q", aLot)[0].Run, "the run of a dead letter whose first reader changed its copy")
}

func deadLetterOrder(f *fixture) {
	s := f.openSession(longHold)
	for i := range 5 {
		f.queueNew("q", 1)
		f.finish(s, broker.Outcome{Run: f.takeOne(s, "q"), Verdict: broker.Dead, Failure: failure(fmt.Sprint(i))})
	}
	messages := func(letters []*broker.DeadLetter) (list []string) {
		for _, l := range letters {
			list = append(list, l.Failure.Message)
		}
		return list
	}
	require.Equal(f, []string{"4", "3", "2", "1", "0"}, messages(f.deadLetters("q", aLot)), "dead letters")
	require.Equal(f, []string{"4", "3"}, messages(f.deadLetters("q", 2)), "at most 2 dead letters")
	require.Empty(f, f.deadLetters("other", aLot), "dead letters of another queue")
}

func onlyDead(f *fixture) {
	s, runs := f.hold(3, keep(time.Hour))
	f.finish(s,
		broker.Outcome{Run: runs[0], Verdict: broker.Succeeded},
		dropped(runs[1]),
		retried(runs[2], time.Hour))
	require.Empty(f, f.deadLetters("q", aLot), "dead letters of runs that are not dead")
	f.requireRecord(runs[1], broker.Record{State: broker.StateFailed, Failure: failure("expired")})
}

// die queues runs and ends them dead.
func (f *fixture) die(runs ...*broker.TaskRun) {
	f.Helper()
	f.queue(runs...)
	s := f.openSession(longHold)
	for _, r := range f.take(s, len(runs), runs[0].Queue) {
		r.Attempt += 3
		f.finish(s, died(r))
	}
}

// requeueDead queues dead letters again, of which want are there.
func (f *fixture) requeueDead(want int, ids ...string) {
	f.Helper()
	n, err := f.controls().RequeueDead(f.ctx(), "q", ids...)
	require.NoError(f, err, "RequeueDead of %v", ids)
	require.Equal(f, want, n, "dead letters that RequeueDead of %v queued", ids)
}

// deleteDead deletes dead letters, of which want are there.
func (f *fixture) deleteDead(want int, ids ...string) {
	f.Helper()
	n, err := f.controls().DeleteDead(f.ctx(), "q", ids...)
	require.NoError(f, err, "DeleteDead of %v", ids)
	require.Equal(f, want, n, "dead letters that DeleteDead of %v deleted", ids)
}

// requeueBlocked queues dead letters again of which some stay, for the live runs in
// their way: a map of the ids of both.
func (f *fixture) requeueBlocked(want int, by map[string]string, ids ...string) {
	f.Helper()
	n, err := f.controls().RequeueDead(f.ctx(), "q", ids...)
	var stayed *broker.DuplicateError
	require.ErrorAs(f, err, &stayed, "RequeueDead of %v, in whose way are %v", ids, by)
	got := map[string]string{}
	for _, d := range stayed.Runs {
		require.Less(f, d.Index, len(ids), "index of one that stayed")
		got[ids[d.Index]] = d.ID
	}
	require.Equal(f, by, got, "what is in the way of those that stayed")
	require.Equal(f, want, n, "dead letters that RequeueDead of %v queued", ids)
}

func letterIDs(letters []*broker.DeadLetter) []string {
	var list []string
	for _, l := range letters {
		list = append(list, l.ID)
	}
	return list
}

func requeueIsANewRun(f *fixture) {
	given := fullRuns(f, "q")[:2] // one with Due and one with Delay
	f.die(given...)
	letters := f.deadLetters("q", aLot)
	require.ElementsMatch(f, ids(given), letterIDs(letters), "ids of dead letters")
	f.requeueDead(2, ids(given)...)
	require.Empty(f, f.deadLetters("q", aLot), "dead letters after all were queued again")
	s := f.openSession(longHold)
	again := make(map[string]*broker.TaskRun)
	for _, r := range given {
		f.requireRecord(r, broker.Record{State: broker.StateQueued})
	}
	for _, r := range f.take(s, 2, "q") {
		require.Equal(f, 1, r.Deliveries, "deliveries of a run that was queued again")
		again[r.ID] = r
	}
	for _, r := range given {
		want := *r
		want.Attempt, want.Due, want.Delay = 0, time.Time{}, 0
		require.Contains(f, again, r.ID, "runs that were queued again")
		want.QueuedAt = again[r.ID].QueuedAt
		require.True(f, want.QueuedAt.After(r.QueuedAt), "queued at %v, the first time at %v: it would be expired", want.QueuedAt, r.QueuedAt)
		f.requireSame(&want, again[r.ID], "a run that was queued again")
	}
	f.finish(s, succeeded(again[given[0].ID])...)
	f.requireRecord(given[0], broker.Record{State: broker.StateSucceeded})
	f.finish(s, broker.Outcome{Run: again[given[1].ID], Verdict: broker.Dead, Failure: failure("again")})
	require.Equal(f, ids(given[1:]), letterIDs(f.deadLetters("q", aLot)), "dead letters after one died again")
}

func deadDeleted(f *fixture) {
	runs := f.newRuns("q", 3)
	f.die(runs...)
	f.deleteDead(2, runs[0].ID, runs[2].ID)
	f.deleteDead(0, runs[0].ID)
	f.requeueDead(0, runs[0].ID)
	require.Equal(f, ids(runs[1:2]), letterIDs(f.deadLetters("q", aLot)), "dead letters left of three")
	require.Zero(f, f.length("q"), "length after dead letters were deleted")
	require.EqualValues(f, 1, f.queueInfo("q").Dead, "count of dead letters")
}

func requeueOthers(f *fixture) {
	runs := f.newRuns("q", 5)
	f.die(runs...)
	f.requeueDead(0)
	f.deleteDead(0)
	f.requeueDead(0, "unknown")
	n, err := f.controls().DeleteDead(f.ctx(), "other", runs[0].ID)
	require.NoError(f, err, "DeleteDead of another queue")
	require.Zero(f, n, "dead letters of another queue")
	f.requeueDead(2, "unknown", runs[3].ID, runs[1].ID, "unknown too")
	require.Equal(f, ids([]*broker.TaskRun{runs[4], runs[2], runs[0]}), letterIDs(f.deadLetters("q", aLot)), "dead letters left of five")
	require.ElementsMatch(f, []string{runs[1].ID, runs[3].ID}, ids(f.get(2, "q")), "runs queued again")
}

func requeueTaken(f *fixture) {
	own := f.newRun("q", ownID("own"))
	f.die(own)
	f.queue(f.newRun("q", ownID("own")))
	f.requeueBlocked(0, map[string]string{"own": "own"}, "unknown", "own")
	f.get(1, "q")
	f.requeueDead(1, "own")
	f.queueDuplicate("queued again", f.newRun("q", ownID("own")))
	f.get(1, "q")
	if !f.keeps(broker.PolicyUnique) {
		return
	}
	first := f.newRun("q", unique("key"))
	f.die(first)
	second := f.newRun("q", unique("key"))
	f.die(second)
	n, err := f.controls().RequeueDead(f.ctx(), "q", first.ID, second.ID)
	require.ErrorIs(f, err, broker.ErrDuplicate, "RequeueDead of two with one unique key")
	require.Equal(f, 1, n, "dead letters queued again of two with one unique key")
	live := f.list(broker.StateQueued, aLot)
	require.Len(f, live, 1, "runs queued again of two with one unique key")
	stays := f.deadLetters("q", aLot)[0].ID
	f.requeueBlocked(0, map[string]string{stays: live[0].Run.ID}, first.ID, second.ID)
	f.queueConflict("queued again", held(live[0].Run), f.newRun("q", unique("key")))
	require.Len(f, f.deadLetters("q", aLot), 1, "dead letters left of two with one unique key")
}

func requeueWakes(f *fixture) {
	run := f.newRun("q")
	f.die(run)
	f.requireWakes(run, 0, func() { f.requeueDead(1, run.ID) })
}
