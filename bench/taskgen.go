package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/taskgen/taskgen/bench/tasks"
	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/metrics"
	"github.com/taskgen/taskgen/redis"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// taskgenSystem is this project, with its defaults.
type taskgenSystem struct {
	embedded broker.Broker     // used instead of the server unless nil
	pooled   bool              // all commands go through go-redis's pool
	metrics  *metrics.Recorder // counts what producers and consumers do; nil: nobody does
}

func (s taskgenSystem) name() string {
	switch {
	case s.pooled:
		return "taskgen, go-redis's pool"
	case s.metrics != nil:
		return "taskgen, with metrics"
	}
	return "taskgen"
}

// connect returns a broker and a function that closes it.
func (s taskgenSystem) connect(ctx context.Context, addr string) (broker.Broker, func(), error) {
	if s.embedded != nil {
		return s.embedded, func() {}, nil // shared by producers and consumer
	}
	if s.pooled {
		client := pooledClient(addr)
		b, err := redis.New(client, redis.Config{})
		if err != nil {
			return nil, nil, err
		}
		return b, func() { b.Close(); client.Close() }, nil
	}
	b, err := brokerurl.Open(ctx, "redis://"+addr)
	if err != nil {
		return nil, nil, err
	}
	return b, func() { b.(io.Closer).Close() }, nil
}

type taskgenProducer struct {
	client *taskrt.Client
	closer func()
}

// benchID is the 16-byte id of every noop.
var benchID = [16]byte{0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}

func (s taskgenSystem) open(ctx context.Context, addr string, _ int) (producer, error) {
	b, closer, err := s.connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	cfg := taskrt.ClientConfig{}
	if s.metrics != nil {
		cfg.Middleware = append(cfg.Middleware, s.metrics.QueueMiddleware)
	}
	return &taskgenProducer{taskrt.NewClient(b, cfg), closer}, nil
}

func (p *taskgenProducer) queue(ctx context.Context, w work, n int64) error {
	ctx = taskrt.WithClient(ctx, p.client)
	var err error
	switch w {
	case kept:
		_, err = tasks.QueueCounterKept(ctx, benchID, int(n))
	case blob:
		_, err = tasks.QueueCounterBlob(ctx, make([]byte, blobData))
	default:
		_, err = tasks.QueueCounterNoop(ctx, benchID, int(n))
	}
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

func (p *taskgenProducer) close() { p.closer() }

type taskgenConsumer struct {
	counter *tasks.Counter
	cancel  context.CancelFunc
	ended   chan error
	closer  func()
}

func (s taskgenSystem) consume(ctx context.Context, addr string, o consumeOptions) (consumer, error) {
	return s.serve(ctx, addr, o, &tasks.Counter{Started: o.started})
}

// serve starts a consumer that counts in counter.
func (s taskgenSystem) serve(ctx context.Context, addr string, o consumeOptions, counter *tasks.Counter) (consumer, error) {
	b, closer, err := s.connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	cfg := taskrt.ConsumerConfig{Concurrency: o.slots, Processes: o.processes, Logger: slog.New(slog.DiscardHandler), Queues: make(map[string]int)}
	for i := range o.queues {
		cfg.Queues[queueName(i)] = 1
	}
	if s.metrics != nil {
		cfg.Observers = append(cfg.Observers, s.metrics)
	}
	c, err := taskrt.NewConsumer(b, cfg, tasks.Tasks(counter))
	if err != nil {
		closer()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	return &taskgenConsumer{counter, cancel, ended, closer}, nil
}

func (c *taskgenConsumer) handled() int64 { return c.counter.Done.Load() }

func (c *taskgenConsumer) stop() error {
	c.cancel()
	err := <-c.ended
	c.closer()
	return err
}

// queueName returns the name of a queue; the first is both systems' default.
func queueName(i int) string {
	if i == 0 {
		return taskrt.DefaultQueue
	}
	return fmt.Sprintf("queue%d", i)
}
