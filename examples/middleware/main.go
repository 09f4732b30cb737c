// Middleware passes a trace id from the caller that queues a run to the run, and
// measures every run.
//
//	go run ./examples/middleware
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	taskrt "github.com/taskgen/taskgen/runtime"
)

//go:generate go tool taskgen

// Hello greets, and queues a greeting back.
//
//task:io
//task:result 1m
func Hello(ctx context.Context, name string, back bool) error {
	fmt.Printf("hello %s, trace %v\n", name, ctx.Value(traceKey{}))
	if back {
		return nil
	}
	handle, err := QueueHello(ctx, "you", true)
	if err != nil {
		return err
	}
	_, err = handle.Wait(ctx)
	return err
}

type traceKey struct{}

// inject copies the trace id from the context to the headers of queued runs.
func inject(next taskrt.QueueHandler) taskrt.QueueHandler {
	return func(ctx context.Context, runs ...*broker.TaskRun) error {
		trace := fmt.Sprint(ctx.Value(traceKey{}))
		for _, run := range runs {
			if run.Headers == nil {
				run.Headers = make(map[string]string)
			}
			run.Headers["trace"] = trace // in addition to its other headers
		}
		return next(ctx, runs...)
	}
}

// extract copies the trace id from the headers to the context.
func extract(next taskrt.Handler) taskrt.Handler {
	return func(ctx context.Context, run *taskrt.Run) error {
		return next(context.WithValue(ctx, traceKey{}, run.Headers["trace"]), run)
	}
}

// measure prints how long each run took.
func measure(next taskrt.Handler) taskrt.Handler {
	return func(ctx context.Context, run *taskrt.Run) error {
		begun := time.Now()
		err := next(ctx, run)
		fmt.Println(run.Task, "took less than a second:", time.Since(begun) < time.Second)
		return err
	}
}

func run() error {
	b := memory.New()
	client := taskrt.NewClient(b, taskrt.ClientConfig{Middleware: []taskrt.QueueMiddleware{inject}})
	consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{Middleware: []taskrt.Middleware{measure, extract}}, Tasks())
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(taskrt.WithClient(context.Background(), client))
	stopped := make(chan error, 1)
	go func() { stopped <- consumer.Run(ctx) }()
	defer func() { stop(); <-stopped }()

	handle, err := QueueHello(context.WithValue(ctx, traceKey{}, "4bf92f35"), "Ada", false)
	if err != nil {
		return err
	}
	_, err = handle.Wait(ctx)
	return err
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "middleware:", err)
		os.Exit(1)
	}
}
