package runtime_test

import (
	"context"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/examples/shop/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// A page of the runs that a filter chooses, and the next one behind it.
func ExampleInspector_Runs() {
	b := memory.New()
	defer b.Close()
	ctx := taskrt.WithClient(context.Background(), taskrt.NewClient(b, taskrt.ClientConfig{}))
	for _, order := range []string{"1001", "1002", "1003"} {
		if _, err := tasks.QueueCharge(ctx, order, 4200, taskrt.ID("charge-"+order)); err != nil {
			fmt.Println(err)
		}
	}

	inspector, err := taskrt.NewInspector(b, tasks.Tasks())
	if err != nil {
		fmt.Println(err)
		return
	}
	filter := taskrt.RunFilter{Task: "charge", States: []taskrt.State{broker.StateQueued}}
	for after := ""; ; {
		page, err := inspector.Runs(ctx, filter, taskrt.PageOptions{After: after, Max: 2})
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, run := range page.Runs {
			fmt.Println(run.Run.ID, run.Run.Queue, run.State)
		}
		fmt.Println("of", page.Total)
		if after = page.After; after == "" {
			break
		}
	}
	// Output:
	// charge-1001 payments queued
	// charge-1002 payments queued
	// of 3
	// charge-1003 payments queued
	// of 3
}

// All that is known of one run, as people may see it.
func ExampleInspector_Run() {
	b := memory.New()
	defer b.Close()
	ctx := taskrt.WithClient(context.Background(), taskrt.NewClient(b, taskrt.ClientConfig{}))
	if _, err := tasks.QueueCharge(ctx, "1001", 4200, taskrt.ID("charge-1001")); err != nil {
		fmt.Println(err)
	}

	inspector, err := taskrt.NewInspector(b, tasks.Tasks())
	if err != nil {
		fmt.Println(err)
		return
	}
	run, err := inspector.Run(ctx, "charge-1001")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(run.Task, "in", run.Queue, "is", run.State)
	for _, p := range run.Params {
		fmt.Printf("%s: %s\n", p.Name, p.Value)
	}
	// Output:
	// charge in payments is queued
	// order: "1001"
	// cents: 4200
}

// First it is counted what would be changed, then it is.
func ExampleInspector_CancelAll() {
	b := memory.New()
	defer b.Close()
	ctx := taskrt.WithClient(context.Background(), taskrt.NewClient(b, taskrt.ClientConfig{}))
	if _, err := tasks.QueueMailBatch(ctx, make([]tasks.MailParams, 5000), taskrt.Delay(time.Hour)); err != nil {
		fmt.Println(err)
	}

	inspector, err := taskrt.NewInspector(b, tasks.Tasks())
	if err != nil {
		fmt.Println(err)
		return
	}
	mails := taskrt.RunFilter{Task: "mail"}
	dry, err := inspector.CancelAll(ctx, mails, taskrt.ChangeOptions{DryRun: true})
	fmt.Println("would cancel", dry.Changed, err)
	done, err := inspector.CancelAll(ctx, mails, taskrt.ChangeOptions{
		Progress: func(done taskrt.Changes) { /* show done.Looked of done.Total */ },
	})
	fmt.Println("cancelled", done.Changed, "stayed", done.Stayed, err)
	// Output:
	// would cancel 5000 <nil>
	// cancelled 5000 stayed 0 <nil>
}

// The queues, and what needs a person: one with runs that nobody takes has NoConsumer, on a
// broker that knows who is up.
func ExampleInspector_Queues() {
	b := memory.New()
	defer b.Close()
	ctx := taskrt.WithClient(context.Background(), taskrt.NewClient(b, taskrt.ClientConfig{}))
	if _, err := tasks.QueueCharge(ctx, "1001", 4200); err != nil {
		fmt.Println(err)
	}

	inspector, err := taskrt.NewInspector(b, tasks.Tasks())
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := inspector.Pause(ctx, "payments"); err != nil {
		fmt.Println(err)
	}
	list, err := inspector.Queues(ctx, "payments")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, q := range list.Queues {
		fmt.Printf("queue %s: %d queued, paused %v\n", q.Queue, q.Queued, q.Paused)
	}
	// Output: queue payments: 1 queued, paused true
}
