package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/internal/subprocess"
)

// taskOptions are the flags that exec and queue have besides the parameters.
type taskOptions struct {
	broker string
	json   bool
	delay  time.Duration // queue only
	wait   bool          // queue only
	id     string        // queue only
	env    []string      // exec only
}

// parseTask reads "TASK --param value…" into the task and its encoded
// parameters.
func (a *app) parseTask(ctx context.Context, command string, args []string, o *taskOptions) (*Task, []byte, error) {
	t, args, err := a.task(command, args)
	if err != nil {
		return nil, nil, err
	}
	flags, params := a.newTaskFlags(ctx, command, t, o)
	if err = flags.parse(a, args); err == nil {
		err = o.check(flags.set.Name())
	}
	if err != nil {
		return nil, nil, err
	}
	payload, err := t.encodeParams(params)
	if err != nil {
		return nil, nil, fmt.Errorf("task %s: %w", t.spec.Name, t.spec.encodeError(err))
	}
	return t, payload, nil
}

func (o *taskOptions) addTo(set *flag.FlagSet, command string) {
	set.StringVar(&o.broker, "broker", "", "URL of the broker")
	set.BoolVar(&o.json, "json", false, "print JSON")
	if command != "queue" {
		childEnvVar(set, &o.env)
		return
	}
	durationVar(set, &o.delay, "delay", "not before this time from now, such as 10m")
	set.BoolVar(&o.wait, "wait", false, "wait for the end and print the result")
	textVar(set, &o.id, "id", "id of the run (default a new one)")
}

func (o *taskOptions) check(command string) error {
	switch {
	case o.delay < 0:
		return usagef(command, "the delay is %v; it cannot be negative", o.delay)
	case o.id != "":
		return checkID(command, o.id)
	}
	return nil
}

// outcomeView is how a run ended, as exec and queue --wait print it.
type outcomeView struct {
	ID      string          `json:"id"`
	Task    string          `json:"task"`
	State   string          `json:"state"`            // succeeded or failed
	Result  json.RawMessage `json:"result,omitempty"` // of a success, if the task has one
	Failure *failureView    `json:"failure,omitempty"`
}

// exec executes one attempt of a task in this process, a CPU-bound one in a
// child of it.
func (a *app) exec(ctx context.Context, args []string) error {
	o := &taskOptions{}
	t, payload, err := a.parseTask(ctx, "exec", args, o)
	if err != nil {
		return err
	}
	b, closeBroker, err := openBroker(ctx, o.broker, a.skipLogger())
	if err != nil {
		return err
	}
	defer closeBroker()
	client := NewClient(b, ClientConfig{})
	run, err := client.newRun(ctx, t, payload, nil)
	if err != nil {
		return err
	}
	run.Deliveries = 1
	logger := slog.New(slog.NewTextHandler(a.stderr, nil))
	if o.json {
		// What the task prints is not to stand among the JSON.
		defer func(stdout *os.File) { os.Stdout = stdout }(os.Stdout)
		os.Stdout = os.Stderr
	}
	result, failure, err := o.execute(ctx, t, run, client, logger)
	if err != nil {
		return fmt.Errorf("execute task %s: %w", t.spec.Name, err)
	}
	if isEmbedded(o.broker) {
		logBacklog(logger, b)
	}
	if failure != nil {
		err = fmt.Errorf("task %s %s: %s", t.spec.Name, failure.Kind, failure.Message)
		return a.printFailure(run.ID, t.spec.Name, failure, err, o.json)
	}
	return a.printResult(t, run.ID, result, o.json)
}

