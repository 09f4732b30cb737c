package runtime_test

import (
	"context"
	"errors"
	goruntime "runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// unsayable is an error whose methods panic as its fields say.
type unsayable struct{ text, is bool }

func (e unsayable) Error() string {
	if e.text {
		panic("speechless")
	}
	return "unsayable"
}

func (e unsayable) Is(error) bool {
	if e.is {
		panic("without identity")
	}
	return false
}

// TestErrorsThatPanicAreFailedAttempts has tasks return errors whose methods panic.
func TestErrorsThatPanicAreFailedAttempts(t *testing.T) {
	const wanting = "the Error method of type runtime_test.unsayable panicked: speechless"
	for _, test := range []struct {
		name     string
		err      error
		attempts int
		message  string
	}{
		{"its text", unsayable{text: true}, 4, wanting},
		{"permanent", taskrt.Permanent(unsayable{text: true}), 1, wanting},
		{"after a while", taskrt.RetryAfter(time.Second, unsayable{text: true}), 4, wanting},
		{"joined", errors.Join(errors.New("a"), unsayable{text: true}), 4, "the Error method of type *errors.joinError panicked: speechless"},
		{"what it is", unsayable{is: true}, 4, "the Unwrap, Is or As method of type runtime_test.unsayable panicked: without identity"},
		{"nil", (*tasks.BrokenError)(nil), 4, "the Error method of type *tasks.BrokenError panicked: runtime error: invalid memory address or nil pointer dereference"},
	} {
		for _, by := range []string{"task", "middleware"} {
			t.Run(test.name+" by "+by, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newMemory(t)
					var cfg taskrt.ConsumerConfig
					task := func(context.Context, *taskrt.Run, string) error { return test.err }
					if by == "middleware" {
						task = nil
						cfg.Middleware = []taskrt.Middleware{func(taskrt.Handler) taskrt.Handler {
							return func(context.Context, *taskrt.Run) error { return test.err }
						}}
					}
					consume(t, b, cfg, tasks.Tasks(new(journal).recorder(task)))
					ctx := clientContext(context.Background(), b)
					handle, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Keep(time.Minute))
					require.NoError(t, err)
					_, err = handle.Wait(ctx)
					var failure *taskrt.RunError
					require.ErrorAs(t, err, &failure)
					require.Equal(t, taskrt.Failed, failure.Kind)
					require.Equal(t, test.message, failure.Message)
					require.Equal(t, test.attempts, failure.Attempt)
					require.Contains(t, failure.Stack, "panic(")
				})
			})
		}
	}
}

// TestAGoexitOfTheApplicationLosesNoOutcome has OnEvent and Retry call runtime.Goexit, as
// FailNow of a test does.
func TestAGoexitOfTheApplicationLosesNoOutcome(t *testing.T) {
	for _, test := range []struct {
		name     string
		event    taskrt.EventKind // at which OnEvent exits
		retry    bool             // Retry does
		attempts int
		message  string
	}{
		{"at the success", taskrt.RunSucceeded, false, 1, ""},
		{"at the retry", taskrt.RunRetried, false, 4, "no luck"},
		{"at the failure", taskrt.RunFailed, false, 4, "no luck"},
		{"in Retry", "", true, 1, "the application's Retry, or a method of its error, called runtime.Goexit"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := taskrt.ConsumerConfig{Concurrency: 1, OnEvent: func(e taskrt.Event) {
					if e.Kind == test.event {
						goruntime.Goexit()
					}
				}}
				if test.retry {
					cfg.Retry = func(*taskrt.Run, error) (time.Duration, bool) {
						goruntime.Goexit()
						return 0, true
					}
				}
				b := newMemory(t)
				consume(t, b, cfg, tasks.Tasks(new(journal).recorder(func(context.Context, *taskrt.Run, string) error {
					if test.message == "" {
						return nil
					}
					return errors.New("no luck")
				})))
				ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Hour)
				defer cancel()
				handle, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Keep(time.Minute))
				require.NoError(t, err)
				_, err = handle.Wait(ctx)
				status, statusErr := handle.Status(ctx)
				require.NoError(t, statusErr)
				require.Equal(t, test.attempts, status.Attempt)
				if test.message == "" {
					require.NoError(t, err)
					return
				}
				var failure *taskrt.RunError
				require.ErrorAs(t, err, &failure)
				require.Equal(t, test.message, failure.Message)
			})
		})
	}
}
