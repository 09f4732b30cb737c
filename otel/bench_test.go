package otel_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/taskgen/taskgen/broker"
	taskotel "github.com/taskgen/taskgen/otel"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// BenchmarkMiddleware has an attempt and a queued run pass with spans, and in a program that
// has set no provider.
func BenchmarkMiddleware(b *testing.B) {
	provider := taskotel.WithTracerProvider(trace.NewTracerProvider())
	b.Run("attempt", func(b *testing.B) { benchmarkAttempt(b, provider) })
	b.Run("attempt/no provider", func(b *testing.B) { benchmarkAttempt(b) })
	b.Run("queue", func(b *testing.B) { benchmarkQueue(b, provider) })
	b.Run("queue/no provider", func(b *testing.B) { benchmarkQueue(b) })
}

func benchmarkAttempt(b *testing.B, opts ...taskotel.Option) {
	handler := taskotel.Middleware(opts...)(func(context.Context, *taskrt.Run) error { return nil })
	b.ReportAllocs()
	for b.Loop() {
		_ = handler(context.Background(), &taskrt.Run{ID: "1", Task: "t", Queue: "q", Attempt: 1, RootID: "1"})
	}
}

func benchmarkQueue(b *testing.B, opts ...taskotel.Option) {
	handler := taskotel.QueueMiddleware(opts...)(func(context.Context, ...*broker.TaskRun) error { return nil })
	run := &broker.TaskRun{ID: "1", Task: "t", Queue: "q"}
	b.ReportAllocs()
	for b.Loop() {
		run.Headers = nil
		_ = handler(context.Background(), run)
	}
}
