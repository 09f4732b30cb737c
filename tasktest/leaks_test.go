package tasktest_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
	"github.com/taskgen/taskgen/tasktest"
)

// ending is a test that ends when the test wants.
type ending struct {
	logged
	cleanups []func()
}

func (e *ending) Cleanup(f func()) { e.cleanups = append(e.cleanups, f) }

func TestAGoroutineThatATaskLeavesFailsItsTest(t *testing.T) {
	for _, test := range []struct {
		name string
		opts []tasktest.Option
		errs int
	}{
		{"told", nil, 1},
		{"allowed", []tasktest.Option{tasktest.AllowLeaks()}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := &ending{logged: logged{TB: t}}
			q := newKit(e, test.opts...)
			other := newKit(t)
			release, ended := make(chan struct{}), make(chan struct{})
			tasktest.Of[tasks.RecorderMailParams, taskrt.None](q, "recorder_mail").
				Does(func(context.Context, *tasks.RecorderMailParams) (taskrt.None, error) {
					go func() {
						defer close(ended)
						<-release
					}()
					return taskrt.None{}, nil
				})
			_, err := tasks.QueueRecorderMail(q.Context(), "ada")
			require.NoError(t, err)
			q.Drain(e)
			other.Drain(t)
			require.Len(t, e.cleanups, 1)
			e.cleanups[0]()
			require.Len(t, e.errs, test.errs)
			if test.errs > 0 {
				require.Contains(t, e.errs[0], "goroutines go on after the test")
				require.Contains(t, e.errs[0], "leaks_test.go")
			}
			close(release)
			<-ended
		})
	}
}