// execute runs one attempt without a consumer around it. The error is of what
// kept it from that.
func (o *taskOptions) execute(ctx context.Context, t *Task, run *broker.TaskRun, client *Client, logger *slog.Logger) (result []byte, failure *broker.Failure, err error) {
	deadline := time.Now().Add(t.spec.Timeout)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	secrets := t.secretsOf(run.Payload)
	if t.spec.Kind == IO {
		runCtx := newRunContext(ctx, run, deadline, client, logger)
		defer runCtx.end()
		runCtx.secrets = secrets
		ctx = runCtx // what ended it tells a timeout from a failure
		result, err = protectGoroutine(ctx, t, run.Payload)
	} else {
		pool, poolErr := subprocess.NewPool(subprocess.Config{Processes: 1, Grace: childGrace, Logger: logger, Env: o.env, GrantsBroker: grantsOf(client.broker), Call: serveCalls(client)})
		if poolErr != nil {
			return nil, nil, poolErr
		}
		defer closePool(ctx, pool, logger)
		var response *subprocess.Response
		response, err = pool.Run(ctx, &subprocess.Request{Run: run, Deadline: deadline, Memory: t.spec.Memory, Hide: secrets.inChild()})
		if err == nil {
			return response.Result, response.Failure, nil
		}
	}
	response := respond(ctx, secrets, result, err)
	if failure = response.Failure; failure != nil && errors.Is(ctx.Err(), context.Canceled) {
		failure.Kind = Cancelled // by a signal
		if errors.Is(err, context.Canceled) {
			failure.Message = "interrupted"
		}
	}
	return response.Result, failure, nil
}

// protectGoroutine is protect in a goroutine of its own, for which it waits: a
// task that calls runtime.Goexit ends that one, not the caller's.
func protectGoroutine(ctx context.Context, t *Task, payload []byte) (result []byte, err error) {
	err = errGoexit // unless it returns
	done := make(chan struct{})
	go func() {
		defer close(done)
		result, err = protect(ctx, t, payload, 0)
	}()
	<-done
	return result, err
}

func (a *app) queue(ctx context.Context, args []string) error {
	o := &taskOptions{}
	t, payload, err := a.parseTask(ctx, "queue", args, o)
	if err != nil {
		return err
	}
	if isEmbedded(o.broker) {
		return usagef("queue "+t.spec.Name, "the embedded broker ends with this process; name one with --broker or $%s, or use exec", brokerurl.Env)
	}
	b, closeBroker, err := openBroker(ctx, o.broker, a.skipLogger())
	if err != nil {
		return err
	}
	defer closeBroker()
	run, err := o.queue(ctx, t, payload, b)
	if err != nil && !errors.Is(err, ErrNotReplicated) {
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

// queue queues a run of the task. It is also returned with [ErrNotReplicated].
func (o *taskOptions) queue(ctx context.Context, t *Task, payload []byte, b broker.Broker) (*broker.TaskRun, error) {
	client := NewClient(b, ClientConfig{})
	options := []QueueOption{Delay(o.delay)}
	if o.id != "" {
		options = append(options, ID(o.id))
	}
	if o.wait && t.spec.Keep == 0 {
		options = append(options, Keep(time.Minute)) // there has to be something to wait for
	}
	run, err := client.newRun(ctx, t, payload, options)
	if err == nil {
		err = client.queue(ctx, run)
	}
	if err != nil {
		what := t.spec.Name
		if o.id != "" || errors.Is(err, ErrNotReplicated) || errors.Is(err, ErrOutcomeUnknown) {
			what += " as " + run.ID
		}
		return run, fmt.Errorf("queue task %s: %w", what, advise(err))
	}
	return run, nil
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
func (a *app) await(ctx context.Context, b broker.Broker, t *Task, run *broker.TaskRun, asJSON bool) error {
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

// printFailure prints how a run failed, if JSON was asked for, and returns the
// error that says so.
func (a *app) printFailure(id, task string, f *broker.Failure, failed error, asJSON bool) error {
	if !asJSON {
		return failed
	}
	if f == nil {
		f = &broker.Failure{Kind: Failed}
	}
	view := outcomeView{ID: id, Task: task, State: string(broker.StateFailed), Failure: newFailureView(f)}
	return errors.Join(failed, a.printJSON(view))
}

// printResult prints a task's result as JSON; a task without one prints
// nothing unless JSON was asked for.
func (a *app) printResult(t *Task, id string, b []byte, asJSON bool) error {
	result, err := t.showResult(b)
	switch {
	case err != nil:
		return err
	case asJSON:
		return a.printJSON(outcomeView{ID: id, Task: t.spec.Name, State: string(broker.StateSucceeded), Result: result})
	case result == nil:
		return nil
	}
	return a.printJSON(result)
}
