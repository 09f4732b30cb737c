package brokerurl_test

import (
	"context"
	"fmt"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/broker/memory"
)

// With an empty URL the environment variable TASKGEN_BROKER names the broker.
func ExampleOpen() {
	ctx := context.Background()
	b, err := brokerurl.Open(ctx, "memory:") // or redis://localhost:6379
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(b.QueueTasks(ctx, &broker.TaskRun{ID: "1", Task: "greet", Queue: "default"}))
	lengths, err := b.QueueLength(ctx)
	fmt.Println(lengths, err)
	// Output:
	// <nil>
	// map[default:1] <nil>
}

// Errors say what to write instead.
func ExampleOpen_error() {
	_, err := brokerurl.Open(context.Background(), "localhost:6379")
	fmt.Println(err)
	// Output: open broker: a host and a port are no URL; write redis://localhost:6379
}

// An Opener gives a broker of one's own a scheme.
func ExampleConfig() {
	open := func(_ context.Context, url string) (broker.Broker, error) {
		fmt.Println("opening", url)
		return memory.New(), nil // a broker of one's own
	}
	brokers := brokerurl.Config{Openers: map[string]brokerurl.Opener{"mine": open}}
	_, err := brokers.Open(context.Background(), "mine:somewhere")
	fmt.Println(err)
	_, err = brokers.Open(context.Background(), "other://somewhere")
	fmt.Println(err)
	// Output:
	// opening mine:somewhere
	// <nil>
	// open broker "other://somewhere": unknown scheme; use a memory:, redis:, rediss:, unix:, redis+cluster:, redis+sentinel: or mine: URL
}

// Redact makes a URL fit for a log.
func ExampleRedact() {
	fmt.Println(brokerurl.Redact("redis://app:secret@host:6379/0?prefix=app"))
	// Output: redis://host:6379/0
}
