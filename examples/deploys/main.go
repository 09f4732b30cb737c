// Deploys executes runs that the previous version of an application has queued,
// although the task and its parameter have new names and there is a second parameter.
// Both versions run side by side.
//
//	go run ./examples/deploys
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/examples/deploys/testdata/before"
	taskrt "github.com/taskgen/taskgen/runtime"
)

//go:generate go tool taskgen

// SendMail sends a mail. It was func SendLetter(ctx, address).
//
//task:io
//task:result 1m
//task:alias send_letter
//task:rename to from=address
//task:default language "en"
func SendMail(ctx context.Context, to, language string) (string, error) {
	return fmt.Sprintf("a mail to %s, in %s", to, language), nil
}

func run() error {
	b := memory.New()
	ctx, stop := context.WithCancel(taskrt.WithClient(context.Background(), taskrt.NewClient(b, taskrt.ClientConfig{})))
	defer stop()
	consume := func(tasks []taskrt.Task) (wait func() error, err error) {
		consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{Logger: slog.New(slog.DiscardHandler)}, tasks)
		if err != nil {
			return nil, err
		}
		stopped := make(chan error, 1)
		go func() { stopped <- consumer.Run(ctx) }()
		return func() error { stop(); return <-stopped }, nil
	}

	// The old version queued a run and was stopped before executing it.
	old, err := before.QueueSendLetter(ctx, "Ada")
	if err != nil {
		return err
	}
	wait, err := consume(Tasks())
	if err != nil {
		return err
	}
	defer wait()
	sent, err := old.Wait(ctx)
	if err != nil {
		return err
	}
	fmt.Println(sent)

	// Another process of the old version is still up. It does not know SendMail, and
	// leaves the run to a process that does.
	if wait, err = consume(before.Tasks()); err != nil {
		return err
	}
	defer wait()
	mail, err := QueueSendMail(ctx, "Grace", "it")
	if err != nil {
		return err
	}
	sent, err = mail.Wait(ctx)
	fmt.Println(sent)
	return err
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "deploys:", err)
		os.Exit(1)
	}
}
