package otel

import (
	"context"
	"time"

	otelapi "go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	taskrt "github.com/taskgen/taskgen/runtime"
)

// buckets are those that the conventions advise, in seconds.
var buckets = metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

// metrics are the instruments of the conventions.
type metrics struct {
	operationTime, processTime metric.Float64Histogram
	sentRuns, takenRuns        metric.Int64Counter

	// Of version 1.24.0; nil: not asked for.
	oldSendTime, oldProcessTime metric.Float64Histogram
	oldSent, oldTaken           metric.Int64Counter
}

func newMetrics(p metric.MeterProvider, old bool) *metrics {
	meter := p.Meter(scope, metric.WithSchemaURL(SchemaURL))
	m := &metrics{
		operationTime: histogram(meter, "messaging.client.operation.duration", "Duration of messaging operation initiated by a producer or consumer client."),
		processTime:   histogram(meter, "messaging.process.duration", "Duration of processing operation."),
		sentRuns:      counter(meter, "messaging.client.sent.messages", "Number of messages producer attempted to send to the broker."),
		takenRuns:     counter(meter, "messaging.client.consumed.messages", "Number of messages that were delivered to the application."),
	}
	if old {
		m.oldSendTime = histogram(meter, "messaging.publish.duration", "Measures the duration of publish operation.")
		m.oldProcessTime = histogram(meter, "messaging.deliver.duration", "Measures the duration of deliver operation.")
		m.oldSent = counter(meter, "messaging.publish.messages", "Measures the number of published messages.")
		m.oldTaken = counter(meter, "messaging.deliver.messages", "Measures the number of delivered messages.")
	}
	return m
}

func histogram(meter metric.Meter, name, description string) metric.Float64Histogram {
	h, err := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description), buckets)
	if err != nil {
		otelapi.Handle(err)
		return noop.Float64Histogram{}
	}
	return h
}

func counter(meter metric.Meter, name, description string) metric.Int64Counter {
	c, err := meter.Int64Counter(name, metric.WithUnit("{message}"), metric.WithDescription(description))
	if err != nil {
		otelapi.Handle(err)
		return noop.Int64Counter{}
	}
	return c
}

// sent records a call that queued runs.
func (m *metrics) sent(ctx context.Context, s *sending, took time.Duration, err error) {
	var failed []attribute.KeyValue
	if err != nil {
		failed = append(failed, errorType(err))
	}
	all := metric.WithAttributeSet(attribute.NewSet(append(sendOperation.about(ctx, nil, s.queue, s.task), failed...)...))
	m.operationTime.Record(ctx, took.Seconds(), all)
	if m.oldSendTime != nil {
		m.oldSendTime.Record(ctx, took.Seconds(), all)
	}
	type of struct{ queue, task string }
	runs := map[of]int64{{s.queue, s.task}: int64(s.first)}
	if s.queue == "" || s.task == "" {
		clear(runs)
		for _, run := range s.runs[:s.first] {
			runs[of{run.Queue, run.Task}]++
		}
	}
	for of, n := range runs {
		set := metric.WithAttributeSet(attribute.NewSet(append(sendOperation.about(ctx, nil, of.queue, of.task), failed...)...))
		m.sentRuns.Add(ctx, n, set)
		if m.oldSent != nil {
			m.oldSent.Add(ctx, n, set)
		}
	}
}

// processed records an attempt.
func (m *metrics) processed(ctx context.Context, run *taskrt.Run, took time.Duration, failure *taskrt.RunError) {
	attrs := processOperation.about(ctx, nil, run.Queue, run.Task)
	if failure != nil {
		attrs = append(attrs, semconv.ErrorTypeKey.String(string(failure.Kind)))
	}
	set := metric.WithAttributeSet(attribute.NewSet(attrs...))
	m.processTime.Record(ctx, took.Seconds(), set)
	m.takenRuns.Add(ctx, 1, set)
	if m.oldTaken != nil {
		m.oldProcessTime.Record(ctx, took.Seconds(), set)
		m.oldTaken.Add(ctx, 1, set)
	}
}
