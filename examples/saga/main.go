// Saga books trips in two steps. Where the second step fails for good, a further task undoes
// the first.
//
//	go run ./examples/saga
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/taskgen/taskgen/broker/memory"
	taskrt "github.com/taskgen/taskgen/runtime"
)

//go:generate go tool taskgen

// BookFlight reserves a seat and returns its number.
//
//task:io
func BookFlight(ctx context.Context, trip string) (string, error) {
	return "seat 7 to " + trip, nil
}

// BookHotel reserves a room for those who have a seat.
//
//task:io
func BookHotel(ctx context.Context, seat, trip string) (string, error) {
	if trip == "Nowhere" {
		return "", taskrt.Permanent(errors.New("there is no hotel"))
	}
	return seat + ", room 12", nil
}

// CancelTrip cancels those reservations of a trip that there are.
//
//task:io
//task:result 1h
func CancelTrip(ctx context.Context, trip string) error {
	fmt.Println("cancelled the trip to", trip)
	return nil
}

// BookTrip books all of a trip or nothing. If its consumer dies while it waits, it starts
// again and queues its steps again: they must bear to run twice, as all tasks must.
//
//task:io
//task:queue trips
func BookTrip(ctx context.Context, trip string) (string, error) {
	hotel, err := taskrt.Then(CallBookFlight(trip), NextBookHotel(trip)).Queue(ctx)
	if err != nil {
		return "", err
	}
	booked, err := hotel.Wait(ctx)
	if failed := new(taskrt.RunError); !errors.As(err, &failed) {
		return booked, err
	}
	// One of the steps has failed for good. The run that undoes them is retried by itself,
	// whatever becomes of this one.
	undo, queueErr := QueueCancelTrip(ctx, trip, taskrt.ID("cancel-"+trip))
	if queueErr != nil && !errors.Is(queueErr, taskrt.ErrDuplicate) {
		return "", queueErr // the next attempt queues it
	}
	return "", taskrt.Permanent(fmt.Errorf("%w; run %s undoes it", err, undo.ID))
}

func run() error {
	b := memory.New()
	ctx, stop := context.WithCancel(taskrt.WithClient(context.Background(), taskrt.NewClient(b, taskrt.ClientConfig{})))
	defer stop()
	consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{}, Tasks())
	if err != nil {
		return err
	}
	stopped := make(chan error)
	go func() { stopped <- consumer.Run(ctx) }()
	defer func() { stop(); <-stopped }()

	for _, trip := range []string{"Rome", "Nowhere"} {
		handle, err := QueueBookTrip(ctx, trip)
		if err != nil {
			return err
		}
		if booked, err := handle.Wait(ctx); err != nil {
			fmt.Println("refused:", err)
		} else {
			fmt.Println("booked:", booked)
		}
	}
	_, err = HandleCancelTrip(ctx, "cancel-Nowhere").Wait(ctx)
	return err
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
