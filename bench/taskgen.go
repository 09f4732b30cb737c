package main

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/taskgen/taskgen/bench/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

type taskgenSystem struct{}

func (taskgenSystem) name() string { return "taskgen" }

func (taskgenSystem) steady(ctx context.Context, addr string, producers, concurrency int, d time.Duration) (int64, time.Duration, error) {
	b, err := taskrt.Open(ctx, "redis://"+addr)
	if err != nil {
		return 0, 0, err
	}
	defer b.(io.Closer).Close()
	counter := &tasks.Counter{}
	logger := slog.New(slog.DiscardHandler)
	consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{Concurrency: concurrency, Logger: logger}, tasks.Tasks(counter))
	if err != nil {
		return 0, 0, err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- consumer.Run(running) }()
	ctx = taskrt.WithClient(ctx, taskrt.NewClient(b, taskrt.ClientConfig{}))
	id := [16]byte{1, 2, 3}
	n, took, err := keepBusy(ctx, producers, d, &counter.Done, func(ctx context.Context, n int64) error {
		_, err := tasks.QueueCounterNoop(ctx, id, int(n))
		return err
	})
	stop()
	if stopErr := <-ended; err == nil {
		err = stopErr
	}
	return n, took, err
}
