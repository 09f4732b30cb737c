package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/examples/shop/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// shop starts a consumer of the shop's tasks on the embedded broker. The returned
// context has a client for their stubs; close stops the consumer.
func shop(cfg taskrt.ConsumerConfig) (ctx context.Context, stop func()) {
	b := memory.New()
	consumer, err := taskrt.NewConsumer(b, cfg, tasks.Tasks())
	if err != nil {
		panic(err)
	}
	client := taskrt.NewClient(b, taskrt.ClientConfig{})
	ctx, cancel := context.WithCancel(taskrt.WithClient(context.Background(), client))
	done := make(chan error)
	go func() { done <- consumer.Run(ctx) }()
	return ctx, func() {
		cancel()
		<-done
		b.Close()
	}
}

// A client queues runs, a consumer executes them. Both can be in one process or in
// many; the broker is all they share.
func Example() {
	b := memory.New() // or redis.Open, for more than one process
	defer b.Close()
	consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{}, tasks.Tasks())
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	stopped := make(chan error)
	go func() { stopped <- consumer.Run(ctx) }()

	client := taskrt.NewClient(b, taskrt.ClientConfig{})
	handle, err := tasks.QueueCharge(taskrt.WithClient(ctx, client), "1001", 4200)
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt, err := handle.Wait(ctx)
	fmt.Println(receipt, err)

	stop()
	<-stopped
	// Output: receipt-1001 <nil>
}

