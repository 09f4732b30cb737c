package brokertest

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var cancelChecks = []check{
	{"a waiting run that is cancelled is gone and its record says so", cancelWaiting},
	{"a run that is held back can be cancelled", cancelHeldBack},
	{"a run that is due after the longest time is listed, has a record and can be cancelled", farthest},
	{"a run that is cancelled frees its id, its unique key and who waits for it", cancelFrees},
	{"the session that holds a cancelled run is told until it has finished it", cancelTold},
	{"a cancelled run that ends before it hears of it has ended so", cancelTooLate},
	{"a cancelled run that its session gives back in any way is dropped", cancelDropped},
	{"no live run of the id is ErrNoRecord", cancelUnknown},
	{"a run that is cancelled, finished, retried and recovered at once ends once", cancelRace},
}

var cancelled = broker.Failure{Kind: broker.FailureCancelled, Message: "by the test"}

func (f *fixture) cancel(queue, id string) {
	f.Helper()
	require.NoError(f, f.controls().Cancel(f.ctx(), queue, id, cancelled), "Cancel of run %s", id)
}

func (f *fixture) requireNotCancelled(queue, id, what string) {
	f.Helper()
	require.ErrorIs(f, f.controls().Cancel(f.ctx(), queue, id, cancelled), broker.ErrNoRecord, "Cancel of %s", what)
}

func (f *fixture) requireCancelled(r *broker.TaskRun) {
	f.Helper()
	f.requireRecord(r, broker.Record{State: broker.StateCancelled, Attempt: r.Attempt, Failure: &cancelled})
}

func (f *fixture) heartbeat(s broker.Session, report broker.Report) []*broker.TaskRun {
	f.Helper()
	require.Implements(f, (*broker.Heartbeater)(nil), s, "session of a broker with Controls")
	runs, err := s.(broker.Heartbeater).Heartbeat(f.ctx(), report)
	require.NoError(f, err, "Heartbeat")
	return runs
}

func cancelWaiting(f *fixture) {
	runs := f.queueNew("q", 3, keep(time.Hour))
	later := f.queueNew("q", 2, keep(time.Hour), delay(time.Hour))
	plain := f.queueNew("q", 3)
	plainLater := f.queueNew("q", 2, delay(time.Hour))
	for _, r := range []*broker.TaskRun{runs[1], later[0], plain[0], plain[2], plainLater[1]} {
		f.cancel("q", r.ID)
		f.requireNotCancelled("q", r.ID, "a run that was cancelled")
	}
	f.requireCancelled(runs[1])
	f.requireCancelled(later[0])
	require.Empty(f, f.deadLetters("q", aLot), "dead letters of cancelled runs")
	require.Equal(f, 5, f.length("q"), "length after 5 of 10 were cancelled")
	info := f.queueInfo("q")
	require.EqualValues(f, []int64{3, 2}, []int64{info.Queued, info.Delayed}, "runs queued and delayed after that")
	s := f.openSession(longHold)
	f.requireNext(s, "runs that were not cancelled", runs[0], runs[2], plain[1])
	f.requireRecord(later[1], broker.Record{State: broker.StateDelayed})
}

func cancelHeldBack(f *fixture) {
	s := f.openSession(longHold)
	f.disable("q", "off", true)
	off := f.queueNew("q", 2, task("off"), keep(time.Hour))
	f.takesNothing(s, "q")
	f.cancel("q", off[0].ID)
	f.requireCancelled(off[0])
	f.pause("q", true)
	paused := f.queueOne("q", keep(time.Hour))
	f.cancel("q", paused.ID)
	f.requireCancelled(paused)
	f.pause("q", false)
	f.disable("q", "off", false)
	f.requireNext(s, "runs that were not cancelled", off[1])
	if !f.keeps(broker.PolicyLimits) {
		return
	}
	runs := f.queueNew("q", 4, limit("key", 1, 0), keep(time.Hour))
	held := f.requireNext(s, "the first of its key", runs[0])
	f.cancel("q", runs[1].ID)
	f.cancel("q", runs[3].ID)
	f.requireCancelled(runs[1])
	require.Equal(f, 1, f.length("q"), "length with one run held back")
	f.finish(s, succeeded(held...)...)
	f.requireNext(s, "the next of its key", runs[2])
}

