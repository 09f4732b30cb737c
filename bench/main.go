// Bench compares taskgen with other task queues on one redis-server that it
// starts itself. Rounds are interleaved and the figures are medians, so that a
// noisy machine hits both sides alike: read the ratios, not the rates.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"text/tabwriter"
	"time"
)

// system is a task queue under test.
type system interface {
	name() string
	// steady keeps the given number of producers, one call a task, and of
	// handler slots busy for d, and returns how many no-op tasks were queued
	// and executed to the end in the time it took.
	steady(ctx context.Context, addr string, producers, concurrency int, d time.Duration) (tasks int64, took time.Duration, err error)
}

// sample is one round of one system.
type sample struct {
	rate     float64 // tasks a second
	redisCPU float64 // µs of redis-server a task
	commands float64 // Redis commands a task
}

func main() {
	rounds := flag.Int("rounds", 5, "interleaved rounds")
	length := flag.Duration("time", 3*time.Second, "length of one measurement")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *rounds, *length); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds int, length time.Duration) error {
	server, err := startRedis(ctx)
	if err != nil {
		return err
	}
	defer server.stop()
	systems := []system{taskgenSystem{}, asynqSystem{}}
	samples := make(map[string][]sample)
	for round := range rounds {
		for _, s := range systems {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, rounds, s.name())
			sample, err := measure(ctx, server, s, length)
			if err != nil {
				return fmt.Errorf("measure %s: %w", s.name(), err)
			}
			samples[s.name()] = append(samples[s.name()], sample)
		}
	}
	report(systems, samples)
	return nil
}

const (
	producers   = 64
	concurrency = 64
)

func measure(ctx context.Context, server *redisServer, s system, length time.Duration) (sample, error) {
	if err := server.client.FlushAll(ctx).Err(); err != nil {
		return sample{}, err
	}
	before, err := server.usage(ctx)
	if err != nil {
		return sample{}, err
	}
	tasks, took, err := s.steady(ctx, server.addr, producers, concurrency, length)
	if err != nil {
		return sample{}, err
	}
	after, err := server.usage(ctx)
	if err != nil {
		return sample{}, err
	}
	return sample{
		rate:     float64(tasks) / took.Seconds(),
		redisCPU: (after.cpu - before.cpu) * 1e6 / float64(tasks),
		commands: (after.commands - before.commands) / float64(tasks),
	}, nil
}

func report(systems []system, samples map[string][]sample) {
	fmt.Printf("queue and run, %d producers with one call a task, %d slots, medians:\n\n", producers, concurrency)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\ttasks/s\tof taskgen\tRedis CPU µs/task\tcommands/task\t")
	base := 0.0
	for i, s := range systems {
		rate := median(samples[s.name()], func(s sample) float64 { return s.rate })
		if i == 0 {
			base = rate
		}
		fmt.Fprintf(w, "%s\t%.0f\t1/%.1f\t%.1f\t%.2f\t\n", s.name(), rate, base/rate,
			median(samples[s.name()], func(s sample) float64 { return s.redisCPU }),
			median(samples[s.name()], func(s sample) float64 { return s.commands }))
	}
	w.Flush()
}

func median(samples []sample, of func(sample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	slices.Sort(values)
	return values[len(values)/2]
}
