// Limits sends mails for three customers, one of whom sends most of them: at most two
// at once for each customer, at most ten a second in all, round-robin over the
// customers.
//
//	go run ./examples/limits
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker/memory"
	taskrt "github.com/taskgen/taskgen/runtime"
)

//go:generate go tool taskgen

// Mailer sends mails. All consumers together obey the limits.
type Mailer struct {
	begun time.Time
	sent  sync.WaitGroup
}

// Send sends one mail.
//
//task:io
//task:concurrency 2 by=customer
//task:rate 10/1s
//task:fair customer
func (m *Mailer) Send(ctx context.Context, customer string, n int) error {
	defer m.sent.Done()
	fmt.Printf("%4.1fs  %s %d\n", time.Since(m.begun).Seconds(), customer, n)
	time.Sleep(50 * time.Millisecond)
	return nil
}

func run() error {
	b := memory.New()
	ctx, stop := context.WithCancel(taskrt.WithClient(context.Background(), taskrt.NewClient(b, taskrt.ClientConfig{})))
	defer stop()
	mailer := &Mailer{begun: time.Now()}
	for customer, mails := range map[string]int{"ada": 20, "bob": 3, "eve": 3} {
		for n := range mails {
			mailer.sent.Add(1)
			if _, err := QueueMailerSend(ctx, customer, n); err != nil {
				return err
			}
		}
	}
	stopped := make(chan error, 2)
	for range cap(stopped) {
		consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{Logger: slog.New(slog.DiscardHandler)}, Tasks(mailer))
		if err != nil {
			return err
		}
		go func() { stopped <- consumer.Run(ctx) }()
	}
	mailer.sent.Wait()
	stop()
	for range cap(stopped) {
		if err := <-stopped; err != nil {
			return err
		}
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "limits:", err)
		os.Exit(1)
	}
}
