package brokertest

import (
	"errors"
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var nextChecks = []check{
	{"what a success queues can be taken, of other queues too", nextQueued},
	{"what a success queues wakes a blocked Take", nextWakes},
	{"a success that does not count queues nothing", nextFenced},
	{"only a success queues what comes next", nextOfOthers},
	{"a duplicate among what a success queues is skipped", nextDuplicate},
	{"what was skipped is reported once, and its record says for which run", nextSkipped},
	{"a success may queue a run with its own id and unique key", nextOfItself},
	{"a success whose next run cannot be stored is refused, and no outcome of the call applied", nextUnsafe},
	{"of a run that many finish at once what comes next is queued once", nextRace},
}

// then is a success that queues runs.
func then(r *broker.TaskRun, next ...*broker.TaskRun) broker.Outcome {
	return broker.Outcome{Run: r, Verdict: broker.Succeeded, Next: next}
}

func nextQueued(f *fixture) {
	s, held := f.hold(2)
	full := fullRuns(f, "other")[:3]
	var before []broker.TaskRun
	for _, r := range full {
		c := *r
		c.Payload, c.Headers = append([]byte(nil), r.Payload...), cloneMap(r.Headers)
		c.Rules, c.Links, c.History = cloneRules(r.Rules), cloneLinks(r.Links), r.History.Clone()
		before = append(before, c)
	}
	here := f.newRuns("q", 3)
	f.finish(s, then(held[0], here[0], full[0], full[1]), then(held[1], here[1], full[2], here[2]))
	for _, r := range full {
		scribble(r) // the broker has its own
	}
	f.requireNext(s, "runs that successes queued in their own queue", here...)
	got := make(map[string]*broker.TaskRun)
	for _, r := range f.take(s, 3, "other") {
		require.Equal(f, 1, r.Deliveries, "deliveries of a run that a success queued")
		got[r.ID] = r
	}
	for _, want := range before {
		require.Contains(f, got, want.ID, "runs that successes queued in another queue")
		f.requireSame(&want, got[want.ID], "a run that a success queued")
	}
	last := f.newRun("q", delay(time.Hour), keep(time.Hour))
	f.finish(s, then(got[before[0].ID], last))
	f.eventually(func() bool { return f.length("q") == 1 }, "a success has queued a delayed run")
	f.takesNothing(s, "q")
}

func nextWakes(f *fixture) {
	s := f.openSession(longHold)
	for _, queue := range []string{"q", "other"} {
		f.queueNew("q", 1)
		held := f.takeOne(s, "q")
		next := f.newRun(queue)
		f.requireWakes(next, 0, func() { f.finish(s, then(held, next)) })
	}
}

func nextFenced(f *fixture) {
	f.queueNew("q", 2)
	stale := f.openSession(shortHold)
	held := f.take(stale, 2, "q")
	f.finish(stale, succeeded(held[0])...)
	f.lapse(1, "q")
	f.finishFenced(stale, then(held[0], f.newRun("q")), then(held[1], f.newRun("q"), f.newRun("other")))
	s := f.openSession(longHold)
	again := f.requireNext(s, "the run that was recovered, and nothing of a stale success", held[1])
	f.takesNothing(s, "other")
	next := f.newRun("q")
	f.finish(s, then(again[0], next))
	f.finishFenced(s, then(again[0], f.newRun("q")))
	f.requireNext(s, "what the success that counts queued", next)
}

func nextOfOthers(f *fixture) {
	s := f.openSession(longHold)
	for _, v := range []broker.Verdict{broker.Dead, broker.Dropped, broker.Retry} {
		f.queueNew("q", 1)
		o := then(f.takeOne(s, "q"), f.newRun("q"), f.newRun("other"))
		o.Verdict, o.Failure, o.Delay = v, failure("over"), time.Hour
		f.finish(s, o)
	}
	f.takesNothing(s, "q", "other")
}

func nextDuplicate(f *fixture) {
	f.needs(broker.PolicyUnique, "unique keys")
	s, held := f.holdOne()
	f.queueNew("q", 1, ownID("own"), delay(time.Hour))
	f.queueNew("q", 1, unique("key"), delay(time.Hour))
	f.queueNew("other", 1, unique("key"), delay(time.Hour))
	first, second, last := f.newRun("q", unique("new")), f.newRun("other", unique("new")), f.newRun("q")
	f.finish(s, then(held, f.newRun("q", ownID("own")), first, f.newRun("q", unique("key")),
		f.newRun("q", unique("new")), second, f.newRun("other", unique("key")), last))
	f.requireNext(s, "what a success queued besides duplicates", first, last)
	require.Equal(f, ids([]*broker.TaskRun{second}), ids(f.take(s, 1, "other")), "what a success queued in another queue besides duplicates")
	f.takesNothing(s, "other")
}

func nextSkipped(f *fixture) {
	f.needs(broker.PolicyUnique, "unique keys")
	s, held := f.holdOne()
	own := f.queueOne("q", ownID("own"), delay(time.Hour))
	kept := f.queueOne("q", ownID("kept"), delay(time.Hour), keep(time.Hour))
	here := f.queueOne("q", unique("key"), delay(time.Hour))
	there := f.queueOne("other", unique("key"), delay(time.Hour))
	follow := func(queue string, edits ...func(*broker.TaskRun)) *broker.TaskRun {
		return f.newRun(queue, append(edits, func(r *broker.TaskRun) { r.ParentID = held.ID })...)
	}
	next := []*broker.TaskRun{
		follow("q", ownID("own"), keep(time.Hour)), follow("q", ownID("kept"), keep(time.Hour)),
		follow("q", unique("key"), keep(time.Hour)), follow("other", unique("key"), keep(time.Hour)),
		follow("other", unique("key")), follow("q", keep(time.Hour)),
	}
	got := make(map[string]string)
	note := func(skipped []broker.SkippedDuplicate) {
		for _, d := range skipped {
			require.NotContains(f, got, d.Run.ID, "runs skipped before")
			got[d.Run.ID] = d.LiveID
			require.Equal(f, held.ID, d.Run.ParentID, "parent of run %s, which was skipped", d.Run.ID)
		}
	}
	done, err := s.Finish(f.ctx(), then(held, next...))
	require.NoError(f, err, "Finish")
	require.Empty(f, ids(done.Fenced), "fenced runs that the session holds")
	note(done.Skipped)
	f.eventually(func() bool { // those queued later are reported by a Recover
		note(f.recover("q", "other").Skipped)
		return len(got) >= 5
	}, "five skipped runs are reported")
	require.Equal(f, map[string]string{
		"own": own.ID, "kept": kept.ID, next[2].ID: here.ID, next[3].ID: there.ID, next[4].ID: there.ID,
	}, got, "runs skipped, and in whose favour")
	require.Empty(f, f.recover("q", "other").Skipped, "runs skipped since they were reported")

	f.requireNext(s, "what was not skipped", next[5])
	if !is[broker.Records](f.b) {
		return
	}
	f.requireRecord(kept, broker.Record{State: broker.StateDelayed})
	for _, skipped := range []struct{ run, by *broker.TaskRun }{{next[0], own}, {next[2], here}, {next[3], there}} {
		want := broker.Record{State: broker.StateFailed, Failure: &broker.Failure{Kind: broker.FailureDuplicate, Message: skipped.by.ID}}
		f.requireRecord(skipped.run, want)
		rec, err := f.records().WaitRecord(f.ctx(), skipped.run.Queue, skipped.run.ID)
		require.NoError(f, err, "WaitRecord of a run that was skipped")
		require.Equal(f, broker.StateFailed, rec.State, "its state")
	}
	f.requireNoRecord("other", next[4].ID, "a run without Keep that was skipped")
	f.requireRecord(next[5], broker.Record{State: broker.StateRunning})
}

func nextUnsafe(f *fixture) {
	s, held := f.hold(2, keep(time.Hour))
	good := f.newRun("q")
	for name, next := range map[string]*broker.TaskRun{
		"nil":            nil,
		"header, no key": f.newRun("other", func(r *broker.TaskRun) { r.Headers = map[string]string{"": "no key"} }),
		"too large":      f.newRun("other", func(r *broker.TaskRun) { r.Payload = make([]byte, broker.MaxBatch+1) }),
	} {
		done, err := s.Finish(f.ctx(), then(held[0], good), then(held[1], f.newRun("q"), next))
		require.Error(f, err, "Finish with a next run that cannot be stored: %s", name)
		require.Equal(f, name == "too large", errors.Is(err, broker.ErrBatchTooLarge), "%s: %v", name, err)
		require.Empty(f, ids(done.Fenced), name)
	}
	f.takesNothing(s, "q")
	f.takesNothing(s, "other")
	f.finish(s, then(held[0], good), succeeded(held[1])[0])
	f.requireNext(s, "what the outcome that was not to blame queues", good)
}

func nextOfItself(f *fixture) {
	f.needs(broker.PolicyUnique, "unique keys")
	s := f.openSession(longHold)
	f.queueNew("q", 1, ownID("own"), unique("key"), keep(time.Hour))
	for range 3 {
		held := f.takeOne(s, "q")
		require.Equal(f, "own", held.ID, "run that queued itself")
		f.finish(s, then(held, f.newRun("q", ownID("own"), unique("key"), keep(time.Hour))))
	}
	f.queueDuplicate("queued by itself", f.newRun("q", ownID("own")))
}

func nextRace(f *fixture) {
	const total = 100
	f.queueNew("q", total)
	s := f.openSession(longHold)
	var outcomes []broker.Outcome
	var all []*broker.TaskRun
	for i, r := range f.take(s, total, "q") {
		queue := "next"
		if i%2 == 0 {
			queue = "q"
		}
		next := f.newRun(queue, func(n *broker.TaskRun) { n.ID = fmt.Sprint("after-", r.ID) })
		all = append(all, next)
		outcomes = append(outcomes, then(r, next))
	}
	stop := f.within(endurance)
	f.each(4, func(int) error {
		for _, o := range outcomes {
			if _, err := s.Finish(stop, o); err != nil {
				return err
			}
		}
		return nil
	})
	var seen tally
	seen.add(f.take(s, total, "q", "next")...)
	f.requireOnce(&seen, all, "runs that successes queued, each finished by four goroutines")
	f.takesNothing(s, "q", "next")
}
