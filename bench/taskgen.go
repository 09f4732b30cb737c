package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/taskgen/taskgen/bench/tasks"
	"github.com/taskgen/taskgen/broker"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// taskgenSystem is this project, with its defaults.
type taskgenSystem struct{}

func (taskgenSystem) name() string { return "taskgen" }

type taskgenProducer struct {
	broker broker.Broker
	client *taskrt.Client
}

// benchID is the 16-byte id that every task carries.
var benchID = [16]byte{0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}

func (taskgenSystem) open(ctx context.Context, addr string, _ int) (producer, error) {
	b, err := taskrt.Open(ctx, "redis://"+addr)
	if err != nil {
		return nil, err
	}
	return &taskgenProducer{b, taskrt.NewClient(b, taskrt.ClientConfig{})}, nil
}

func (p *taskgenProducer) queue(ctx context.Context, n int64) error {
	_, err := tasks.QueueCounterNoop(taskrt.WithClient(ctx, p.client), benchID, int(n))
	return err
}

func (p *taskgenProducer) queueKept(ctx context.Context, n int64) error {
	_, err := tasks.QueueCounterKept(taskrt.WithClient(ctx, p.client), benchID, int(n))
	return err
}

func (p *taskgenProducer) queueBatch(ctx context.Context, n, size int64) error {
	params := make([]tasks.CounterNoopParams, size)
	for i := range params {
		params[i] = tasks.CounterNoopParams{ID: benchID, N: int(n) + i}
	}
	_, err := tasks.QueueCounterNoopBatch(taskrt.WithClient(ctx, p.client), params)
	return err
}

func (p *taskgenProducer) close() { p.broker.(io.Closer).Close() }

type taskgenConsumer struct {
	broker  broker.Broker
	counter *tasks.Counter
	cancel  context.CancelFunc
	ended   chan error
}

func (taskgenSystem) consume(ctx context.Context, addr string, o consumeOptions) (consumer, error) {
	b, err := taskrt.Open(ctx, "redis://"+addr)
	if err != nil {
		return nil, err
	}
	counter := &tasks.Counter{Started: o.started}
	cfg := taskrt.ConsumerConfig{Concurrency: o.slots, Logger: slog.New(slog.DiscardHandler), Queues: make(map[string]int)}
	for i := range o.queues {
		cfg.Queues[queueName(i)] = 1
	}
	c, err := taskrt.NewConsumer(b, cfg, tasks.Tasks(counter))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	return &taskgenConsumer{b, counter, cancel, ended}, nil
}

func (c *taskgenConsumer) handled() int64 { return c.counter.Done.Load() }

func (c *taskgenConsumer) stop() error {
	c.cancel()
	err := <-c.ended
	c.broker.(io.Closer).Close()
	return err
}

// queueName names the queues: the first is both systems' default.
func queueName(i int) string {
	if i == 0 {
		return "default"
	}
	return fmt.Sprintf("queue%d", i)
}
