package otel

import (
	"context"
	"os"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	taskrt "github.com/taskgen/taskgen/runtime"
)

// ChildMiddleware returns a middleware for [taskrt.ChildConfig]: the spans of a task in a
// child process are below that of its attempt, which [Middleware] makes in the consumer's
// process. Between the two is a span of the task's name, of kind INTERNAL, with the
// attributes taskgen.task, taskgen.attempt and process.pid.
//
// A child process has a tracer provider of its own, see Start of taskapp.App. A child can
// be killed at any time, so ChildMiddleware calls the provider's ForceFlush, if it has one,
// at the end of each run. If that takes more than a second, spans are left to the provider
// for half a minute.
func ChildMiddleware(opts ...Option) taskrt.Middleware {
	o := newObserver(opts)
	f := &flusher{observer: o}
	return func(next taskrt.Handler) taskrt.Handler {
		return func(ctx context.Context, run *taskrt.Run) error {
			defer f.flush()
			return o.inChild(ctx, run, next)
		}
	}
}

// inChild makes a span of a run in a child process.
func (o *observer) inChild(ctx context.Context, run *taskrt.Run, next taskrt.Handler) error {
	ctx, attempt := o.headers.extract(ctx, run.Headers)
	ctx, span := o.tracer.Start(trace.ContextWithRemoteSpanContext(ctx, attempt), run.Task, trace.WithSpanKind(trace.SpanKindInternal),
		trace.WithAttributes([]attribute.KeyValue{taskKey.String(run.Task), attemptKey.Int(run.Attempt), semconv.ProcessPID(os.Getpid())}...))
	err := errNotReturned
	defer func() { // also if next panics
		if failure := taskrt.AttemptError(ctx, err); failure != nil {
			recordFailure(span, failure)
		}
		span.End()
	}()
	err = next(ctx, run)
	return err
}

const (
	flushTimeout = time.Second
	flushPause   = 30 * time.Second // after a flush that took too long
)

// flusher sends the spans of a child process before the answer of a run.
type flusher struct {
	observer *observer
	paused   atomic.Int64 // until this time, in nanoseconds
}

func (f *flusher) flush() {
	p, ok := f.observer.currentProvider().(interface {
		ForceFlush(ctx context.Context) error
	})
	if !ok || time.Now().UnixNano() < f.paused.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	_ = p.ForceFlush(ctx) // the provider reports the errors of its exporter
	if ctx.Err() != nil {
		f.paused.Store(time.Now().Add(flushPause).UnixNano())
	}
}
