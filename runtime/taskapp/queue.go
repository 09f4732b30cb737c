package taskapp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func (a *app) queue(ctx context.Context, args []string) error {
	o := &taskOptions{}
	t, payload, err := a.parseTask(ctx, "queue", args, o)
	if err != nil {
		return err
	}
	if isEmbedded(o.broker) {
		return usagef("queue "+t.Name(), "the embedded broker ends with this process; name one with --broker or $%s, or use exec", brokerurl.Env)
	}
	b, closeBroker, err := openBroker(ctx, o.broker, a.skipLogger())
	if err != nil {
		return err
	}
	defer closeBroker()
	run, err := o.queue(ctx, t, payload, b)
	if err != nil && !errors.Is(err, taskrt.ErrNotReplicated) {
		return err
	}
	if err == nil && o.wait {
		return a.await(ctx, b, t, run, o.json)
	}
	if o.json || !o.wait {
		err = errors.Join(err, a.printQueued(run, o.json))
	}
	return err
}

// queue queues a run of the task. It is also returned with [taskrt.ErrNotReplicated].
func (o *taskOptions) queue(ctx context.Context, t *task, payload []byte, b broker.Broker) (*broker.TaskRun, error) {
	options := []taskrt.QueueOption{taskrt.Delay(o.delay)}
	if o.id != "" {
		options = append(options, taskrt.ID(o.id))
	}
	if o.wait && t.Spec().Keep == 0 {
		options = append(options, taskrt.Keep(time.Minute)) // there has to be something to wait for
	}
	return taskrt.NewClient(b, taskrt.ClientConfig{}).QueueTask(ctx, t.Task, payload, options...)
}

// printQueued prints what is known of a run that was queued.
func (a *app) printQueued(run *broker.TaskRun, asJSON bool) error {
	if asJSON {
		return a.printJSON(map[string]any{"id": run.ID, "task": run.Task, "queue": run.Queue})
	}
	_, err := fmt.Fprintln(a.stdout, run.ID)
	return err
}

// await waits for the end of a run and prints it.
func (a *app) await(ctx context.Context, b broker.Broker, t *task, run *broker.TaskRun, asJSON bool) error {
	records, ok := b.(broker.Records)
	if !ok {
		return errors.New("wait for the run: this broker keeps no records")
	}
	record, err := records.WaitRecord(ctx, run.Queue, run.ID)
	switch {
	case err == nil && record.State == broker.StateSucceeded:
		return a.printResult(t, run.ID, record.Result, asJSON)
	case err == nil:
		return a.printFailure(run.ID, run.Task, record.Failure, runError(record), asJSON)
	case ctx.Err() != nil:
		err = errors.New("interrupted; the run stays queued, or goes on")
	}
	err = fmt.Errorf("wait for run %s: %w", run.ID, err)
	if asJSON {
		err = errors.Join(err, a.printQueued(run, true)) // that much is known
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