// farthest has times that a broker may be unable to store.
func farthest(f *fixture) {
	runs := []*broker.TaskRun{
		f.newRun("q", keep(time.Hour), delay(math.MaxInt64)),
		f.newRun("q", keep(time.Hour), due(time.Date(2200, 12, 31, 23, 59, 59, 0, time.UTC))),
	}
	f.queue(runs...)
	retried := f.queueOne("q", keep(time.Hour))
	s := f.openSession(longHold)
	bad := failure("again")
	f.finish(s, broker.Outcome{Run: f.takeOne(s, "q"), Verdict: broker.Retry, Delay: math.MaxInt64, Failure: bad})
	f.takesNothing(s, "q")
	for _, r := range runs {
		f.requireRecord(r, broker.Record{State: broker.StateDelayed})
	}
	f.requireRecord(retried, broker.Record{State: broker.StateDelayed, Failure: bad})
	listed := f.list(broker.StateDelayed, aLot)
	require.Len(f, listed, 3, "runs that are delayed")
	for _, info := range listed {
		require.Greater(f, info.Due, time.Now().Add(100*365*24*time.Hour), "instant at which run %s is due", info.Run.ID)
	}
	for _, r := range append(runs, retried) {
		f.cancel("q", r.ID)
		f.requireCancelled(r)
	}
}

func cancelFrees(f *fixture) {
	for _, d := range []time.Duration{0, time.Hour} {
		run := f.queueOne("q", ownID("own"), unique("key"), keep(time.Hour), delay(d))
		recs, wait := f.waiters(3, run)
		f.pass(quiet / 3)
		start := time.Now()
		f.cancel("q", run.ID)
		require.NoError(f, wait(), "WaitRecord of a run that was cancelled")
		require.Less(f, time.Since(start), prompt, "time from the Cancel until every waiter returned")
		for _, rec := range recs {
			require.Equal(f, broker.StateCancelled, rec.State, "state WaitRecord returned")
			require.Equal(f, &cancelled, rec.Failure, "failure WaitRecord returned")
		}
	}
	f.queueNew("q", 1, ownID("own"), unique("key"))
}

func cancelTold(f *fixture) {
	runs := f.queueNew("q", 3, keep(time.Hour))
	s, other := f.openSession(longHold), f.openSession(longHold)
	held := f.take(s, 3, "q")
	require.Empty(f, f.heartbeat(s, broker.Report{}), "cancelled runs before any was")
	f.cancel("q", runs[0].ID)
	f.cancel("q", runs[2].ID)
	f.cancel("q", runs[2].ID)
	require.Empty(f, f.heartbeat(other, broker.Report{}), "cancelled runs of another session")
	for range 2 {
		require.ElementsMatch(f, []string{runs[0].ID, runs[2].ID}, ids(f.heartbeat(s, broker.Report{})), "cancelled runs")
	}
	f.requireRecord(runs[0], broker.Record{State: broker.StateRunning})
	f.finish(s, broker.Outcome{Run: held[0], Verdict: broker.Dropped, Failure: &cancelled})
	require.Equal(f, []string{runs[2].ID}, ids(f.heartbeat(s, broker.Report{})), "cancelled runs after one of them was finished")
	f.requireCancelled(runs[0])
	f.finish(s, broker.Outcome{Run: held[2], Verdict: broker.Dropped, Failure: &cancelled}, succeeded(held[1])[0])
	require.Empty(f, f.heartbeat(s, broker.Report{}), "cancelled runs after all were finished")
	f.requireNotCancelled("q", runs[1].ID, "a run that has ended")
}

func cancelTooLate(f *fixture) {
	runs := f.queueNew("q", 2, keep(time.Hour))
	s := f.openSession(longHold)
	held := f.take(s, 2, "q")
	f.cancel("q", runs[0].ID)
	f.cancel("q", runs[1].ID)
	f.finish(s,
		returned(held[0], "r"),
		died(held[1]))
	f.requireRecord(runs[0], broker.Record{State: broker.StateSucceeded, Result: []byte("r")})
	f.requireRecord(runs[1], broker.Record{State: broker.StateFailed, Failure: failure("bad")})
	require.Len(f, f.deadLetters("q", aLot), 1, "dead letters")
}

func cancelDropped(f *fixture) {
	for name, giveBack := range map[string]func(s broker.Session, r *broker.TaskRun){
		"retried": func(s broker.Session, r *broker.TaskRun) {
			f.finish(s, retried(r, 0))
		},
		"retried later": func(s broker.Session, r *broker.TaskRun) {
			f.finish(s, retried(r, time.Hour))
		},
		"given back": func(s broker.Session, _ *broker.TaskRun) { f.close(s) },
		"recovered": func(s broker.Session, r *broker.TaskRun) {
			f.eventually(func() bool {
				f.recover("q")
				rec, err := f.records().Record(f.ctx(), "q", r.ID)
				require.NoError(f, err, "Record")
				return rec.State.Ended()
			}, "a cancelled run whose lease ended has ended")
		},
	} {
		hold := longHold
		if name == "recovered" {
			hold = shortHold
		}
		run := f.queueOne("q", keep(time.Hour), unique("key"))
		s := f.openSession(hold)
		held := f.takeOne(s, "q")
		f.cancel("q", run.ID)
		giveBack(s, held)
		f.requireCancelled(run)
		require.Zero(f, f.length("q"), "length after a cancelled run was %s", name)
		f.finishFenced(s, succeeded(held)...)
		f.requireNotCancelled("q", run.ID, "a cancelled run that was "+name)
	}
	f.takesNothing(f.openSession(longHold), "q")
}

