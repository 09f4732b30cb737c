// Tracing sends the spans of its runs, also those of child processes, to an OpenTelemetry
// collector: by OTLP over HTTP, to $OTEL_EXPORTER_OTLP_ENDPOINT, which defaults to
// http://localhost:4318.
//
//	go run ./examples/tracing serve
package main

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	taskotel "github.com/taskgen/taskgen/otel"
	taskrt "github.com/taskgen/taskgen/runtime"
	"github.com/taskgen/taskgen/runtime/taskapp"
)

//go:generate go tool taskgen
//go:generate go tool taskgen -client api

// Collect looks for new pictures every minute.
//
//task:io
//task:every 1m start
func Collect(ctx context.Context) error {
	taskrt.Logger(ctx).Info("found a picture")
	_, err := taskrt.Then(CallResize("cat.png"), NextPublish()).Queue(ctx)
	return err
}

// Resize makes a picture smaller, in a child process.
//
//task:cpu
func Resize(ctx context.Context, picture string) (string, error) {
	_, span := otel.Tracer("pictures").Start(ctx, "shrink")
	defer span.End()
	return "small-" + picture, nil
}

// Publish puts a picture on the site, in the trace of the run before it.
//
//task:io
//task:trace child
func Publish(ctx context.Context, picture string) error {
	taskrt.Logger(ctx).Info("published", "picture", picture)
	return nil
}

// newApp returns the program. Each process, also a child, sets up its exporter in Start.
func newApp() *taskapp.App {
	var provider *sdktrace.TracerProvider
	return &taskapp.App{
		Client: taskrt.ClientConfig{Middleware: []taskrt.QueueMiddleware{taskotel.QueueMiddleware()}},
		Consumer: taskrt.ConsumerConfig{
			Middleware: []taskrt.Middleware{taskotel.Middleware()},
			Children:   taskrt.ChildConfig{Middleware: []taskrt.Middleware{taskotel.ChildMiddleware()}},
		},
		LogHandler: taskotel.LogHandler,
		Start: func(ctx context.Context) error {
			exporter, err := otlptracehttp.New(ctx)
			if err != nil {
				return err
			}
			provider = sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter))
			otel.SetTracerProvider(provider)
			return nil
		},
		Stop: func(ctx context.Context) error { return provider.Shutdown(ctx) },
	}
}

func main() { newApp().Main(Tasks()) }
