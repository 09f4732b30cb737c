// Reports sends each customer a report at the customer's own times. The schedules are
// made, changed and ended while the program runs, and live in the broker.
//
//	go run ./examples/reports
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/taskgen/taskgen/broker/memory"
	taskrt "github.com/taskgen/taskgen/runtime"
)

//go:generate go tool taskgen

// sent receives the customers whose report was sent.
var sent = make(chan string, 10)

// SendReport sends a customer its report.
//
//task:io
func SendReport(ctx context.Context, customer string) error {
	sent <- customer
	return nil
}

func run() error {
	b := memory.New()
	ctx, stop := context.WithCancel(taskrt.WithClient(context.Background(), taskrt.NewClient(b, taskrt.ClientConfig{})))
	defer stop()
	consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{}, Tasks())
	if err != nil {
		return err
	}
	scheduler, err := taskrt.NewScheduler(b, taskrt.SchedulerConfig{}, Tasks())
	if err != nil {
		return err
	}
	stopped := make(chan error, 2)
	go func() { stopped <- consumer.Run(ctx) }()
	go func() { stopped <- scheduler.Run(ctx) }()
	defer func() { stop(); <-stopped; <-stopped }()

	if _, err := taskrt.Schedule(ctx, "0 9 * * mon", "Europe/Rome", CallSendReport("ada"), taskrt.ID("report-ada")); err != nil {
		return err
	}
	if _, err := taskrt.Schedule(ctx, "61 9 * * mon", "", CallSendReport("bob")); err != nil {
		fmt.Println("refused:", err)
	}
	// Ada wants her report every second; the other schedules stay.
	ada, err := taskrt.Schedule(ctx, "@every 1s", "", CallSendReport("ada"), taskrt.ID("report-ada"))
	if err != nil {
		return err
	}
	list, err := taskrt.Schedules(ctx)
	if err != nil {
		return err
	}
	for _, s := range list {
		fmt.Println(s.ID, "runs", s.Task, s.Spec)
	}
	fmt.Println("sent to", <-sent)
	fmt.Println("sent to", <-sent)
	return ada.Unschedule(ctx)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "reports:", err)
		os.Exit(1)
	}
}
