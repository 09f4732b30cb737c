package main

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
)

// asynqSystem is github.com/hibiken/asynq with what its documentation names for
// throughput: a pool as large as the number of callers, no retention unless
// asked for, a quiet log.
type asynqSystem struct{}

func (asynqSystem) name() string { return "asynq" }

func asynqRedis(addr string, callers int) asynq.RedisClientOpt {
	return asynq.RedisClientOpt{Addr: addr, PoolSize: callers + 10}
}

type asynqProducer struct{ client *asynq.Client }

func (asynqSystem) open(_ context.Context, addr string, callers int) (producer, error) {
	return asynqProducer{asynq.NewClient(asynqRedis(addr, callers))}, nil
}

// asynqTask carries the same id and number in 24 bytes.
func asynqTask(n int64, opts ...asynq.Option) *asynq.Task {
	payload := append(make([]byte, 0, 24), benchID[:]...)
	return asynq.NewTask("counter_noop", binary.BigEndian.AppendUint64(payload, uint64(n)), opts...)
}

func (p asynqProducer) queue(ctx context.Context, n int64) error {
	_, err := p.client.EnqueueContext(ctx, asynqTask(n))
	return err
}

func (p asynqProducer) queueKept(ctx context.Context, n int64) error {
	_, err := p.client.EnqueueContext(ctx, asynqTask(n, asynq.Retention(time.Hour)))
	return err
}

// queueBatch is one call a task: this version has no other.
func (p asynqProducer) queueBatch(ctx context.Context, n, size int64) error {
	for i := range size {
		if err := p.queue(ctx, n+i); err != nil {
			return err
		}
	}
	return nil
}

func (p asynqProducer) close() { p.client.Close() }

type asynqConsumer struct {
	server *asynq.Server
	done   atomic.Int64
}

func (asynqSystem) consume(_ context.Context, addr string, o consumeOptions) (consumer, error) {
	queues := make(map[string]int)
	for i := range o.queues {
		queues[queueName(i)] = 1
	}
	c := &asynqConsumer{server: asynq.NewServer(asynqRedis(addr, o.slots), asynq.Config{
		Concurrency: o.slots, Queues: queues, LogLevel: asynq.FatalLevel,
	})}
	mux := asynq.NewServeMux()
	mux.HandleFunc("counter_noop", func(context.Context, *asynq.Task) error {
		if o.started != nil {
			o.started <- time.Now()
		}
		c.done.Add(1)
		return nil
	})
	return c, c.server.Start(mux)
}

func (c *asynqConsumer) handled() int64 { return c.done.Load() }

func (c *asynqConsumer) stop() error {
	c.server.Shutdown()
	return nil
}
