package brokertest

import (
	"slices"

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
