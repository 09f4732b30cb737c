package taskapp_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/redistest"
	taskrt "github.com/taskgen/taskgen/runtime"
	"github.com/taskgen/taskgen/runtime/taskapp"
)

// TestCommandsOfManyQueuesSendFewCommands has 200 queues, each with a task that has a schedule,
// a schedule made at run time, runs and dead letters, and 100 consumers.
func TestCommandsOfManyQueuesSendFewCommands(t *testing.T) {
	const queues, consumers = 200, 100
	server := redistest.Start(t)
	b, err := brokerurl.Open(t.Context(), server.URL())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.(io.Closer).Close()) })
	var set []taskrt.Task
	tick := time.Now().Truncate(time.Hour)
	for i := range queues {
		spec := taskrt.Spec{Name: fmt.Sprintf("report_%03d", i), Queue: fmt.Sprintf("q%03d", i), Schedule: taskrt.Timing{Every: time.Hour}}
		set = append(set, taskrt.Bind(&taskrt.Definition[struct{}, taskrt.None]{
			Spec:         spec,
			AppendParams: func(_ *struct{}, b []byte) ([]byte, error) { return b, nil },
			ReadParams:   func(*struct{}, *codec.Reader) {},
		}, func(context.Context, *struct{}) (taskrt.None, error) {
			return taskrt.None{}, nil
		}))
		_, err := b.(broker.Ticks).BeginTicks(t.Context(), spec.Queue, spec.Name, tick)
		require.NoError(t, err)
		fillQueue(t, b, spec)
		run := &broker.TaskRun{ID: "made", Task: spec.Name, Queue: spec.Queue}
		require.NoError(t, b.(broker.ScheduleStore).PutSchedule(t.Context(), &broker.Schedule{ID: "made", Spec: "@every 1h", Run: run}))
	}
	for i := range consumers {
		require.NoError(t, b.(broker.Instances).Announce(t.Context(), &broker.Instance{ID: fmt.Sprint(i), Role: broker.RoleConsumer, Queues: map[string]int{"q000": 1}}))
	}
	for _, c := range []struct{ command, shows string }{
		{"status", "report_199 "}, {"runs", "report_000"}, {"runs --state failed", "report_0"}, {"dead list", "report_"}, {"consumers", "100 consumers"},
	} {
		var out bytes.Buffer
		n := redistest.SentCommands(t, server, func() {
			root := (&taskapp.App{}).Command(set)
			root.SetArgs(append(strings.Fields(c.command), "--broker", server.URL()))
			root.SetOut(&out)
			require.NoError(t, root.ExecuteContext(t.Context()), c.command)
		})
		t.Logf("%s: %d commands", c.command, n)
		require.Contains(t, out.String(), c.shows, c.command)
		require.Positive(t, n, c.command)
		require.LessOrEqual(t, n, 60, c.command)
	}
}

// fillQueue gives a queue a run in each state.
func fillQueue(t *testing.T, b broker.Broker, spec taskrt.Spec) {
	t.Helper()
	run := func(id string) *broker.TaskRun {
		return &broker.TaskRun{ID: id, Queue: spec.Queue, Task: spec.Name, QueuedAt: time.Now(), Keep: time.Hour}
	}
	require.NoError(t, b.QueueTasks(t.Context(), run("dead"), run("held")))
	s, err := b.(broker.Leaser).OpenSession(t.Context(), time.Minute)
	require.NoError(t, err)
	runs, err := s.Take(t.Context(), broker.Want{Queues: []string{spec.Queue}, IO: 2})
	require.NoError(t, err)
	require.Len(t, runs, 2)
	_, err = s.Finish(t.Context(), broker.Outcome{Run: runs[0], Verdict: broker.Dead, Failure: &broker.Failure{Kind: broker.FailureFailed}})
	require.NoError(t, err)
	later := run("later")
	later.Delay = time.Hour
	require.NoError(t, b.QueueTasks(t.Context(), run("waits"), later))
}
