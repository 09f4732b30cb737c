package main

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
)

// asynqSystem is github.com/hibiken/asynq with what its documentation names for
// throughput: concurrency, a pool as large as the number of callers, no
// retention, a quiet log.
type asynqSystem struct{}

func (asynqSystem) name() string { return "asynq" }

func (asynqSystem) steady(ctx context.Context, addr string, producers, concurrency int, d time.Duration) (int64, time.Duration, error) {
	redis := asynq.RedisClientOpt{Addr: addr, PoolSize: max(producers, concurrency) + 10}
	var handled atomic.Int64
	server := asynq.NewServer(redis, asynq.Config{Concurrency: concurrency, LogLevel: asynq.FatalLevel})
	mux := asynq.NewServeMux()
	mux.HandleFunc("noop", func(context.Context, *asynq.Task) error {
		handled.Add(1)
		return nil
	})
	if err := server.Start(mux); err != nil {
		return 0, 0, err
	}
	defer server.Shutdown()
	client := asynq.NewClient(redis)
	defer client.Close()
	return keepBusy(ctx, producers, d, &handled, func(ctx context.Context, n int64) error {
		payload := make([]byte, 24) // the same 16-byte id and number
		binary.BigEndian.PutUint64(payload[16:], uint64(n))
		_, err := client.EnqueueContext(ctx, asynq.NewTask("noop", payload))
		return err
	})
}
