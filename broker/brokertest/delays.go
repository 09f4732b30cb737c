package brokertest

import (
	"math"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var delayChecks = []check{
	{"a run with Delay is taken after it and not before", delayed},
	{"a run with Due is taken at that instant and not before", dueAt},
	{"delayed runs come in the order they are due", dueOrder},
	{"a blocked take learns of a run due earlier than the one it waits for", dueEarlier},
	{"an instant in the past is at once and one far away is never", farAway},
}

func due(at time.Time) func(*broker.TaskRun) { return func(r *broker.TaskRun) { r.Due = at } }

// delayed blocks in the only take: the broker must not need another call.
func delayed(f *fixture) {
	const d = 300 * time.Millisecond
	arrived := f.receive(1, "q")
	start := time.Now()
	run := f.queueOne("q", delay(d))
	f.requireArrivalAt(arrived, run, start.Add(d))
}

func dueAt(f *fixture) {
	at := time.Now().Add(300 * time.Millisecond)
	run := f.queueOne("q", due(at))
	f.requireArrivalAt(f.receive(1, "q"), run, at)
}

func dueOrder(f *fixture) {
	// Far apart, as the one instant counts from before the call.
	last := f.newRun("q", delay(1200*time.Millisecond))
	first := f.newRun("q", delay(100*time.Millisecond))
	middle := f.newRun("q", due(time.Now().Add(650*time.Millisecond)))
	f.queue(last, first, middle)
	require.Equal(f, ids([]*broker.TaskRun{first, middle, last}), ids(f.get(3, "q")), "runs taken as they became due")

	f.queue(f.newRun("q", ownID("third"), delay(150*time.Millisecond)),
		f.newRun("q", ownID("first"), delay(50*time.Millisecond)),
		f.newRun("q", ownID("second"), delay(100*time.Millisecond)))
	f.pass(200 * time.Millisecond)
	require.Equal(f, []string{"first", "second", "third"}, ids(f.get(3, "q")), "runs taken after all were due")
}

func dueEarlier(f *fixture) {
	f.queueNew("q", 1, delay(time.Hour))
	arrived := f.receive(2, "q")
	f.pass(50 * time.Millisecond)
	start := time.Now()
	for _, d := range []time.Duration{200 * time.Millisecond, 400 * time.Millisecond} {
		run := f.queueOne("q", delay(d))
		f.requireArrival(arrived, run, start.Add(d))
		start = time.Now()
	}
}

func farAway(f *fixture) {
	const nanoseconds = 123_456_789
	f.queue(
		f.newRun("q", delay(math.MaxInt64)),
		f.newRun("q", due(time.Date(2200, 12, 31, 23, 59, 59, nanoseconds, time.UTC))),
		f.newRun("q", delay(1000*24*time.Hour)),
	)
	f.nothing("q")
	past := []*broker.TaskRun{
		f.newRun("q", due(time.Unix(1, nanoseconds))),
		f.newRun("q", due(time.Now().Add(-time.Hour))),
	}
	f.queue(past...)
	require.ElementsMatch(f, ids(past), ids(f.get(2, "q")), "runs due in the past")
	f.nothing("q")
	require.Equal(f, 3, f.length("q"), "length with runs due far away")
}
