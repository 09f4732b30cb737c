// Dashboard is a shop whose runs can be watched in a browser: it queues some all the time, and
// some of them fail.
//
//	go run ./examples/dashboard
//
// Then open http://127.0.0.1:8080. The broker is embedded: nothing has to be installed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/dashboard"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func main() {
	taskrt.ServeChild(Tasks()) // in a child process of ResizePicture it does not return
	address := flag.String("http", "127.0.0.1:8080", "address of the dashboard")
	url := flag.String("broker", "memory:", "URL of the broker")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := serve(ctx, *url, *address); err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context, url, address string) error {
	b, err := brokerurl.Open(ctx, url)
	if err != nil {
		return err
	}
	consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{Concurrency: 12, Processes: 2}, Tasks())
	if err != nil {
		return err
	}
	scheduler, err := taskrt.NewScheduler(b, taskrt.SchedulerConfig{}, Tasks())
	if err != nil {
		return err
	}
	handler, err := dashboard.New(b, dashboard.Config{Name: "shop"}, Tasks())
	if err != nil {
		return err
	}
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	for _, run := range []func(context.Context) error{
		consumer.Run, scheduler.Run,
		func(ctx context.Context) error {
			return customers(taskrt.WithClient(ctx, taskrt.NewClient(b, taskrt.ClientConfig{})), b)
		},
		func(ctx context.Context) error {
			<-ctx.Done()
			return server.Close()
		},
		func(context.Context) error {
			fmt.Printf("open http://%s\n", address)
			return server.ListenAndServe()
		},
	} {
		parts.Go(func() { cancel(run(ctx)) })
	}
	parts.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// customers queue runs until ctx ends.
func customers(ctx context.Context, b broker.Broker) error {
	if err := yesterday(ctx, b); err != nil {
		return err
	}
	shops := []string{"berlin", "lyon", "porto"}
	for order := int64(48_200); ; order++ {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(150*time.Millisecond + rand.N(400*time.Millisecond)):
		}
		if err := buy(ctx, order, shops[rand.IntN(len(shops))]); err != nil && ctx.Err() == nil && !errors.Is(err, taskrt.ErrDuplicate) {
			return err
		}
	}
}

// buy is what one order queues.
func buy(ctx context.Context, order int64, shop string) error {
	customer := fmt.Sprintf("customer-%d@example.com", order%211)
	_, err := QueueChargeCard(ctx, shop, order, 500+rand.Int64N(20_000), "4242424242424242")
	if err == nil {
		_, err = QueueSendReceipt(ctx, customer, order)
	}
	if err == nil && order%3 == 0 {
		to := Address{Name: "Ada Byron", Street: "Hauptstr. 12", City: "Berlin", Country: "DE"}
		_, err = QueueCreateShipment(ctx, order, to, []Parcel{{Grams: 1200, Items: map[string]int{"cup": 2, "saucer": 2}}}, time.Now().Add(20*time.Hour), time.Hour, nil)
	}
	if err == nil && order%10 == 0 {
		var resized []taskrt.Call[string]
		for n := range 4 {
			size := Size{Width: 800, Height: 600}
			if order%40 == 0 && n == 2 {
				size.Width = 6000
			}
			resized = append(resized, CallResizePicture(fmt.Sprintf("products/%d/%d.jpg", order, n), size))
		}
		_, err = taskrt.Group(resized, NextPublishGallery(fmt.Sprintf("product %d", order))).Queue(ctx)
	}
	if err == nil && order%25 == 0 {
		_, err = QueueImportCatalogue(ctx, "supplier-"+shop, 40)
	}
	if err == nil && order%12 == 0 {
		_, err = QueueSendReceipt(ctx, customer, order+1, taskrt.Delay(time.Hour))
	}
	return err
}

// yesterday counts runs of before, so that there are charts, and leaves some in a queue that
// nobody takes from.
func yesterday(ctx context.Context, b broker.Broker) error {
	for n := range 14 {
		if _, err := QueueSendReceipt(ctx, fmt.Sprintf("reader-%d@example.com", n), int64(n+1), taskrt.OnQueue("newsletter")); err != nil {
			return err
		}
	}
	tallies, ok := b.(broker.Tallies)
	if !ok {
		return nil
	}
	var all []broker.Tally
	now := time.Now().UTC().Truncate(time.Minute)
	for minute := range 26 * 60 {
		at := now.Add(-time.Duration(minute+1) * time.Minute)
		busy := 1 + at.Hour()%12/2
		for _, t := range []struct {
			queue, task string
			runs        int
			time, wait  time.Duration
		}{
			{"payments", "charge_card", 9 * busy, 900 * time.Millisecond, 120 * time.Millisecond},
			{"mail", "send_receipt", 12 * busy, 200 * time.Millisecond, 40 * time.Millisecond},
			{"shipping", "create_shipment", 4 * busy, 300 * time.Millisecond, 700 * time.Millisecond},
			{"pictures", "resize_picture", 3 * busy, 1500 * time.Millisecond, 2 * time.Second},
		} {
			tally := broker.Tally{Queue: t.queue, Task: t.task, Minute: at, Succeeded: int64(t.runs/2 + rand.IntN(t.runs))}
			if minute > 20 && rand.IntN(5) == 0 { // of the latest minutes there are real runs
				tally.Retried, tally.Dead = 1+rand.Int64N(3), rand.Int64N(2)
			}
			if minute > 200 && minute < 215 && t.queue == "payments" {
				tally.Retried, tally.Dead = tally.Succeeded, tally.Succeeded/4
				tally.Succeeded /= 3
			}
			for range tally.Succeeded + tally.Retried + tally.Dead {
				tally.Times.Observe(t.time/2 + rand.N(t.time*3/2))
				tally.Waits.Observe(t.wait/2 + rand.N(t.wait*2))
			}
			all = append(all, tally)
		}
	}
	return tallies.AddTallies(ctx, all)
}
