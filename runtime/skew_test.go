package runtime_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// otherVersion is recorder_record as another version of the program has it, with
// a number for a note.
type otherVersion struct{ Note int }

func other() *taskrt.Definition[otherVersion, taskrt.None] {
	return &taskrt.Definition[otherVersion, taskrt.None]{
		Spec: taskrt.Spec{Name: "recorder_record", Keep: time.Minute, Params: "note int"},
		AppendParams: func(p *otherVersion, b []byte) ([]byte, error) {
			return codec.AppendInt(codec.AppendString(codec.AppendMapLen(b, 1), "note"), int64(p.Note)), nil
		},
		ReadParams: func(p *otherVersion, r *codec.Reader) {
			for n := r.MapLen(); n > 0 && r.More(); n-- {
				_, p.Note = r.Key(), r.Int()
			}
		},
	}
}

// TestRunsOfAnotherVersionAreLeftToIt checks that a consumer leaves runs that it cannot
// read to others for an hour, attempts unspent.
func TestRunsOfAnotherVersionAreLeftToIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(new(journal).recorder(nil)))
		ctx := clientContext(context.Background(), b)
		first, err := taskrt.Queue(ctx, other(), &otherVersion{7})
		require.NoError(t, err)
		time.Sleep(30 * time.Minute)
		status, err := first.Status(ctx)
		require.NoError(t, err)
		require.False(t, status.State.Ended(), "state after half an hour: %s", status.State)
		require.Zero(t, status.Attempt)

		var got otherVersion
		var run *taskrt.Run
		stop := consume(t, b, taskrt.ConsumerConfig{}, []taskrt.Task{taskrt.Bind(other(), func(ctx context.Context, p *otherVersion) (taskrt.None, error) {
			got = *p
			run, _ = taskrt.CurrentRun(ctx)
			return taskrt.None{}, nil
		})})
		_, err = first.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, otherVersion{7}, got)
		require.Equal(t, 1, run.Attempt)
		require.NoError(t, stop())

		second, err := taskrt.Queue(ctx, other(), &otherVersion{8})
		require.NoError(t, err)
		began := time.Now()
		_, err = second.Wait(ctx)
		var failure *taskrt.RunError
		require.ErrorAs(t, err, &failure)
		require.Equal(t, taskrt.Schema, failure.Kind)
		require.InDelta(t, time.Hour, time.Since(began), float64(time.Minute), "when nobody came")
	})
}

// unfitTaskSets returns the tasks of consumers that cannot execute each other's runs.
func unfitTaskSets() map[string][]taskrt.Task {
	return map[string][]taskrt.Task{
		"unknown":    {taskrt.Bind(reportTask(taskrt.Spec{}), func(context.Context, *report) (taskrt.None, error) { return taskrt.None{}, nil })},
		"unreadable": tasks.Tasks(new(journal).recorder(nil)),
	}
}

// reachReader has two consumers wait side by side, of which one cannot execute
// the runs of other, and queues these one after the other. Were it chance which of
// the two takes a run, they would be handed back more than 70 times in less than
// one of a million tests.
func reachReader(t *testing.T, right, wrong broker.Broker, strange []taskrt.Task) {
	const runs, most = 20, 70
	var mu sync.Mutex
	left := make(map[string]int)
	consume(t, wrong, taskrt.ConsumerConfig{OnEvent: func(e taskrt.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind == taskrt.RunReturned {
			left[e.Run.ID]++
		}
	}}, strange)
	consume(t, right, taskrt.ConsumerConfig{}, []taskrt.Task{taskrt.Bind(other(), func(ctx context.Context, p *otherVersion) (taskrt.None, error) {
		if run, _ := taskrt.CurrentRun(ctx); run.Attempt != 1 || run.Delivery != 1 {
			return taskrt.None{}, fmt.Errorf("attempt %d, delivery %d", run.Attempt, run.Delivery)
		}
		return taskrt.None{}, nil
	})})
	ctx := clientContext(t.Context(), right)
	for range runs {
		handle, err := taskrt.Queue(ctx, other(), &otherVersion{7})
		require.NoError(t, err)
		_, err = handle.Wait(ctx)
		require.NoError(t, err)
	}
	mu.Lock()
	defer mu.Unlock()
	total := 0
	for _, n := range left {
		total += n
	}
	t.Logf("handed back: %v", slices.Sorted(maps.Values(left)))
	require.LessOrEqual(t, total, most, "times that runs were handed back: %v", slices.Sorted(maps.Values(left)))
}

// TestRunsReachWhoCanReadThem has a consumer that cannot execute a run leave it to one that
// waits, and does not take it again and again.
func TestRunsReachWhoCanReadThem(t *testing.T) {
	for name, wrong := range unfitTaskSets() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newMemory(t)
				reachReader(t, b, b, wrong)
			})
		})
	}
}
