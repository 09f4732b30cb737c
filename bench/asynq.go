package main

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
)

// asynqSystem is github.com/hibiken/asynq. Unless its defaults are measured, it has
// the settings that its documentation recommends for throughput: as many workers as
// the other systems, a pool as large as the number of callers, and a short poll
// interval instead of a second.
type asynqSystem struct{ defaults bool }

// asynqCheck is the poll interval; asynq warns that a shorter one loads the server.
const asynqCheck = 10 * time.Millisecond

func (s asynqSystem) name() string {
	if s.defaults {
		return "asynq, defaults"
	}
	return "asynq"
}

func (s asynqSystem) redis(addr string, callers int) asynq.RedisClientOpt {
	opt := asynq.RedisClientOpt{Addr: addr}
	if !s.defaults {
		opt.PoolSize = callers + 10
	}
	return opt
}

type asynqProducer struct{ client *asynq.Client }

func (s asynqSystem) open(_ context.Context, addr string, callers int) (producer, error) {
	return asynqProducer{asynq.NewClient(s.redis(addr, callers))}, nil
}

// asynqTask returns a task as large as the other systems': the id and the number in
// 24 bytes, or a payload of the blob's size.
func asynqTask(w work, n int64) *asynq.Task {
	payload := make([]byte, blobSize)
	if w != blob {
		payload = append(payload[:0], benchID[:]...)
		payload = binary.BigEndian.AppendUint64(payload, uint64(n))
	}
	var opts []asynq.Option
	if w == kept {
		opts = append(opts, asynq.Retention(time.Hour))
	}
	return asynq.NewTask("counter_noop", payload, opts...)
}

func (p asynqProducer) queue(ctx context.Context, w work, n int64) error {
	_, err := p.client.EnqueueContext(ctx, asynqTask(w, n))
	return err
}

// queueBatch queues one task a call, because this version of asynq has no batches.
func (p asynqProducer) queueBatch(ctx context.Context, n, size int64) error {
	for i := range size {
		if err := p.queue(ctx, noop, n+i); err != nil {
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

func (s asynqSystem) consume(_ context.Context, addr string, o consumeOptions) (consumer, error) {
	cfg := asynq.Config{Queues: make(map[string]int), LogLevel: asynq.FatalLevel}
	for i := range o.queues {
		cfg.Queues[queueName(i)] = 1
	}
	if !s.defaults {
		cfg.Concurrency, cfg.TaskCheckInterval = o.slots, asynqCheck
	}
	c := &asynqConsumer{server: asynq.NewServer(s.redis(addr, o.slots), cfg)}
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
