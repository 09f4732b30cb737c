// Command library is a test application with its own main. It executes and schedules
// tasks until its standard input ends.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func main() {
	set := tasks.Tasks(&tasks.Recorder{})
	taskrt.ServeChild(set)
	if err := work(set, os.Args[1]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("stopped")
}

func work(set []taskrt.Task, role string) error {
	b := memory.New()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var run, begun func(context.Context) error
	switch role {
	case "consume":
		c, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{}, set)
		if err != nil {
			return err
		}
		run, begun = c.Run, func(ctx context.Context) error {
			handle, err := tasks.QueueEcho(ctx, "up", 1)
			if err == nil {
				_, err = handle.Wait(ctx)
			}
			return err
		}
	case "schedule":
		s, err := taskrt.NewScheduler(b, taskrt.SchedulerConfig{}, set)
		if err != nil {
			return err
		}
		run, begun = s.Run, func(ctx context.Context) error {
			_, err := b.GetTaskRuns(ctx, []string{"default"}, 1) // what is due at once
			return err
		}
	}
	var running sync.WaitGroup
	var err error
	running.Go(func() { err = run(ctx) })
	if err := begun(taskrt.WithClient(ctx, taskrt.NewClient(b, taskrt.ClientConfig{}))); err != nil {
		return err
	}
	slog.Warn("working")
	if _, err := io.ReadAll(os.Stdin); err != nil {
		return err
	}
	for range 10 {
		slog.Warn("nobody reads this")
	}
	stop()
	running.Wait()
	return err
}
