// Imaging makes thumbnails of a folder of pictures in child processes. It fills an
// empty folder with pictures, of which one hangs the code, one makes it take too much
// memory and one crashes it. These runs are stopped and reported with their causes,
// and all others finish.
//
//	go run ./examples/imaging
//	go run ./examples/imaging ~/Pictures
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/examples/imaging/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func main() {
	taskrt.ServeChild(tasks.Tasks()) // a child process ends here
	dir := filepath.Join(os.TempDir(), "taskgen-imaging")
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	if err := run(dir, filepath.Join(dir, "thumbs")); err != nil {
		fmt.Fprintln(os.Stderr, "imaging:", err)
		os.Exit(1)
	}
}

func run(dir, thumbs string) error {
	if err := os.MkdirAll(thumbs, 0o755); err != nil {
		return err
	}
	files, err := pictures(dir)
	if err != nil {
		return err
	}
	b := memory.New()
	consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{
		Processes: 2, MaxCrashes: 1, Logger: slog.New(slog.DiscardHandler),
	}, tasks.Tasks())
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(taskrt.WithClient(context.Background(), taskrt.NewClient(b, taskrt.ClientConfig{})))
	stopped := make(chan error, 1)
	go func() { stopped <- consumer.Run(ctx) }()
	err = report(ctx, files, thumbs)
	stop()
	return errors.Join(err, <-stopped)
}
