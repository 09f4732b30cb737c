// Progress copies files, reports its progress, and is cancelled half-way.
//
//	go run ./examples/progress
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

// Copy copies files, ten a second.
//
//task:io
//task:result 1m
func Copy(ctx context.Context, files int64) error {
	for n := range files {
		taskrt.Progress(ctx, n, files, fmt.Sprintf("file-%d", n))
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func run() error {
	b := memory.New()
	consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{Logger: slog.New(slog.DiscardHandler)}, Tasks())
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(taskrt.WithClient(context.Background(), taskrt.NewClient(b, taskrt.ClientConfig{})))
	stopped := make(chan error, 1)
	go func() { stopped <- consumer.Run(ctx) }()
	defer func() { stop(); <-stopped }()

	handle, err := QueueCopy(ctx, 30)
	if err != nil {
		return err
	}
	for {
		status, err := handle.Status(ctx)
		if err != nil {
			return err
		}
		p := status.Progress
		fmt.Printf("%s: %d of %d %s\n", status.State, p.Done, p.Total, p.Note)
		if p.Done >= 15 {
			break
		}
		time.Sleep(500 * time.Millisecond)
	}
	if err := handle.Cancel(ctx); err != nil {
		return err
	}
	_, err = handle.Wait(ctx)
	fmt.Println("cancelled:", errors.Is(err, taskrt.ErrCancelled))
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "progress:", err)
		os.Exit(1)
	}
}
