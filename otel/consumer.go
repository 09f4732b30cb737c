package otel

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	taskrt "github.com/taskgen/taskgen/runtime"
)

// errNotReturned is the error of what panicked or ended its goroutine.
var errNotReturned = errors.New("panic, or call of runtime.Goexit")

// Middleware returns a middleware for [taskrt.ConsumerConfig] that makes a span of each
// attempt. The task gets the span in its context, and the baggage that the run carries. Put
// it before middleware whose spans are to be below that of the attempt.
func Middleware(opts ...Option) taskrt.Middleware {
	o := newObserver(opts)
	return func(next taskrt.Handler) taskrt.Handler {
		return func(ctx context.Context, run *taskrt.Run) error {
			return o.process(ctx, run, next)
		}
	}
}

// process makes a span of an attempt.
func (o *observer) process(ctx context.Context, run *taskrt.Run, next taskrt.Handler) error {
	if len(run.Headers) == 0 && o.idle() {
		return next(ctx, run)
	}
	began := time.Now()
	ctx, span := o.startProcess(ctx, run, began)
	if span.SpanContext().IsValid() {
		carried := o.headers.inject(ctx)
		run.Headers = add(run.Headers, carried) // for a child process
		run.NextHeaders = add(run.NextHeaders, carried)
	}
	err := errNotReturned
	defer func() { o.endProcess(ctx, span, run, began, err) }() // also if next panics
	err = next(ctx, run)
	return err
}

func (o *observer) startProcess(ctx context.Context, run *taskrt.Run, began time.Time) (context.Context, trace.Span) {
	ambient := trace.SpanContextFromContext(ctx)
	ctx, queued := o.headers.extract(ctx, run.Headers)
	var links []trace.Link
	if queued.IsValid() {
		links = append(links, trace.Link{SpanContext: queued})
	}
	if queued.IsValid() && run.Trace == taskrt.TraceChild {
		if ambient.IsValid() {
			links = append(links, trace.Link{SpanContext: ambient})
		}
		ctx = trace.ContextWithRemoteSpanContext(ctx, queued)
	}
	attrs := processOperation.about(ctx, make([]attribute.KeyValue, 0, 12), run.Queue, run.Task)
	attrs = append(attrs, semconv.MessagingMessageID(run.ID), semconv.MessagingMessageConversationID(run.RootID),
		attemptKey.Int(run.Attempt), deliveryKey.Int(run.Delivery))
	if o.old {
		attrs = append(attrs, processOperation.old)
	}
	return o.tracer.Start(ctx, processOperation.spanName(run.Queue), trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithTimestamp(began), trace.WithAttributes(attrs...), trace.WithLinks(links...))
}

func (o *observer) endProcess(ctx context.Context, span trace.Span, run *taskrt.Run, began time.Time, err error) {
	ended := time.Now()
	failure := taskrt.AttemptError(ctx, err)
	switch {
	case failure != nil:
		recordFailure(span, failure)
		span.SetAttributes(outcomeKey.String(outcomeFailure))
	case err != nil:
		span.SetAttributes(outcomeKey.String(outcomeReturned))
	default:
		span.SetAttributes(outcomeKey.String(outcomeSuccess))
	}
	span.End(trace.WithTimestamp(ended))
	if o.metrics != nil {
		o.metrics.processed(ctx, run, ended.Sub(began), failure)
	}
}
