package runtime_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func TestAQueueWithRunsAndWithoutAConsumerIsNamed(t *testing.T) {
	b := &upon{Broker: newMemory(t)}
	ctx := clientContext(t.Context(), b)
	i, err := taskrt.NewInspector(b, tasks.Tasks(nil))
	require.NoError(t, err)
	for _, queue := range []string{"served", "stopping", "unserved", "scheduled"} {
		_, err := tasks.QueueEcho(ctx, "x", 1, taskrt.OnQueue(queue))
		require.NoError(t, err)
	}
	consumer := func(queue string, stopping bool) *broker.Instance {
		return &broker.Instance{Role: broker.RoleConsumer, Queues: map[string]int{queue: 1}, Stopping: stopping}
	}
	b.up = []*broker.Instance{
		consumer("served", false), consumer("stopping", true),
		{Role: broker.RoleScheduler, Queues: map[string]int{"scheduled": 1}},
	}
	alone := func() (names []string) {
		list, err := i.Queues(ctx)
		require.NoError(t, err)
		for _, q := range list.Queues {
			if q.NoConsumer {
				names = append(names, q.Queue)
			}
		}
		return names
	}
	require.Equal(t, []string{"scheduled", "stopping", "unserved"}, alone(), "an empty queue needs none")
	b.up[0].More = 5
	require.Empty(t, alone(), "one does not tell all of its queues")
	b.up = nil
	require.Equal(t, []string{"scheduled", "served", "stopping", "unserved"}, alone())
}

func TestALateTickIsOverdueAndSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &upon{Broker: newMemory(t)}
		ctx := clientContext(t.Context(), b)
		i, err := taskrt.NewInspector(b, tasks.Tasks(nil))
		require.NoError(t, err)
		tick := func(id string) (status taskrt.ScheduleStatus) {
			t.Helper()
			list, err := i.Schedules(ctx)
			require.NoError(t, err)
			require.Empty(t, list.Skipped)
			at := slices.IndexFunc(list.Schedules, func(s taskrt.ScheduleStatus) bool {
				return s.ID == id && (s.Task == "recorder_tick" || id != "")
			})
			require.GreaterOrEqual(t, at, 0)
			return list.Schedules[at]
		}
		s := tick("")
		require.True(t, s.Overdue, "it never ticked, and nobody is there to have it tick")
		require.Equal(t, "no scheduler is up", s.Why)

		scheduler := &broker.Instance{Role: broker.RoleScheduler, Queues: map[string]int{"default": 1}}
		b.up = []*broker.Instance{scheduler}
		require.False(t, tick("").Overdue, "it is about to begin")
		stop := schedule(t, b, tasks.Tasks(nil))
		_, err = taskrt.Schedule(ctx, "@every 10s", "", tasks.CallRecorderRecord("x"), taskrt.ID("often"))
		require.NoError(t, err)
		time.Sleep(21 * time.Second) // the bubble's clock
		require.False(t, tick("").Overdue)
		require.False(t, tick("often").Overdue)
		require.NoError(t, stop())
		time.Sleep(4 * time.Second)
		require.False(t, tick("").Overdue, "not by more than five seconds")
		time.Sleep(2 * time.Second)
		s = tick("")
		require.True(t, s.Overdue)
		require.Equal(t, "no scheduler was seen for 15s, it may have died", s.Why)
		scheduler.Seen = time.Now().Add(-14 * time.Second)
		s = tick("")
		require.Equal(t, "a scheduler is up, and is behind", s.Why)
		require.Equal(t, time.Second, s.Next.Sub(s.Last))
		require.False(t, tick("often").Overdue)
		time.Sleep(15 * time.Second)
		require.True(t, tick("often").Overdue)
		scheduler.Queues = map[string]int{"other": 1}
		require.Equal(t, "no scheduler that is up has schedules of queue default", tick("often").Why)
		scheduler.Stopping = true
		require.Equal(t, "no scheduler is up", tick("often").Why)
		require.NoError(t, i.Disable(ctx, "recorder_tick"))
		s = tick("")
		require.False(t, s.Overdue)
		require.True(t, s.Disabled)
	})
}
