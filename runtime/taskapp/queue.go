package taskapp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func (c *commandLine) queueCommand() *cobra.Command {
	return c.taskGroup(manual{
		use: "queue TASK [--param value…]", short: "queue one run of a task",
		long:    "Queues one run of a task and prints its id.\n" + c.taskHelpHint("queue"),
		example: "queue " + c.exampleTask() + c.exampleFlags(),
	}, c.queue)
}

func (c *commandLine) queue(ctx context.Context, o *taskOptions, t *task, payload []byte) error {
	if c.isEmbedded(o.broker) {
		return usagef("queue "+t.Name(), "the embedded broker ends with this process; name one with --broker or $%s, or use exec", brokerurl.Env)
	}
	b, closeBroker, err := c.openBroker(ctx, o.broker, c.skipLogger())
	if err != nil {
		return err
	}
	defer closeBroker()
	client := c.client(b)
	run, err := o.queue(ctx, t, payload, client)
	if err != nil && !errors.Is(err, taskrt.ErrNotReplicated) {
		return err
	}
	if err == nil && o.wait {
		return c.await(ctx, client, t, run, o.json)
	}
	if o.json || !o.wait {
		err = errors.Join(err, c.printQueued(run, o.json))
	}
	return err
}

// queue queues a run of the task. It is also returned with [taskrt.ErrNotReplicated].
func (o *taskOptions) queue(ctx context.Context, t *task, payload []byte, client *taskrt.Client) (*broker.TaskRun, error) {
	options := []taskrt.QueueOption{taskrt.Delay(o.delay)}
	if o.id != "" {
		options = append(options, taskrt.ID(o.id))
	}
	if o.wait && t.Spec().Keep == 0 {
		options = append(options, taskrt.Keep(time.Minute)) // there has to be something to wait for
	}
	return client.QueueTask(ctx, t.Task, payload, options...)
}

// printQueued prints the id of a run that was queued.
func (c *commandLine) printQueued(run *broker.TaskRun, asJSON bool) error {
	if asJSON {
		return c.printJSON(map[string]any{"id": run.ID, "task": run.Task, "queue": run.Queue})
	}
	_, err := fmt.Fprintln(c.stdout, run.ID)
	return err
}

// await waits for the end of a run and prints it.
func (c *commandLine) await(ctx context.Context, client *taskrt.Client, t *task, run *broker.TaskRun, asJSON bool) error {
	record, err := client.WaitTask(ctx, run)
	switch {
	case err == nil && record.State == broker.StateSucceeded:
		return c.printResult(t, run.ID, record.Result, asJSON)
	case err == nil:
		return c.printFailure(run.ID, run.Task, record.Failure, runError(record), asJSON)
	case ctx.Err() != nil:
		err = fmt.Errorf("wait for run %s: interrupted; the run stays queued, or goes on", run.ID)
	}
	if asJSON {
		err = errors.Join(err, c.printQueued(run, true)) // that much is known
	}
	return err
}

// runError returns the error of a run that failed.
func runError(record *broker.Record) *taskrt.RunError {
	e := &taskrt.RunError{Task: record.Task, ID: record.ID, Attempt: record.Attempt, Kind: taskrt.Failed}
	if f := record.Failure; f != nil {
		e.Kind, e.Message, e.Stack = f.Kind, f.Message, f.Stack
	}
	return e
}
