package otel_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskotel "github.com/taskgen/taskgen/otel"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestHowAChildEndedIsOnTheAttempt, one span for each attempt, whatever the child did.
func TestHowAChildEndedIsOnTheAttempt(t *testing.T) {
	f, b := newTracing(t), newMemory(t)
	ctx, cancel := context.WithTimeout(f.client(b), time.Minute)
	defer cancel()
	stop := f.consume(ctx, b, taskrt.ConsumerConfig{Processes: 2, MaxCrashes: 2}, nil)
	for _, c := range []struct{ how, kind, message, stack string }{
		{"error", "failed", "told to fail", ""},
		{"panic", "failed", "panic: told to panic", "tasks.go"},
		{"exit", "crashed", "exit status 3", "last words"},
		{"spin", "timeout", "timeout", "tasks.Misbehave("},
	} {
		f.exporter.Reset()
		handle, err := tasks.QueueMisbehave(ctx, c.how)
		require.NoError(t, err)
		_, err = handle.Wait(ctx)
		require.Error(t, err)
		all := f.spans()["process default"]
		require.Len(t, all, 2, c.how)
		for i, s := range all {
			attrs := values(s.Attributes)
			require.Equal(t, codes.Error, s.Status.Code, c.how)
			require.Contains(t, s.Status.Description, c.message)
			require.Equal(t, c.kind, attrs["error.type"])
			require.EqualValues(t, i+1, attrs["taskgen.delivery"])
			if c.stack != "" {
				require.Len(t, s.Events, 1, c.how)
				require.Contains(t, values(s.Events[0].Attributes)["exception.stacktrace"], c.stack)
			}
		}
	}
	stop()
}

// TestSecretsAreNotInSpans.
func TestSecretsAreNotInSpans(t *testing.T) {
	f, b := newTracing(t), newMemory(t)
	ctx, cancel := context.WithTimeout(f.client(b), time.Minute)
	defer cancel()
	stop := f.consume(ctx, b, taskrt.ConsumerConfig{Processes: 1}, nil)
	params := tasks.LeakParams{How: "panic", Text: "canary-text", Who: tasks.Credentials{}}
	for _, queue := range []func() (*taskrt.Handle[taskrt.None], error){
		func() (*taskrt.Handle[taskrt.None], error) {
			return tasks.QueueLeak(ctx, params.How, params.Text, params.Key, params.Raw, params.Pin, params.Ratio, params.Who, params.Amount, taskrt.Keep(time.Hour))
		},
		func() (*taskrt.Handle[taskrt.None], error) {
			return tasks.QueueLeakApart(ctx, params.How, params.Text, params.Key, params.Raw, params.Pin, params.Ratio, params.Who, params.Amount, taskrt.Keep(time.Hour))
		},
	} {
		f.exporter.Reset()
		handle, err := queue()
		require.NoError(t, err)
		_, err = handle.Wait(ctx)
		require.Error(t, err)
		s := f.one("process default")
		require.Contains(t, s.Status.Description, "***")
		require.NotContains(t, s.Status.Description, "canary-text")
		require.Len(t, s.Events, 1)
		for _, value := range values(s.Events[0].Attributes) {
			require.NotContains(t, value, "canary-text")
		}
	}
	stop()
}

// TestAChildsSpansAreBelowItsAttempt, and it gets the baggage.
func TestAChildsSpansAreBelowItsAttempt(t *testing.T) {
	f := newTracing(t)
	headers := map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "baggage": "tenant=7", "tracestate": "vendor=1"}
	failed := errors.New("no luck")
	child := taskotel.ChildMiddleware(f.options...)(func(ctx context.Context, _ *taskrt.Run) error {
		require.Equal(t, "7", baggage.FromContext(ctx).Member("tenant").Value())
		_, span := f.provider.Tracer("test").Start(ctx, "inner")
		span.End()
		return failed
	})
	require.Equal(t, failed, child(context.Background(), &taskrt.Run{ID: "1", Task: "resize", Attempt: 2, Headers: headers}))
	s, inner := f.one("resize"), f.one("inner")
	require.Equal(t, headers["traceparent"], parentOf(s.Parent))
	require.Equal(t, "vendor=1", s.SpanContext.TraceState().String())
	require.Equal(t, s.SpanContext.SpanID(), inner.Parent.SpanID())
	require.Equal(t, trace.SpanKindInternal, s.SpanKind)
	require.Equal(t, codes.Error, s.Status.Code)
	require.Equal(t, map[string]any{"taskgen.task": "resize", "taskgen.attempt": int64(2), "process.pid": int64(os.Getpid()), "error.type": "failed"}, values(s.Attributes))
	require.Panics(t, func() {
		_ = taskotel.ChildMiddleware(f.options...)(func(context.Context, *taskrt.Run) error { panic("no luck") })(context.Background(), &taskrt.Run{Task: "panics"})
	})
	require.Equal(t, codes.Error, f.one("panics").Status.Code)
}

// flushed is a provider that counts its flushes, and takes its time.
type flushed struct {
	*sdktrace.TracerProvider
	n     int
	takes time.Duration
}

func (f *flushed) ForceFlush(ctx context.Context) error {
	f.n++
	select {
	case <-time.After(f.takes):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestAChildSendsItsSpansAtTheEndOfEachRun. If the collector does not answer, the runs do
// not wait for it each time.
func TestAChildSendsItsSpansAtTheEndOfEachRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &flushed{TracerProvider: sdktrace.NewTracerProvider(), takes: 100 * time.Millisecond}
		child := taskotel.ChildMiddleware(taskotel.WithTracerProvider(p))(func(context.Context, *taskrt.Run) error { return nil })
		run := func() time.Duration {
			began := time.Now()
			require.NoError(t, child(context.Background(), &taskrt.Run{Task: "t"}))
			return time.Since(began)
		}
		for i := range 3 {
			require.Equal(t, 100*time.Millisecond, run())
			require.Equal(t, i+1, p.n)
		}
		p.takes = time.Hour
		require.Equal(t, time.Second, run())
		for range 3 {
			require.Zero(t, run(), "the flush before took too long")
		}
		require.Equal(t, 4, p.n)
		p.takes = 0
		time.Sleep(31 * time.Second)
		require.Zero(t, run())
		require.Equal(t, 5, p.n)
	})
}
