package brokertest

import (
	"math"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var orderChecks = []check{
	{"runs come in the order queued, in batches and across them", firstInFirstOut},
	{"the higher priority comes first", priorityFirst},
	{"the queue named earlier comes first", queuePreference},
	{"GetTaskRuns returns runs of both kinds", bothKinds},
	{"GetTaskRuns returns no more than max", maxRespected},
	{"GetTaskRuns takes only of the queues named", onlyNamedQueues},
}

func firstInFirstOut(f *fixture) {
	var want []string
	for _, n := range []int{1, 5, 1, 300, 2} {
		want = append(want, ids(f.queueNew("q", n))...)
	}
	require.Equal(f, want, ids(f.get(len(want), "q")), "order of runs of one priority")
}

func priorityFirst(f *fixture) {
	byPriority := map[broker.Priority][]string{}
	for range 3 {
		var batch []*broker.TaskRun
		for _, p := range []broker.Priority{broker.Low, broker.High, broker.Medium, broker.Low, broker.High} {
			r := f.newRun("q", priority(p))
			batch = append(batch, r)
			byPriority[p] = append(byPriority[p], r.ID)
		}
		f.queue(batch...)
	}
	want := slices.Concat(byPriority[broker.High], byPriority[broker.Medium], byPriority[broker.Low])
	require.Equal(f, want, ids(f.get(len(want), "q")), "high before medium before low, in the order queued in each")
}

func queuePreference(f *fixture) {
	low := ids(f.queueNew("low", 4, priority(broker.High)))
	high := ids(f.queueNew("high", 4, priority(broker.Low)))
	require.Equal(f, slices.Concat(high, low), ids(f.get(8, "high", "none", "low")),
		"all of the queue named first come before those of the other, whatever their priority")
}

func bothKinds(f *fixture) {
	var want []string
	for _, k := range []broker.Kind{broker.CPU, broker.IO, broker.CPU, broker.IO} {
		want = append(want, f.queueOne("q", kind(k)).ID)
	}
	require.ElementsMatch(f, want, ids(f.get(4, "q")), "runs of both kinds")
}

func maxRespected(f *fixture) {
	f.queueNew("a", 10, kind(broker.IO))
	f.queueNew("a", 10, kind(broker.CPU))
	f.queueNew("b", 10)
	left := 30
	for _, most := range []int{1, 2, 7, 12} {
		runs, err := f.b.GetTaskRuns(f.ctx(), []string{"a", "b"}, most)
		require.NoError(f, err, "GetTaskRuns")
		require.NotEmpty(f, runs, "GetTaskRuns with %d runs due", left)
		require.LessOrEqual(f, len(runs), most, "runs of a GetTaskRuns with max %d", most)
		left -= len(runs)
	}
	require.Equal(f, left, f.length("a")+f.length("b"), "length after runs were taken")
}

func onlyNamedQueues(f *fixture) {
	f.queueNew("a", 2)
	f.queueNew("b", 2)
	for _, r := range f.get(2, "b") {
		require.Equal(f, "b", r.Queue, "queue of a run taken of queue b")
	}
	f.nothing("b")
	require.Equal(f, 2, f.length("a"), "length of the queue not named")
}

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
