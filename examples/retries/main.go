// Retries calls a service that is busy, then broken, then well, and one that refuses.
// The error that a task returns decides on its next attempt.
//
//	go run ./examples/retries
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/taskgen/taskgen/broker/memory"
	taskrt "github.com/taskgen/taskgen/runtime"
)

//go:generate go tool taskgen

// Call calls a service.
//
//task:io
//task:retry 5 backoff=100ms..1s
//task:timeout 2s
//task:result 1m
func Call(ctx context.Context, service string) error {
	run, _ := taskrt.CurrentRun(ctx)
	switch {
	case service == "closed":
		return taskrt.Permanent(errors.New("it says no")) // no further attempt
	case run.Attempt == 1:
		return taskrt.RetryAfter(300*time.Millisecond, errors.New("it is busy")) // the next attempt after that time
	case run.Attempt == 2:
		return errors.New("it is broken") // the next attempt by the policy
	}
	return nil
}

// say prints the starts and ends of runs. A consumer's log has more.
func say(e taskrt.Event) {
	if e.Kind == taskrt.RunRecorded {
		return
	}
	line := fmt.Sprintf("attempt %d %s", e.Run.Attempt, e.Kind)
	if e.Err != nil {
		line += ": " + e.Err.Message
	}
	fmt.Println(line)
}

func run() error {
	b := memory.New()
	consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{OnEvent: say, Logger: slog.New(slog.DiscardHandler)}, Tasks())
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(taskrt.WithClient(context.Background(), taskrt.NewClient(b, taskrt.ClientConfig{})))
	stopped := make(chan error, 1)
	go func() { stopped <- consumer.Run(ctx) }()
	defer func() { stop(); <-stopped }()

	for _, service := range []string{"open", "closed"} {
		handle, err := QueueCall(ctx, service)
		if err != nil {
			return err
		}
		_, err = handle.Wait(ctx)
		var failure *taskrt.RunError
		if errors.As(err, &failure) {
			fmt.Println(service, "is a dead letter:", failure.Message)
		} else if err != nil {
			return err
		}
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "retries:", err)
		os.Exit(1)
	}
}
