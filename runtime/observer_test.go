package runtime_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// Observe implements [taskrt.Observer].
func (l *eventLog) Observe(e taskrt.Event) { l.add(e) }

// kinds returns the kinds of the events.
func (l *eventLog) kinds() (kinds []taskrt.EventKind) {
	for _, e := range l.of("") {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// panicking is an observer that panics.
type panicking struct{ _ int }

func (*panicking) Observe(taskrt.Event) { panic("told to") }

// TestObserversAreToldAtOnce compares what is seen by observers of a consumer, of a run, and by
// OnEvent, beside one that panics. An observer of both is told once.
func TestObserversAreToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var all, one, events eventLog
		consume(t, b, taskrt.ConsumerConfig{
			Observers: []taskrt.Observer{new(panicking), &all},
			OnEvent:   events.add,
			Middleware: []taskrt.Middleware{func(next taskrt.Handler) taskrt.Handler {
				return func(ctx context.Context, run *taskrt.Run) error {
					type key struct{}
					taskrt.Observe(context.WithValue(ctx, key{}, 1), &one)
					taskrt.Observe(ctx, &one)
					taskrt.Observe(ctx, &all)
					return next(ctx, run)
				}
			}},
			Retry: func(*taskrt.Run, error) (time.Duration, bool) { return time.Minute, true },
		}, tasks.Tasks(new(journal).recorder(func(_ context.Context, run *taskrt.Run, _ string) error {
			if run.Attempt == 1 {
				return errors.New("no luck")
			}
			return nil
		})))
		ctx := clientContext(t.Context(), b)
		h, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Keep(time.Hour))
		require.NoError(t, err)
		_, err = h.Wait(t.Context())
		require.NoError(t, err)
		synctest.Wait()
		want := []taskrt.EventKind{
			taskrt.RunStarted, taskrt.RunRetried, taskrt.RunRecorded,
			taskrt.RunStarted, taskrt.RunSucceeded, taskrt.RunRecorded,
		}
		require.Equal(t, want, all.kinds())
		require.Equal(t, want, one.kinds())
		require.Equal(t, want, events.kinds())

		// A run that never starts passes no middleware.
		require.NoError(t, b.Pause(t.Context(), "default", true))
		_, err = tasks.QueueRecorderExpiring(ctx, "late")
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.NoError(t, b.Pause(t.Context(), "default", false))
		synctest.Wait()
		require.Equal(t, append(want, taskrt.RunDropped, taskrt.RunRecorded), all.kinds())
		require.Equal(t, want, one.kinds())
		taskrt.Observe(t.Context(), &one) // outside of a run
		require.Equal(t, want, one.kinds())
	})
}

// toldBy is an observer that cannot be compared.
type toldBy func(taskrt.Event)

func (f toldBy) Observe(e taskrt.Event) { f(e) }

// TestObserversThatCannotBeComparedDoNotPanic has a consumer refuse one, and a run have one.
func TestObserversThatCannotBeComparedDoNotPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var all, one eventLog
		set := tasks.Tasks(new(journal).recorder(nil))
		_, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{Observers: []taskrt.Observer{&all, toldBy(one.add)}}, set)
		require.EqualError(t, err, "make a consumer: field Observers: number 2 is a runtime_test.toldBy, which cannot be compared; pass a pointer")
		consume(t, b, taskrt.ConsumerConfig{
			Observers: []taskrt.Observer{&all},
			Middleware: []taskrt.Middleware{func(next taskrt.Handler) taskrt.Handler {
				return func(ctx context.Context, run *taskrt.Run) error {
					taskrt.Observe(ctx, toldBy(one.add))
					taskrt.Observe(ctx, toldBy(func(taskrt.Event) {}))
					return next(ctx, run)
				}
			}},
		}, set)
		h, err := tasks.QueueRecorderRecord(clientContext(t.Context(), b), "x", taskrt.Keep(time.Hour))
		require.NoError(t, err)
		_, err = h.Wait(t.Context())
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, []taskrt.EventKind{taskrt.RunStarted, taskrt.RunSucceeded, taskrt.RunRecorded}, one.kinds())
	})
}

// TestMiddlewareIsMadeOnce: what surrounds the tasks is the same for all runs, and finds the
// run in its context.
func TestMiddlewareIsMadeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		made := 0
		foreign := false
		consume(t, b, taskrt.ConsumerConfig{Middleware: []taskrt.Middleware{func(next taskrt.Handler) taskrt.Handler {
			made++
			return func(ctx context.Context, run *taskrt.Run) error {
				if foreign {
					ctx = context.Background()
				}
				return next(ctx, run)
			}
		}}}, tasks.Tasks(new(journal).recorder(nil)))
		ctx := clientContext(t.Context(), b)
		for range 3 {
			h, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Keep(time.Hour))
			require.NoError(t, err)
			_, err = h.Wait(t.Context())
			require.NoError(t, err)
		}
		require.Equal(t, 1, made)
		foreign = true
		h, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Keep(time.Hour))
		require.NoError(t, err)
		_, err = h.Wait(t.Context())
		require.ErrorContains(t, err, "a context that is not made of that of the run")
	})
}

// TestMiddlewareThatPanicsAsItIsMadeIsAnError of Run.
func TestMiddlewareThatPanicsAsItIsMadeIsAnError(t *testing.T) {
	c, err := taskrt.NewConsumer(newMemory(t), taskrt.ConsumerConfig{Logger: quiet, Middleware: []taskrt.Middleware{
		func(taskrt.Handler) taskrt.Handler { panic("told to") },
	}}, tasks.Tasks(new(journal).recorder(nil)))
	require.NoError(t, err)
	require.ErrorContains(t, c.Run(t.Context()), "run consumer: make the middleware: panic: told to")
}