// Wait returns a *RunError for a run that has failed for good.
func ExampleHandle_Wait() {
	ctx, stop := shop(taskrt.ConsumerConfig{})
	defer stop()
	handle, err := tasks.QueueCharge(ctx, "1002", 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = handle.Wait(ctx)
	var failed *taskrt.RunError
	if errors.As(err, &failed) {
		fmt.Println(failed.Task, failed.Kind, "at attempt", failed.Attempt)
		fmt.Println(failed.Message)
	}
	// Output:
	// charge failed at attempt 1
	// an order costs something
}

// The status of a run is known before it starts.
func ExampleHandle_Status() {
	ctx, stop := shop(taskrt.ConsumerConfig{})
	defer stop()
	handle, err := tasks.QueueMail(ctx, "it is your birthday", "ada", taskrt.Delay(time.Hour))
	if err != nil {
		fmt.Println(err)
		return
	}
	status, err := handle.Status(ctx)
	fmt.Println(status.State, status.Attempt, err)
	// Output: delayed 0 <nil>
}

// Cancelling a run ends its context, with the cause ErrCancelled.
func ExampleHandle_Cancel() {
	started := make(chan struct{}, 1)
	ctx, stop := shop(taskrt.ConsumerConfig{
		OnEvent: func(e taskrt.Event) {
			if e.Kind == taskrt.RunStarted {
				started <- struct{}{}
			}
		},
	})
	defer stop()
	handle, err := tasks.QueuePack(ctx, "1003", 12)
	if err != nil {
		fmt.Println(err)
		return
	}
	<-started
	if err := handle.Cancel(ctx); err != nil {
		fmt.Println(err)
		return
	}
	_, err = handle.Wait(ctx)
	fmt.Println(errors.Is(err, taskrt.ErrCancelled))
	// Output: true
}

// With an id of its own, a second run of the same order is refused while the first
// one lives. The handle is that of the first.
func ExampleID() {
	ctx, stop := shop(taskrt.ConsumerConfig{})
	defer stop()
	for range 2 {
		handle, err := tasks.QueueCharge(ctx, "1004", 900, taskrt.ID("order-1004"), taskrt.Delay(time.Minute))
		fmt.Println(handle.ID, errors.Is(err, taskrt.ErrDuplicate))
	}
	// Output:
	// order-1004 false
	// order-1004 true
}

// A call is a value: it can be made without a context, kept, and queued more than once.
func ExampleCall() {
	ctx, stop := shop(taskrt.ConsumerConfig{})
	defer stop()
	charge := tasks.CallCharge("1009", 700)
	for range 2 {
		handle, err := charge.Queue(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		receipt, err := handle.Wait(ctx)
		fmt.Println(receipt, err)
	}
	// Output:
	// receipt-1009 <nil>
	// receipt-1009 <nil>
}

// Options belong to one run of the call: here the charge goes ahead of others, and the mail
// is sent an hour after it.
func ExampleCall_With() {
	ctx, stop := shop(taskrt.ConsumerConfig{})
	defer stop()
	charge := tasks.CallCharge("1010", 700).With(taskrt.WithPriority(taskrt.High))
	mail := tasks.NextMail("ada").With(taskrt.Delay(time.Hour))
	handle, err := taskrt.Then(charge, mail).Queue(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	status, err := handle.Status(ctx)
	fmt.Println(status.Task, status.State, err)
	// Output: mail delayed <nil>
}

// The step that records the receipt queues the mail, whose first parameter it becomes.
func ExampleThen() {
	ctx, stop := shop(taskrt.ConsumerConfig{})
	defer stop()
	handle, err := taskrt.Then(tasks.CallCharge("1005", 2500), tasks.NextMail("ada")).Queue(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := handle.Wait(ctx); err != nil {
		fmt.Println(err)
	}
	// Output: to ada: receipt-1005
}

// The second mail needs nothing of the first one, but its success.
func ExampleAfter() {
	ctx, stop := shop(taskrt.ConsumerConfig{})
	defer stop()
	first := tasks.CallMail("your parcel is on its way", "ada")
	second := tasks.CallMail("how do you like it?", "ada")
	handle, err := taskrt.Then(first, taskrt.After[taskrt.None](second)).Queue(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := handle.Wait(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// to ada: your parcel is on its way
	// to ada: how do you like it?
}

// The bill is queued when the last order has been charged. It gets the receipts in
// the order of the members.
func ExampleGroup() {
	ctx, stop := shop(taskrt.ConsumerConfig{})
	defer stop()
	charges := []taskrt.Call[string]{tasks.CallCharge("1006", 100), tasks.CallCharge("1007", 250)}
	handle, err := taskrt.Group(charges, tasks.NextBill("ada")).Queue(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	text, err := handle.Wait(ctx)
	fmt.Println(text, err)
	// Output: ada: 2 receipts, the first is receipt-1006 <nil>
}

// A generated Handle function makes the handle of a run from its id, in any process.
func ExampleHandleOf() {
	ctx, stop := shop(taskrt.ConsumerConfig{})
	defer stop()
	queued, err := tasks.QueueCharge(ctx, "1011", 700)
	if err != nil {
		fmt.Println(err)
		return
	}
	id := queued.ID // kept with the order

	receipt, err := tasks.HandleCharge(ctx, id).Wait(ctx)
	fmt.Println(receipt, err)
	// Output: receipt-1011 <nil>
}

// A middleware wraps each run of a consumer.
func ExampleMiddleware() {
	trace := func(next taskrt.Handler) taskrt.Handler {
		return func(ctx context.Context, run *taskrt.Run) error {
			err := next(ctx, run)
			fmt.Println(run.Task, "attempt", run.Attempt, "error:", err)
			return err
		}
	}
	ctx, stop := shop(taskrt.ConsumerConfig{Middleware: []taskrt.Middleware{trace}})
	defer stop()
	handle, err := tasks.QueueCharge(ctx, "1008", 100)
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := handle.Wait(ctx); err != nil {
		fmt.Println(err)
	}
	// Output: charge attempt 1 error: <nil>
}

// A schedule made at run time is stored in the broker, with its parameters. Schedule with
// the same id changes it.
func ExampleSchedule() {
	ctx, stop := shop(taskrt.ConsumerConfig{})
	defer stop()
	offers := tasks.CallMail("your weekly offers", "ada")
	for _, spec := range []string{"0 9 * * mon", "0 8 * * tue"} {
		if _, err := taskrt.Schedule(ctx, spec, "Europe/Rome", offers, taskrt.ID("offers-ada")); err != nil {
			fmt.Println(err)
			return
		}
	}
	list, err := taskrt.Schedules(ctx)
	for _, s := range list {
		fmt.Println(s.ID, s.Task, s.Spec, s.Zone)
	}
	fmt.Println(err)
	// Output:
	// offers-ada mail 0 8 * * tue Europe/Rome
	// <nil>
}

// Any number of schedulers may run: each tick is queued once.
func ExampleNewScheduler() {
	b := memory.New()
	defer b.Close()
	scheduler, err := taskrt.NewScheduler(b, taskrt.SchedulerConfig{}, tasks.Tasks())
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Millisecond) // a real one runs until SIGTERM
	defer stop()
	fmt.Println(scheduler.Run(ctx))
	// Output: <nil>
}
