package main

import (
	"context"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// rawSystem is a bare Redis list with go-redis: no lease and no guarantee, as a
// yardstick.
type rawSystem struct{}

func (rawSystem) name() string { return "go-redis" }

const rawKey = "raw"

type rawProducer struct{ client *goredis.Client }

func (rawSystem) open(_ context.Context, addr string, callers int) (producer, error) {
	return rawProducer{goredis.NewClient(&goredis.Options{Addr: addr, PoolSize: callers + 10})}, nil
}

func (p rawProducer) queue(ctx context.Context, _ work, _ int64) error {
	return p.client.RPush(ctx, rawKey, rawPayload).Err()
}

// queueBatch sends one command with all values.
func (p rawProducer) queueBatch(ctx context.Context, _, size int64) error {
	values := make([]any, size)
	for i := range values {
		values[i] = rawPayload
	}
	return p.client.RPush(ctx, rawKey, values...).Err()
}

func (p rawProducer) close() { p.client.Close() }

// rawPayload is about as large as a stored task.
var rawPayload = make([]byte, 100)

type rawConsumer struct {
	client *goredis.Client
	done   atomic.Int64
	cancel context.CancelFunc
	ended  chan struct{}
}

// consume receives values with BLPOP, one at a time.
func (rawSystem) consume(ctx context.Context, addr string, o consumeOptions) (consumer, error) {
	ctx, cancel := context.WithCancel(ctx)
	c := &rawConsumer{client: goredis.NewClient(&goredis.Options{Addr: addr}), cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		for ctx.Err() == nil {
			if c.client.BLPop(ctx, time.Second, rawKey).Err() != nil {
				continue
			}
			if o.started != nil {
				o.started <- time.Now()
			}
			c.done.Add(1)
		}
	}()
	return c, nil
}

func (c *rawConsumer) handled() int64 { return c.done.Load() }

func (c *rawConsumer) stop() error {
	c.cancel()
	<-c.ended
	return c.client.Close()
}
