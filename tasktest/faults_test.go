package tasktest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
	"github.com/taskgen/taskgen/tasktest"
)

// record queues a run of Record beside another, and returns it and how often it was executed.
func record(t *testing.T, q *tasktest.Kit) (*tasktest.Run[tasks.RecorderRecordParams], *int) {
	t.Helper()
	calls := new(int)
	task := tasktest.Of[tasks.RecorderRecordParams, taskrt.None](q, "recorder_record")
	task.Does(func(_ context.Context, p *tasks.RecorderRecordParams) (taskrt.None, error) {
		if p.Note == "bad" {
			*calls++
		}
		return taskrt.None{}, nil
	})
	for _, note := range []string{"good", "bad", "good too"} {
		_, err := tasks.QueueRecorderRecord(q.Context(), note, taskrt.Keep(time.Hour))
		require.NoError(t, err)
	}
	return task.Queued(t, tasks.RecorderRecordParams{Note: "bad"}), calls
}

func TestACrashAtEachStep(t *testing.T) {
	for _, step := range []struct {
		name          string
		at            []tasktest.Step
		before, after int // executions until the lease has ended, and in all
	}{
		{"by default before it starts", nil, 0, 1},
		{"before it starts", []tasktest.Step{tasktest.BeforeStart}, 0, 1},
		{"before the record", []tasktest.Step{tasktest.BeforeRecord}, 1, 2},
		{"after the record", []tasktest.Step{tasktest.AfterRecord}, 1, 1},
	} {
		t.Run(step.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newKit(t)
				run, calls := record(t, q)
				q.Crash(t, run, step.at...)
				q.Drain(t)
				require.Equal(t, step.before, *calls)
				q.Advance(t, 9*time.Second)
				require.Equal(t, step.before, *calls, "while the lease lasts")
				q.Advance(t, 2*time.Second)
				require.Equal(t, step.after, *calls)
				status, err := tasks.HandleRecorderRecord(q.Context(), run.ID).Status(q.Context())
				require.NoError(t, err)
				require.EqualValues(t, "succeeded", status.State)
			})
		})
	}
}

func TestARunIsDeliveredThreeTimesWithoutAClock(t *testing.T) {
	q := newKit(t)
	run, calls := record(t, q)
	q.Deliver(t, run, 3)
	q.Drain(t)
	require.Equal(t, 3, *calls)
}

func TestALostLeaseCancelsTheRunAndItStartsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newKit(t)
		var ends []error
		task := tasktest.Of[tasks.RecorderMailParams, taskrt.None](q, "recorder_mail")
		task.Does(func(ctx context.Context, _ *tasks.RecorderMailParams) (taskrt.None, error) {
			select {
			case <-ctx.Done():
				ends = append(ends, context.Cause(ctx))
				return taskrt.None{}, ctx.Err()
			case <-time.After(time.Minute):
				ends = append(ends, nil)
				return taskrt.None{}, nil
			}
		})
		_, err := tasks.QueueRecorderMail(q.Context(), "ada")
		require.NoError(t, err)
		q.LoseLease(t, task.Queued(t, tasks.RecorderMailParams{To: "ada"}))
		q.Advance(t, time.Hour)
		require.Len(t, ends, 2)
		require.Error(t, ends[0])
		require.NoError(t, ends[1])
	})
}

// logged is a test whose log and errors are looked at.
type logged struct {
	testing.TB
	logs, errs []string
}

func (l *logged) Helper() {}
func (l *logged) Logf(format string, args ...any) {
	l.logs = append(l.logs, fmt.Sprintf(format, args...))
}
func (l *logged) Errorf(format string, args ...any) {
	l.errs = append(l.errs, fmt.Sprintf(format, args...))
}

func TestATimeoutThatTheProcessOfATestDoesNotEnforceIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newKit(t, tasktest.AllowFailures(), tasktest.Middleware(func(next taskrt.Handler) taskrt.Handler {
			return func(ctx context.Context, run *taskrt.Run) error {
				time.Sleep(time.Hour) // the task heeds no context
				return errors.New("too late")
			}
		}))
		_, err := tasks.QueueSquare(q.Context(), 7)
		require.NoError(t, err)
		told := &logged{TB: t}
		q.Drain(told)
		require.Len(t, told.errs, 1)
		require.Contains(t, told.errs[0], "cpu task square runs in the process of the test, where killing it at //task:timeout is unsupported")
		require.Contains(t, told.errs[0], "tasktest.Children()")
	})
}
