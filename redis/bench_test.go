package redis_test

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis"
)

// payload is of the size that comparisons of job queues use.
var payload = make([]byte, 100)

// reportCPU reports what an operation until the returned function's call costs
// the server.
func reportCPU(b *testing.B) func() {
	b.Helper()
	client := raw(b, shared)
	used := func() (total float64) {
		info, err := client.InfoMap(b.Context(), "cpu").Result()
		require.NoError(b, err)
		for _, name := range []string{"used_cpu_user_main_thread", "used_cpu_sys_main_thread"} {
			seconds, err := strconv.ParseFloat(info["CPU"][name], 64)
			require.NoError(b, err)
			total += seconds
		}
		return total
	}
	before := used()
	return func() { b.ReportMetric((used()-before)*1e6/float64(b.N), "redis-µs/op") }
}

func BenchmarkQueueTasks(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			q := open(b, shared, redis.Config{})
			defer reportCPU(b)()
			queueFrom(b, q, callers, b.N)
		})
	}
}

// BenchmarkQueueBatches queues batches of 100 from 8 goroutines; a run is an
// operation.
func BenchmarkQueueBatches(b *testing.B) {
	q := open(b, shared, redis.Config{})
	defer reportCPU(b)()
	var left atomic.Int64
	left.Store(int64(b.N))
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for left.Add(-100) > -100 {
				batch := make([]*broker.TaskRun, 100)
				for i := range batch {
					batch[i] = &broker.TaskRun{ID: fmt.Sprintf("%016d", i), Task: "task", Queue: "q", Payload: payload, QueuedAt: time.Now()}
				}
				if err := q.QueueTasks(b.Context(), batch...); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
}

// queueFrom queues n runs, one a call, from so many goroutines.
func queueFrom(b *testing.B, q *redis.Broker, callers, n int) {
	b.Helper()
	var next atomic.Int64
	var running sync.WaitGroup
	for range callers {
		running.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				r := &broker.TaskRun{ID: fmt.Sprintf("%016d", i), Task: "task", Queue: "q", Payload: payload, QueuedAt: time.Now()}
				if err := q.QueueTasks(b.Context(), r); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
}

func BenchmarkTakeFinish(b *testing.B) {
	for _, batch := range []int{1, 64} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			q := open(b, shared, redis.Config{})
			for left := b.N; left > 0; left -= 1000 {
				require.NoError(b, q.QueueTasks(b.Context(), runs("q", min(left, 1000))...))
			}
			s := join(b, q, time.Minute)
			defer reportCPU(b)()
			b.ResetTimer()
			for left := b.N; left > 0; {
				got, err := s.Take(b.Context(), broker.Want{Queues: []string{"q"}, IO: batch})
				require.NoError(b, err)
				_, err = s.Finish(b.Context(), succeeded(got)...)
				require.NoError(b, err)
				left -= len(got)
			}
		})
	}
}

// BenchmarkWake measures from the queueing of a run to its arrival at a
// consumer that was blocked, and back.
func BenchmarkWake(b *testing.B) {
	q := open(b, shared, redis.Config{})
	s := join(b, q, time.Minute)
	back := make(chan error)
	go func() {
		defer close(back)
		for range b.N {
			got, err := s.Take(b.Context(), broker.Want{Queues: []string{"q"}, IO: 1})
			if err == nil {
				_, err = s.Finish(b.Context(), succeeded(got)...)
			}
			back <- err
		}
	}()
	for range b.N {
		require.NoError(b, q.QueueTasks(b.Context(), run("id", "q")))
		require.NoError(b, <-back)
	}
	<-back
}
