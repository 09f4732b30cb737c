package brokertest

import (
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var fairChecks = []check{
	{"the values of Fair take turns, each in the order queued", fairTurns},
	{"a value that comes anew joins the end of the round", fairAnew},
	{"runs without a value are one value among them", fairPlain},
	{"each priority has turns of its own", fairPriorities},
	{"many values take turns in batches of any size", fairMany},
	{"runs that come back stay ahead of their value's others", fairBack},
	{"runs that a limit holds back take turns too", fairLimited},
}

// queueFair queues a run for each of the ids, one with the value its letters
// say: "a1" is run a1 of the value a, "-1" a run without one.
func (f *fixture) queueFair(list string, edits ...func(*broker.TaskRun)) {
	f.Helper()
	var runs []*broker.TaskRun
	for _, id := range strings.Fields(list) {
		runs = append(runs, f.newRun("q", append(edits, func(r *broker.TaskRun) {
			r.ID, r.EnsureRules().Fair = id, strings.TrimRight(id, "0123456789")
			if r.Rules.OrZero().Fair == "-" {
				r.EnsureRules().Fair = ""
			}
		})...))
	}
	f.queue(runs...)
}

// requireTaken checks in which order runs are taken.
func (f *fixture) requireTaken(s broker.Session, want, what string) []*broker.TaskRun {
	f.Helper()
	got := f.take(s, len(strings.Fields(want)), "q")
	require.Equal(f, want, strings.Join(ids(got), " "), what)
	return got
}

func fairTurns(f *fixture) {
	f.queueFair("a1 a2 a3 a4 b1 b2 b3 c1 c2")
	s := f.openSession(longHold)
	f.requireTaken(s, "a1 b1 c1 a2 b2", "runs of three values")
	f.requireTaken(s, "c2 a3 b3 a4", "runs of the values that have some left")
	f.queueFair("b4 b5 a5")
	for _, want := range []string{"b4", "a5", "b5"} {
		f.requireTaken(s, want, "runs taken one by one")
	}
	f.queueFair("a6 a7 b6 b7")
	got := f.get(4, "q")
	require.Equal(f, "a6 b6 a7 b7", strings.Join(ids(got), " "), "runs taken for good")
}

func fairAnew(f *fixture) {
	f.queueFair("a1 a2 b1 b2")
	s := f.openSession(longHold)
	f.requireTaken(s, "a1", "the first run")
	f.queueFair("c1 c2")
	f.requireTaken(s, "b1 a2 c1", "runs after a third value came")
	f.queueFair("a3 a4")
	f.requireTaken(s, "b2 c2 a3 a4", "runs after a value came again")
}

func fairPlain(f *fixture) {
	f.queueFair("-1 -2 -3 -4 a1 a2")
	f.requireTaken(f.openSession(longHold), "-1 a1 -2 a2 -3 -4", "runs of which some have no value")
}

func fairPriorities(f *fixture) {
	f.queueFair("a1 a2 b1 b2")
	f.queueFair("a3 a4 b3", priority(broker.High))
	f.queueFair("b4 b5 a5", priority(broker.Low))
	f.requireTaken(f.openSession(longHold), "a3 b3 a4 a1 b1 a2 b2 b4 a5 b5", "runs of three priorities")
}

func fairMany(f *fixture) {
	const values, each = 200, 6
	var list []string
	for v := range values {
		for i := range each {
			list = append(list, fmt.Sprintf("v%03d-%d", v, i))
		}
	}
	var runs []*broker.TaskRun
	for _, id := range list {
		runs = append(runs, f.newRun("q", func(r *broker.TaskRun) { r.ID, r.EnsureRules().Fair = id, id[:4] }))
	}
	f.queue(runs...)
	s := f.openSession(longHold)
	var got []string
	for n := 1; len(got) < len(runs); n = n*2 + 1 {
		taken, err := s.Take(f.ctx(), anyOf(n, "q"))
		require.NoError(f, err, "Take")
		got = append(got, ids(taken)...)
		f.finish(s, succeeded(taken...)...)
	}
	for i, id := range got {
		require.Equal(f, fmt.Sprintf("v%03d-%d", i%values, i/values), id, "run %d of %d", i, len(got))
	}
}

func fairBack(f *fixture) {
	f.queueFair("a1 a2 a3 b1 b2 b3")
	s := f.openSession(longHold)
	f.requireTaken(s, "a1 b1 a2 b2", "runs of two values")
	f.close(s)
	s = f.openSession(longHold)
	got := f.take(s, 6, "q")
	for _, v := range []string{"a", "b"} {
		var of []string
		for _, r := range got {
			if r.Rules.OrZero().Fair == v {
				of = append(of, r.ID)
			}
		}
		require.Equal(f, []string{v + "1", v + "2", v + "3"}, of, "runs of %s after some were given back", v)
	}
	f.finish(s, retried(got[5], quiet))
	f.requireArrival(f.receiveLeased(s, "q"), got[5], time.Now().Add(quiet))
}

// fairLimited leaves open which value is the first of those held back.
func fairLimited(f *fixture) {
	f.needs(broker.PolicyLimits, "limits")
	f.queueFair("a1 a2 a3 a4 a5 b1 b2", limit("key", 1, 0))
	s := f.openSession(longHold)
	var order []string
	held := f.take(s, 1, "q")
	f.takesNothing(s, "q")
	for range 6 {
		f.finish(s, succeeded(held...)...)
		held = f.take(s, 1, "q")
		order = append(order, held[0].ID)
	}
	require.Contains(f, []string{"b1 a2 b2 a3 a4 a5", "a2 b1 a3 b2 a4 a5"}, strings.Join(order, " "), "runs of two values that a limit held back")
}
