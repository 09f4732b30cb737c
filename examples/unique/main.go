// Unique rebuilds the index of a shop on request. While a rebuild is queued or
// running, a second one of the same shop is refused.
//
//	go run ./examples/unique
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/taskgen/taskgen/broker/memory"
	taskrt "github.com/taskgen/taskgen/runtime"
)

//go:generate go tool taskgen

// Rebuild rebuilds the index of a shop. The reason does not count for uniqueness.
//
//task:io
//task:unique 10m by=shop
//task:result 1m
func Rebuild(ctx context.Context, shop, why string) error {
	fmt.Println("rebuilding", shop, "because of", why)
	return nil
}

func run() error {
	b := memory.New()
	ctx, stop := context.WithCancel(taskrt.WithClient(context.Background(), taskrt.NewClient(b, taskrt.ClientConfig{})))
	defer stop()
	first, err := QueueRebuild(ctx, "toys", "a new price")
	if err != nil {
		return err
	}
	second, err := QueueRebuild(ctx, "toys", "another price")
	fmt.Println("refused:", errors.Is(err, taskrt.ErrDuplicate), "- the same run:", second.ID == first.ID)
	_, err = QueueRebuildBatch(ctx, []RebuildParams{{"books", "a new author"}, {"toys", "a new toy"}})
	var duplicates *taskrt.DuplicateError
	if errors.As(err, &duplicates) {
		fmt.Println("a batch is queued whole or not at all; in its way:", len(duplicates.Runs))
	}

	consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{}, Tasks())
	if err != nil {
		return err
	}
	stopped := make(chan error, 1)
	go func() { stopped <- consumer.Run(ctx) }()
	defer func() { stop(); <-stopped }()
	if _, err := second.Wait(ctx); err != nil { // waits for the first run
		return err
	}
	third, err := QueueRebuild(ctx, "toys", "a late price")
	if err != nil {
		return err
	}
	_, err = third.Wait(ctx)
	return err
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "unique:", err)
		os.Exit(1)
	}
}
