package otel_test

import (
	"context"
	"fmt"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/examples/shop/tasks"
	taskotel "github.com/taskgen/taskgen/otel"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// A run and the call that queued it are two spans, joined by a link. Here they are kept in
// memory; examples/tracing sends them to a collector.
func Example() {
	exporter := tracetest.NewInMemoryExporter()
	provider := taskotel.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)))

	b := memory.New()
	client := taskrt.NewClient(b, taskrt.ClientConfig{
		Middleware: []taskrt.QueueMiddleware{taskotel.QueueMiddleware(provider)},
	})
	consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{
		Middleware: []taskrt.Middleware{taskotel.Middleware(provider)},
	}, tasks.Tasks())
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(taskrt.WithClient(context.Background(), client))
	stopped := make(chan error, 1)
	go func() { stopped <- consumer.Run(ctx) }()

	if handle, err := tasks.QueueCharge(ctx, "1001", 4200); err == nil {
		_, _ = handle.Wait(ctx)
	}
	stop()
	fmt.Println(<-stopped)
	for _, span := range exporter.GetSpans() {
		fmt.Println(span.Name, span.SpanKind, len(span.Links), "links")
	}
	// Output:
	// <nil>
	// send payments producer 0 links
	// process payments consumer 1 links
}
