package runtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// endless is a broker of queues with runs and dead letters without end.
type endless struct {
	*memory.Broker
	queues        int
	takes         time.Duration // a search of one page
	calls, looked atomic.Int64
	has           string // this run is behind 60,000 others
}

func (e *endless) QueueLength(context.Context) (map[string]int64, error) {
	lengths := make(map[string]int64)
	for n := range e.queues {
		lengths[fmt.Sprintf("q%03d", n)] = 1
	}
	return lengths, nil
}

func (e *endless) page(look int) (int, string) {
	e.calls.Add(1)
	time.Sleep(e.takes)
	return look, fmt.Sprint(e.looked.Add(int64(look)))
}

func (e *endless) FindRuns(_ context.Context, queue string, state broker.State, s broker.RunSearch) (*broker.RunPage, error) {
	page := new(broker.RunPage)
	page.Looked, page.After = e.page(s.Look)
	if e.has != "" && e.looked.Load() > 60_000 && state == broker.StateDelayed {
		page.Runs = append(page.Runs, &broker.RunInfo{Run: &broker.TaskRun{ID: e.has, Task: "t", Queue: queue}, State: state})
	}
	return page, nil
}

func (e *endless) FindDead(_ context.Context, _ string, s broker.DeadSearch) (*broker.DeadPage, error) {
	page := new(broker.DeadPage)
	page.Looked, page.After = e.page(s.Look)
	return page, nil
}

// TestASearchForOneRunIsBounded looks for a run without a record in queues that never end, and
// in ones that are slow.
func TestASearchForOneRunIsBounded(t *testing.T) {
	for _, c := range []struct {
		name   string
		queues int
		takes  time.Duration
		says   string
	}{
		{"one queue", 1, 0, "no run nobody in queue q000: not among the records, the dead letters and the runs that are running, queued and delayed, as far as these were searched: queue q000 not to the end; "},
		{"many queues", 300, 0, "as far as these were searched: the queues q000, q001, "},
		{"slow queues", 300, time.Second, "as far as these were searched: the queues q000, q001, "},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &endless{Broker: memory.New(), queues: c.queues, takes: c.takes}
				defer b.Close()
				i, err := taskrt.NewInspector(b)
				require.NoError(t, err)
				start := time.Now()
				_, err = i.Run(t.Context(), "nobody")
				require.ErrorIs(t, err, taskrt.ErrNoRecord)
				require.ErrorContains(t, err, c.says)
				require.ErrorContains(t, err, "one that waits for a group is shown only if it has a record, and one that is to follow")
				require.LessOrEqual(t, time.Since(start), 6*time.Second)
				require.LessOrEqual(t, b.calls.Load(), int64(200))
				require.LessOrEqual(t, b.looked.Load(), int64(100_000))
			})
		})
	}
}

// TestASearchInOneQueueGoesOnInPages finds a run behind others of its state.
func TestASearchInOneQueueGoesOnInPages(t *testing.T) {
	b := &endless{Broker: memory.New(), queues: 1, has: "mine"}
	defer b.Close()
	i, err := taskrt.NewInspector(b)
	require.NoError(t, err)
	d, err := i.Run(t.Context(), "mine", "q000")
	require.NoError(t, err)
	require.Equal(t, "q000", d.Queue)
}

// TestALimitOfASecretIsShownWithoutItsValue has a run wait for its tenant, and one for its card.
func TestALimitOfASecretIsShownWithoutItsValue(t *testing.T) {
	inspected(t, func(t *testing.T, ctx context.Context, b broker.Broker, i *taskrt.Inspector) {
		for _, run := range [][2]string{{"acme", "4111"}, {"acme", "4222"}, {"other", "4111"}} {
			_, err := tasks.QueueRecorderGuarded(ctx, run[0], run[1])
			require.NoError(t, err)
		}
		s, err := b.(broker.Leaser).OpenSession(ctx, time.Minute)
		require.NoError(t, err)
		runs, err := s.Take(ctx, broker.Want{Queues: []string{"default"}, IO: 10})
		require.NoError(t, err)
		require.Len(t, runs, 1)
		list, err := i.Queues(ctx, "default")
		require.NoError(t, err)
		require.Len(t, list.Queues[0].Limits, 2)
		for _, l := range list.Queues[0].Limits {
			require.Equal(t, "recorder_guarded", l.Task)
			if l.Per > 0 {
				require.Nil(t, l.Values, "those of a card")
			} else {
				require.Equal(t, []json.RawMessage{json.RawMessage(`"acme"`)}, l.Values)
			}
		}
	})
}

// TestALimitIsShownWithItsTaskAndValues has runs of two tenants wait, of which one has only large
// ones, and asks an inspector that knows the task, and one that does not.
func TestALimitIsShownWithItsTaskAndValues(t *testing.T) {
	inspected(t, func(t *testing.T, ctx context.Context, b broker.Broker, i *taskrt.Inspector) {
		for n := range 4 {
			_, err := tasks.QueueRecorderLimited(ctx, "acme <x>", n)
			require.NoError(t, err)
		}
		for n := range 3 {
			_, err := tasks.QueueRecorderLimited(ctx, strings.Repeat("long", 1000), n)
			require.NoError(t, err)
		}
		s, err := b.(broker.Leaser).OpenSession(ctx, time.Minute)
		require.NoError(t, err)
		for taken := 0; taken < 4; {
			runs, err := s.Take(ctx, broker.Want{Queues: []string{"default"}, IO: 10})
			require.NoError(t, err)
			taken += len(runs)
		}
		held := func(i *taskrt.Inspector) []taskrt.HeldLimit {
			list, err := i.Queues(ctx, "default")
			require.NoError(t, err)
			require.Len(t, list.Queues[0].Limits, 2)
			require.EqualValues(t, 2, list.Queues[0].Limits[0].Waiting)
			return list.Queues[0].Limits
		}
		limits := held(i)
		require.Equal(t, "recorder_limited", limits[0].Task)
		require.Equal(t, []json.RawMessage{json.RawMessage(`"acme <x>"`)}, limits[0].Values)
		require.True(t, strings.HasSuffix(limits[1].Key, "/"+limits[1].Digest), limits[1].Key)
		if limits[1].Run == nil { // a large one, on Redis
			require.Nil(t, limits[1].Values)
		}
		other, err := taskrt.NewInspector(b)
		require.NoError(t, err)
		limits = held(other)
		require.Equal(t, "recorder_limited", limits[0].Task)
		require.Nil(t, limits[0].Values)
		require.Len(t, limits[0].Digest, 22)
	})
}
