package runtime

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
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
// parameters. A parameter wins over an option of the same name.
func (a *app) parseTask(command string, args []string, o *taskOptions) (*Task, []byte, error) {
	t, args, err := a.task(command, args)
	if err != nil {
		return nil, nil, err
	}
	set := a.flags(command + " " + t.spec.Name)
	params := t.newParams()
	given := t.paramFlags(set, params)
	o.addTo(set, command)
	if err := a.parse(set, args, manual{set.Name() + " [flags]", t.spec.Doc, set.Name() + exampleFlags(t)}); err != nil {
		return nil, nil, err
	}
	for _, f := range given {
		if f.err != nil {
			return nil, nil, usagef(set.Name(), "%v", f.err)
		}
	}
	if missing := missingParams(given); len(missing) > 0 {
		return nil, nil, usagef(set.Name(), "missing %s", strings.Join(missing, ", "))
	}
	payload, err := t.encode(params)
	if err != nil {
		return nil, nil, fmt.Errorf("encode parameters of task %s: %w", t.spec.Name, err)
	}
	return t, payload, nil
}

func (o *taskOptions) addTo(set *flag.FlagSet, command string) {
	add := func(name string, define func()) {
		if set.Lookup(name) == nil {
			define()
		}
	}
	add("broker", func() { set.StringVar(&o.broker, "broker", "", "URL of the broker") })
	add("json", func() { set.BoolVar(&o.json, "json", false, "print JSON") })
	if command != "queue" {
		add("child-env", func() { childEnvVar(set, &o.env) })
		return
	}
	add("delay", func() { durationVar(set, &o.delay, "delay", "not before this time from now, such as 10m") })
	add("wait", func() { set.BoolVar(&o.wait, "wait", false, "wait for the end and print the result") })
	add("id", func() { set.StringVar(&o.id, "id", "", "id of the run (default a new one)") })
}

// exec executes one attempt of a task in this process, a CPU-bound one in a
// child of it.
func (a *app) exec(ctx context.Context, args []string) error {
	o := &taskOptions{}
	t, payload, err := a.parseTask("exec", args, o)
	if err != nil {
		return err
	}
	b, closeBroker, err := openBroker(ctx, o.broker)
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
	result, err := o.execute(ctx, t, run, client, logger)
	if err != nil {
		failure := failureOf(ctx, err)
		return fmt.Errorf("task %s %s: %s", t.spec.Name, failure.Kind, failure.Message)
	}
	if strings.HasPrefix(brokerURL(o.broker), memoryScheme+":") {
		logBacklog(logger, b)
	}
	return a.printResult(t, run.ID, result, o.json)
}

// execute runs one attempt without a consumer around it.
func (o *taskOptions) execute(ctx context.Context, t *Task, run *broker.TaskRun, client *Client, logger *slog.Logger) ([]byte, error) {
	deadline := time.Now().Add(t.spec.Timeout)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if t.spec.Kind == IO {
		ctx = newRunContext(ctx, run, deadline, client, logger)
		return protectGoroutine(ctx, t, run.Payload)
	}
	pool, err := subprocess.NewPool(subprocess.Config{Processes: 1, Grace: childGrace, Logger: logger, Env: o.env, Call: callServer{client}.serve})
	if err != nil {
		return nil, err
	}
	defer closePool(ctx, pool, logger)
	response, err := pool.Run(ctx, &subprocess.Request{Run: run, Deadline: deadline, Memory: t.spec.Memory})
	if err != nil {
		return nil, err
	}
	if response.Failure != nil {
		return nil, &childError{response}
	}
	return response.Result, nil
}

// protectGoroutine is protect in a goroutine of its own, for which it waits: a
// task that calls runtime.Goexit ends that one, not the caller's.
func protectGoroutine(ctx context.Context, t *Task, payload []byte) (result []byte, err error) {
	err = errGoexit // unless it returns
	done := make(chan struct{})
	go func() {
		defer close(done)
		result, err = protect(ctx, t, payload)
	}()
	<-done
	return result, err
}

func (a *app) queue(ctx context.Context, args []string) error {
	o := &taskOptions{}
	t, payload, err := a.parseTask("queue", args, o)
	if err != nil {
		return err
	}
	if strings.HasPrefix(brokerURL(o.broker), memoryScheme+":") {
		return usagef("queue "+t.spec.Name, "the embedded broker ends with this process; name one with --broker or $%s, or use exec", BrokerEnv)
	}
	b, closeBroker, err := openBroker(ctx, o.broker)
	if err != nil {
		return err
	}
	defer closeBroker()
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
		if o.id != "" || errors.Is(err, ErrNotReplicated) {
			what += " as " + run.ID
		}
		return fmt.Errorf("queue task %s: %w", what, advise(err))
	}
	if !o.wait {
		if o.json {
			return a.printJSON(map[string]any{"id": run.ID, "task": run.Task, "queue": run.Queue})
		}
		_, err = fmt.Fprintln(a.stdout, run.ID)
		return err
	}
	records, ok := b.(broker.Records)
	if !ok {
		return errors.New("wait for the run: this broker keeps no records")
	}
	record, err := records.WaitRecord(ctx, run.Queue, run.ID)
	if err != nil {
		return fmt.Errorf("wait for run %s: %w", run.ID, err)
	}
	if record.State != broker.StateSucceeded {
		return runError(record)
	}
	return a.printResult(t, run.ID, record.Result, o.json)
}

// printResult prints a task's result as JSON; a task without one prints
// nothing unless JSON was asked for.
func (a *app) printResult(t *Task, id string, b []byte, asJSON bool) error {
	result, err := t.decodeResult(b)
	if err != nil {
		return err
	}
	_, none := result.(None)
	switch {
	case asJSON && none:
		return a.printJSON(map[string]any{"id": id, "task": t.spec.Name})
	case asJSON:
		return a.printJSON(map[string]any{"id": id, "task": t.spec.Name, "result": result})
	case none:
		return nil
	}
	return a.printJSON(result)
}
