package runtime_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
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
