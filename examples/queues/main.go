// Queues sends a shop's mail: alarms before anything else in their queue, invoices
// three times as often as newsletters, and newsletters paused for a while.
//
//	go run ./examples/queues
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/taskgen/taskgen/broker/memory"
	taskrt "github.com/taskgen/taskgen/runtime"
)

//go:generate go tool taskgen

// Alarm wakes somebody up.
//
//task:io
//task:queue invoices
//task:priority high
//task:result 1m
func Alarm(ctx context.Context, text string) error { fmt.Println("alarm:", text); return nil }

// Invoice sends an invoice.
//
//task:io
//task:queue invoices
//task:result 1m
func Invoice(ctx context.Context, n int) error { fmt.Println("invoice", n); return nil }

// Newsletter sends a newsletter.
//
//task:io
//task:queue newsletters
//task:result 1m
func Newsletter(ctx context.Context, n int) error { fmt.Println("newsletter", n); return nil }

func run() error {
	b := memory.New()
	ctx, stop := context.WithCancel(taskrt.WithClient(context.Background(), taskrt.NewClient(b, taskrt.ClientConfig{})))
	defer stop()
	if err := b.Pause(ctx, "newsletters", true); err != nil { // or: app pause newsletters
		return err
	}
	newsletter, err := QueueNewsletter(ctx, 1)
	if err != nil {
		return err
	}
	if _, err := QueueInvoiceBatch(ctx, []InvoiceParams{{1}, {2}}); err != nil {
		return err
	}
	invoice, err := QueueInvoice(ctx, 3, taskrt.WithPriority(taskrt.Low))
	if err != nil {
		return err
	}
	if _, err := QueueAlarm(ctx, "the shop is on fire"); err != nil {
		return err
	}

	consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{
		Concurrency: 1,
		Queues:      map[string]int{"invoices": 3, "newsletters": 1}, // weights; Strict: true makes them an order
		Logger:      slog.New(slog.DiscardHandler),
	}, Tasks())
	if err != nil {
		return err
	}
	stopped := make(chan error, 1)
	go func() { stopped <- consumer.Run(ctx) }()
	defer func() { stop(); <-stopped }()
	if _, err := invoice.Wait(ctx); err != nil {
		return err
	}
	if err := b.Pause(ctx, "newsletters", false); err != nil { // or: app resume newsletters
		return err
	}
	_, err = newsletter.Wait(ctx)
	return err
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "queues:", err)
		os.Exit(1)
	}
}
