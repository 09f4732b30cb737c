package runtime_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestDeadLettersAreGroupedByWhyTheyFailed has some in two queues that differ by numbers, and
// looks at some of them.
func TestDeadLettersAreGroupedByWhyTheyFailed(t *testing.T) {
	inspected(t, func(t *testing.T, ctx context.Context, b broker.Broker, i *taskrt.Inspector) {
		fail := func(queue string, kind taskrt.FailureKind, message string) {
			_, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.OnQueue(queue))
			require.NoError(t, err)
			end(t, ctx, b, queue, 1, broker.Dead, &broker.Failure{Kind: kind, Message: message})
		}
		for n := range 5 {
			fail("default", taskrt.Failed, fmt.Sprintf("order %d is unpaid\nat line 7", n))
		}
		fail("mail", taskrt.Failed, "order 77 is unpaid")
		fail("mail", taskrt.Timeout, "order 77 is unpaid")
		all, err := i.DeadGroups(ctx, taskrt.RunFilter{}, 0)
		require.NoError(t, err)
		require.Empty(t, all.Skipped)
		require.Equal(t, 7, all.Looked)
		require.EqualValues(t, 7, all.Total)
		require.Len(t, all.Groups, 2)
		g := all.Groups[0]
		require.Equal(t, 6, g.Count)
		require.Equal(t, "order # is unpaid", g.Error)
		require.Equal(t, "recorder_record", g.Task)
		require.Equal(t, taskrt.Failed, g.Kind)
		require.True(t, g.Sample.At.Equal(g.Last), "the newest; two can be of one millisecond")
		require.False(t, g.First.After(g.Last))
		require.Equal(t, 1, all.Groups[1].Count)

		page, err := i.Dead(ctx, taskrt.RunFilter{Task: g.Task, Kind: g.Kind, Alike: g.Error}, taskrt.PageOptions{})
		require.NoError(t, err)
		require.Len(t, page.Letters, 6)
		one, err := i.DeadGroups(ctx, taskrt.RunFilter{Queues: []string{"default"}, Kind: taskrt.Timeout}, 0)
		require.NoError(t, err)
		require.Empty(t, one.Groups)
		require.Equal(t, 5, one.Looked)
		some, err := i.DeadGroups(ctx, taskrt.RunFilter{Queues: []string{"default"}}, 2)
		require.NoError(t, err)
		require.Equal(t, 2, some.Looked)
		require.EqualValues(t, 5, some.Total)
		require.Equal(t, 2, some.Groups[0].Count)
		done, err := i.Requeue(ctx, taskrt.RunFilter{Alike: "order # is unpaid", Kind: taskrt.Failed}, taskrt.ChangeOptions{DryRun: true})
		require.NoError(t, err)
		require.Equal(t, 6, done.Changed)
	})
}
