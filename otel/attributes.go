package otel

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/taskgen/taskgen/broker"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// Keys of attributes that the conventions do not have.
const (
	taskKey     = attribute.Key("taskgen.task")
	attemptKey  = attribute.Key("taskgen.attempt")
	deliveryKey = attribute.Key("taskgen.delivery")
	outcomeKey  = attribute.Key("taskgen.outcome")
)

// Values of outcomeKey.
const (
	outcomeSuccess  = "success"
	outcomeFailure  = "failure"
	outcomeReturned = "returned"
)

var system = semconv.MessagingSystemKey.String("taskgen")

// oldOperationKey is that of version 1.24.0, which calls a sent message published.
const oldOperationKey = attribute.Key("messaging.operation")

// operation is an operation of the conventions.
type operation struct {
	name attribute.KeyValue
	typ  attribute.KeyValue
	old  attribute.KeyValue
}

func newOperation(name, old string) operation {
	return operation{semconv.MessagingOperationName(name), semconv.MessagingOperationTypeKey.String(name), oldOperationKey.String(old)}
}

var (
	createOperation  = newOperation("create", "create")
	sendOperation    = newOperation("send", "publish")
	processOperation = newOperation("process", "deliver")
)

// spanName returns the name of a span. A call that queues on several queues has no one
// destination.
func (op operation) spanName(queue string) string {
	if queue == "" {
		return op.name.Value.AsString()
	}
	return op.name.Value.AsString() + " " + queue
}

// about appends what spans and metrics of an operation have in common. Queue and task are
// empty if they are not the same for all runs.
func (op operation) about(ctx context.Context, attrs []attribute.KeyValue, queue, task string) []attribute.KeyValue {
	attrs = append(attrs, system, op.name, op.typ)
	if queue != "" {
		attrs = append(attrs, semconv.MessagingDestinationName(queue))
	}
	if task != "" {
		attrs = append(attrs, taskKey.String(task))
	}
	address, port := taskrt.BrokerServer(ctx)
	if address != "" {
		attrs = append(attrs, semconv.ServerAddress(address))
	}
	if port != 0 {
		attrs = append(attrs, semconv.ServerPort(port))
	}
	return attrs
}

// queueErrors are values of error.type for errors of queueing.
var queueErrors = []struct {
	err  error
	name string
}{
	{taskrt.ErrDuplicate, "duplicate"},
	{taskrt.ErrQueueFull, "queue_full"},
	{taskrt.ErrPayloadTooLarge, "payload_too_large"},
	{taskrt.ErrNotReplicated, "not_replicated"},
	{taskrt.ErrOutcomeUnknown, "outcome_unknown"},
	{broker.ErrClosed, "closed"},
	{context.DeadlineExceeded, "timeout"},
	{context.Canceled, "canceled"},
}

// errorType returns the attribute for an error of queueing.
func errorType(err error) attribute.KeyValue {
	for _, e := range queueErrors {
		if errors.Is(err, e.err) {
			return semconv.ErrorTypeKey.String(e.name)
		}
	}
	return semconv.ErrorType(err)
}

// recordFailure records on a span how an attempt failed. A stack becomes an event, as the
// conventions have it for exceptions.
func recordFailure(span trace.Span, failure *taskrt.RunError) {
	span.SetStatus(codes.Error, failure.Message)
	span.SetAttributes(semconv.ErrorTypeKey.String(string(failure.Kind)))
	if failure.Stack == "" {
		return
	}
	span.AddEvent(semconv.ExceptionEventName, trace.WithAttributes(
		semconv.ExceptionType(string(failure.Kind)), semconv.ExceptionMessage(failure.Message), semconv.ExceptionStacktrace(failure.Stack)))
}
