package taskapp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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
	if err == nil && o.wait.on {
		return c.await(ctx, client, t, run, o)
	}
	if o.json || !o.wait.on {
		err = errors.Join(err, c.printQueued(run, o.json))
	}
	return err
}

// queueOptions are the flags of queue alone.
type queueOptions struct {
	delay    time.Duration
	at       time.Time
	id       string
	onQueue  string
	priority string
	headers  []string // key=value
	wait     waitFlag
}

// priorities are those of runs.
var priorities = []string{"high", "medium", "low"}

func (o *queueOptions) addTo(set *pflag.FlagSet) {
	durationVar(set, &o.delay, "delay", "not before this time from now, such as 10m")
	timeVar(set, &o.at, "at", "not before this time, such as 2006-01-02T15:04:05Z")
	textVar(set, &o.id, "id", "id of the run (default a new one)")
	textVar(set, &o.onQueue, "queue", "another queue than the task's own")
	textVar(set, &o.priority, "priority", "high, medium or low (default the task's)")
	set.Func("header", "header of the run, as key=value; repeatable", func(text string) error {
		if key, _, found := strings.Cut(text, "="); !found || key == "" {
			return errors.New("not key=value")
		}
		o.headers = append(o.headers, text)
		return nil
	})
	set.VarPF(&o.wait, "wait", "", "wait for the end and print the result; --wait=30s gives up after that").NoOptDefVal = "true"
}

func (o *queueOptions) check(command string) error {
	switch {
	case o.delay < 0:
		return usagef(command, "the delay is %v; it cannot be negative", o.delay)
	case o.delay > 0 && !o.at.IsZero():
		return usagef(command, "both --delay and --at; give one or the other")
	case o.priority != "" && !slices.Contains(priorities, o.priority):
		return usagef(command, "no priority is named %q%s", o.priority, didYouMean(o.priority, priorities, "; one of "+strings.Join(priorities, ", ")))
	case o.onQueue != "" && (&broker.TaskRun{ID: "-", Task: "-", Queue: o.onQueue}).Validate() != nil:
		return usagef(command, "no queue can be named %q", o.onQueue)
	case o.id != "":
		return checkID(command, o.id)
	}
	return nil
}

// waitFlag is whether to wait for the end of a run, and how long.
type waitFlag struct {
	on   bool
	most time.Duration // 0: without a limit
}

// Set reads a duration, true or false.
func (w *waitFlag) Set(text string) error {
	*w = waitFlag{}
	if on, err := strconv.ParseBool(text); err == nil && text != "0" && text != "1" {
		w.on = on
		return nil
	}
	d, err := parseDuration(text)
	if err == nil && d <= 0 {
		err = errors.New("it must be longer than 0s")
	}
	w.on, w.most = err == nil, d
	return err
}

func (w *waitFlag) String() string {
	if w.most > 0 {
		return w.most.String()
	}
	return strconv.FormatBool(w.on)
}

// Type is the name of the flag's type.
func (*waitFlag) Type() string { return "duration" }

// queue queues a run of the task. It is also returned with [taskrt.ErrNotReplicated].
func (o *queueOptions) queue(ctx context.Context, t *task, payload []byte, client *taskrt.Client) (*broker.TaskRun, error) {
	options := []taskrt.QueueOption{taskrt.Delay(o.delay)}
	if !o.at.IsZero() {
		options = append(options, taskrt.At(o.at))
	}
	if o.id != "" {
		options = append(options, taskrt.ID(o.id))
	}
	if o.onQueue != "" {
		options = append(options, taskrt.OnQueue(o.onQueue))
	}
	switch o.priority {
	case "high":
		options = append(options, taskrt.WithPriority(taskrt.High))
	case "medium":
		options = append(options, taskrt.WithPriority(taskrt.Medium))
	case "low":
		options = append(options, taskrt.WithPriority(taskrt.Low))
	}
	for _, header := range o.headers {
		key, value, _ := strings.Cut(header, "=")
		options = append(options, taskrt.Header(key, value))
	}
	if o.wait.on && t.Spec().Keep == 0 {
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
func (c *commandLine) await(ctx context.Context, client *taskrt.Client, t *task, run *broker.TaskRun, o *taskOptions) error {
	waiting, cancel := ctx, func() {}
	if o.wait.most > 0 {
		waiting, cancel = context.WithTimeout(ctx, o.wait.most)
	}
	defer cancel()
	record, err := client.WaitTask(waiting, run)
	switch {
	case err == nil && record.State == broker.StateSucceeded:
		return c.printResult(t, run.ID, record.Result, o.json)
	case err == nil:
		return c.printFailure(run.ID, run.Task, record.State, record.Failure, runError(record), o.json)
	case ctx.Err() != nil:
		err = fmt.Errorf("wait for run %s: interrupted; the run stays queued, or goes on", run.ID)
	case waiting.Err() != nil:
		err = fmt.Errorf("wait for run %s: it has not ended within %v; the run stays queued, or goes on", run.ID, o.wait.most)
	}
	if o.json {
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