func cancelUnknown(f *fixture) {
	f.requireNotCancelled("q", "unknown", "an unknown run of a queue never used")
	f.queueNew("q", 1, keep(time.Hour))
	f.requireNotCancelled("q", "unknown", "an unknown run")
	s := f.openSession(longHold)
	run := f.takeOne(s, "q")
	f.requireNotCancelled("other", run.ID, "a run of another queue")
	f.finish(s, succeeded(run)...)
	f.requireNotCancelled("q", run.ID, "a run that has ended")
}

// cancelRace cancels runs at any moment of their lives.
func cancelRace(f *fixture) {
	const total, sessions, lease = 1000, 5, 60 * time.Millisecond
	runs := f.newRuns("q", total, keep(time.Hour))
	var ended, refused tally
	stop := f.within(endurance)
	over := make(chan struct{})
	working := f.start(sessions, func(int) error {
		for {
			select {
			case <-over:
				return nil
			default:
			}
			if err := f.cancelledLife(&ended, lease); err != nil {
				return err
			}
			if _, err := f.leaser().Recover(stop, []string{"q"}); err != nil {
				return err
			}
		}
	})
	var cancelling sync.WaitGroup
	f.queue(runs...)
	shuffled := slices.Clone(runs)
	rand.Shuffle(total, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	for part := range slices.Chunk(shuffled, total/25) {
		cancelling.Go(func() {
			for _, r := range part {
				f.pass(rand.N(50 * time.Millisecond))
				err := f.controls().Cancel(stop, "q", r.ID, cancelled)
				switch {
				case errors.Is(err, broker.ErrNoRecord):
					refused.add(r)
				case err != nil:
					f.Errorf("Cancel of run %s: %v", r.ID, err)
				}
			}
		})
	}
	cancelling.Wait()
	byState := make(map[broker.State]int)
	for _, r := range runs {
		rec, err := f.records().WaitRecord(stop, "q", r.ID)
		require.NoError(f, err, "WaitRecord of run %s", r.ID)
		byState[rec.State]++
		applied := ended.count(r.ID) // by Finish, which can return a little after
		switch rec.State {
		case broker.StateSucceeded:
			require.LessOrEqual(f, applied, 1, "ends of run %s, which succeeded", r.ID)
		default:
			require.Zero(f, applied, "ends of run %s, which was cancelled", r.ID)
			require.Zero(f, refused.count(r.ID), "refused cancels of run %s, which was cancelled", r.ID)
			require.Equal(f, &cancelled, rec.Failure, "failure of run %s", r.ID)
		}
	}
	close(over)
	require.NoError(f, working(), "sessions")
	require.Equal(f, byState[broker.StateSucceeded], ended.len(), "runs that succeeded, by their records and by Finish")
	require.Zero(f, f.length("q"), "length after all have ended")
	require.Zero(f, f.queueInfo("q").Running, "runs held after all have ended")
	require.NotZero(f, byState[broker.StateCancelled], "runs that were cancelled")
	f.Logf("%d runs were cancelled, %d succeeded before", byState[broker.StateCancelled], byState[broker.StateSucceeded])
}

// cancelledLife is one session's life among runs that are cancelled.
func (f *fixture) cancelledLife(ended *tally, lease time.Duration) error {
	s, err := f.leaser().OpenSession(f.ctx(), lease)
	if err != nil {
		return err
	}
	for range 3 {
		runs, err := s.Take(f.within(lease/2), anyOf(8, "q"))
		if err != nil {
			return errors.Join(ignoreTimeout(err), s.Close(f.ctx()))
		}
		f.pass(rand.N(lease + lease/4)) // now and then too long
		for _, r := range runs {
			o := broker.Outcome{Run: r, Verdict: broker.Succeeded}
			switch rand.N(10) {
			case 0:
				continue // forgotten
			case 1, 2, 3:
				o.Verdict, o.Failure = broker.Retry, failure("again")
			case 4, 5, 6:
				o.Verdict, o.Failure, o.Delay = broker.Retry, failure("later"), rand.N(lease)
			}
			if err := ends(f.ctx(), s, ended, o); err != nil {
				return err
			}
		}
	}
	if rand.N(2) == 0 {
		return s.Close(f.ctx())
	}
	return nil
}
