package otel

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/taskgen/taskgen/broker"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// QueueMiddleware returns a middleware for [taskrt.ClientConfig] that makes a span of each
// call which queues runs, and writes its context to their headers. The runs that follow
// others and the members of groups get it too. A run that has a context in its headers
// already keeps it, and the span links to it.
//
// The error of a call is the span's. Its error.type is duplicate, queue_full,
// payload_too_large, not_replicated, outcome_unknown, closed, timeout or canceled, and the Go
// type of any other error.
func QueueMiddleware(opts ...Option) taskrt.QueueMiddleware {
	o := newObserver(opts)
	return func(next taskrt.QueueHandler) taskrt.QueueHandler {
		return func(ctx context.Context, runs ...*broker.TaskRun) error {
			return o.queue(ctx, next, runs)
		}
	}
}

// sending is a call that queues runs, on its way.
type sending struct {
	observer *observer
	began    time.Time
	runs     []*broker.TaskRun
	first    int    // of runs, so many are queued by the call; the others are within them
	queue    string // of all runs; empty: there are several
	task     string // likewise
	span     trace.Span
}

func (o *observer) queue(ctx context.Context, next taskrt.QueueHandler, runs []*broker.TaskRun) error {
	if len(runs) == 0 || o.idle() {
		o.pass(ctx, runs)
		return next(ctx, runs...)
	}
	s := &sending{observer: o, began: time.Now(), runs: runs, first: countQueued(runs), queue: runs[0].Queue, task: runs[0].Task}
	for _, run := range runs[1:s.first] {
		if run.Queue != s.queue {
			s.queue = ""
		}
		if run.Task != s.task {
			s.task = ""
		}
	}
	ctx = s.start(ctx)
	err := errNotReturned
	defer func() { s.end(ctx, err) }() // also if next panics
	err = next(ctx, runs...)
	return err
}

// pass writes ctx to the headers of runs that have none of its headers.
func (o *observer) pass(ctx context.Context, runs []*broker.TaskRun) {
	carried := o.headers.inject(ctx)
	for _, run := range runs {
		if _, own := o.headers.extract(ctx, run.Headers); !own.IsValid() {
			run.Headers = add(run.Headers, carried)
		}
	}
}

// countQueued returns how many of the runs are not within others. Those within follow behind.
func countQueued(runs []*broker.TaskRun) int {
	within := 0
	for i := 0; i < len(runs)-within; i++ {
		if runs[i].Links != nil {
			within += countWithin(runs[i])
		}
	}
	return max(len(runs)-within, 1)
}

func countWithin(run *broker.TaskRun) (n int) {
	links := run.Links.OrZero()
	for _, m := range links.Members {
		n += 1 + countWithin(m)
	}
	for _, f := range links.Then {
		n += 1 + countWithin(f.Run)
	}
	return n
}

// start starts the span and writes its context, or those of create spans, to the runs.
func (s *sending) start(ctx context.Context) context.Context {
	o := s.observer
	var links []trace.Link
	bare := make([]*broker.TaskRun, 0, len(s.runs)) // without a context of their own
	for _, run := range s.runs {
		_, own := o.headers.extract(ctx, run.Headers)
		if own.IsValid() {
			links = append(links, trace.Link{SpanContext: own})
			continue
		}
		bare = append(bare, run)
	}
	kind := trace.SpanKindProducer
	switch {
	case o.createSpans && s.first > 1:
		kind = trace.SpanKindClient
		links = append(links, s.create(ctx, bare)...)
		bare = nil
	case len(bare) == 0:
		kind = trace.SpanKindClient // the runs do not get its context
	}
	ctx, s.span = o.tracer.Start(ctx, sendOperation.spanName(s.queue),
		trace.WithSpanKind(kind), trace.WithTimestamp(s.began), trace.WithAttributes(s.attributes(ctx)...), trace.WithLinks(links...))
	if len(bare) > 0 {
		o.pass(ctx, bare)
	}
	return ctx
}

// create makes a create span for each run, and writes its context to the run.
func (s *sending) create(ctx context.Context, runs []*broker.TaskRun) []trace.Link {
	links := make([]trace.Link, 0, len(runs))
	for _, run := range runs {
		attrs := createOperation.about(ctx, make([]attribute.KeyValue, 0, 9), run.Queue, run.Task)
		attrs = append(attrs, semconv.MessagingMessageID(run.ID))
		if s.observer.old {
			attrs = append(attrs, createOperation.old)
		}
		created, span := s.observer.tracer.Start(ctx, createOperation.spanName(run.Queue),
			trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(attrs...))
		run.Headers = add(run.Headers, s.observer.headers.inject(created))
		span.End()
		links = append(links, trace.Link{SpanContext: span.SpanContext()})
	}
	return links
}

func (s *sending) attributes(ctx context.Context) []attribute.KeyValue {
	attrs := sendOperation.about(ctx, make([]attribute.KeyValue, 0, 10), s.queue, s.task)
	if s.first == 1 {
		run := s.runs[0]
		attrs = append(attrs, semconv.MessagingMessageID(run.ID), semconv.MessagingMessageConversationID(rootOf(run)))
	} else {
		attrs = append(attrs, semconv.MessagingBatchMessageCount(s.first))
	}
	if s.observer.old {
		attrs = append(attrs, sendOperation.old)
	}
	return attrs
}

// rootOf returns the id that a run has in common with all that it leads to.
func rootOf(run *broker.TaskRun) string {
	if run.RootID == "" {
		return run.ID
	}
	return run.RootID
}

func (s *sending) end(ctx context.Context, err error) {
	ended := time.Now()
	if err != nil {
		s.span.SetStatus(codes.Error, err.Error())
		s.span.SetAttributes(errorType(err))
	}
	s.span.End(trace.WithTimestamp(ended))
	if s.observer.metrics != nil {
		s.observer.metrics.sent(ctx, s, ended.Sub(s.began), err)
	}
}
