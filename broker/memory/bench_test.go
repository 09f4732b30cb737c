package memory_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
)

// payloadSize is that of a small message with its parameters.
const payloadSize = 100

func benchRuns(n int) []*broker.TaskRun {
	payload := make([]byte, payloadSize)
	return newRuns(n, func(r *broker.TaskRun) { r.Payload, r.QueuedAt = payload, time.Now() })
}

// BenchmarkQueue queues runs in batches and takes them for good now and then,
// outside the time measured. An operation is one run.
func BenchmarkQueue(b *testing.B) {
	for _, batch := range []int{1, 64, 1000} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			m := open(b, memory.Config{})
			runs := benchRuns(batch)
			b.ReportAllocs()
			queued := 0
			for done := 0; done < b.N; done += batch {
				if err := m.QueueTasks(b.Context(), runs...); err != nil {
					b.Fatal(err)
				}
				if queued += batch; queued >= 100_000 {
					b.StopTimer()
					drain(b, m, queued)
					queued = 0
					b.StartTimer()
				}
			}
		})
	}
}

func drain(b *testing.B, m *memory.Broker, n int) {
	for n > 0 {
		runs, err := m.GetTaskRuns(b.Context(), []string{"q"}, n)
		if err != nil {
			b.Fatal(err)
		}
		n -= len(runs)
	}
}

// BenchmarkTakeFinish leases and finishes runs in batches; they are queued
// outside the time measured. An operation is one run.
func BenchmarkTakeFinish(b *testing.B) {
	for _, batch := range []int{1, 64, 1000} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			const stock = 100_000
			m := open(b, memory.Config{})
			s := join(b, m, time.Minute)
			runs := benchRuns(1000)
			room := broker.Want{Queues: []string{"q"}, IO: batch, CPU: batch}
			b.ReportAllocs()
			for done := 0; done < b.N; done += batch {
				if done%stock < batch {
					b.StopTimer()
					for range stock / len(runs) {
						if err := m.QueueTasks(b.Context(), runs...); err != nil {
							b.Fatal(err)
						}
					}
					b.StartTimer()
				}
				takeFinish(b, s, room)
			}
		})
	}
}

func takeFinish(b *testing.B, s broker.Session, room broker.Want) {
	taken, err := s.Take(b.Context(), room)
	if err != nil {
		b.Fatal(err)
	}
	outcomes := make([]broker.Outcome, len(taken))
	for i, r := range taken {
		outcomes[i].Run = r
	}
	if done, err := s.Finish(b.Context(), outcomes...); err != nil || len(done.Fenced) > 0 {
		b.Fatal(done.Fenced, err)
	}
}

// BenchmarkThrough has many producers of one run a call and one consumer with
// room for 64 at once. An operation is one run, from queueing to finishing.
func BenchmarkThrough(b *testing.B) {
	m := open(b, memory.Config{})
	s := join(b, m, time.Minute)
	run := benchRuns(1)
	b.ReportAllocs()
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		room := broker.Want{Queues: []string{"q"}, IO: 64}
		for left := b.N; left > 0; {
			taken, err := s.Take(b.Context(), room)
			if err != nil {
				b.Error(err)
				return
			}
			outcomes := make([]broker.Outcome, len(taken))
			for i, r := range taken {
				outcomes[i].Run = r
			}
			if _, err := s.Finish(b.Context(), outcomes...); err != nil {
				b.Error(err)
				return
			}
			left -= len(taken)
		}
	}()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := m.QueueTasks(b.Context(), run...); err != nil {
				b.Error(err)
				return
			}
		}
	})
	<-finished
}
