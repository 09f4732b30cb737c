package taskapp

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
	taskrt "github.com/taskgen/taskgen/runtime"
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
func (a *app) parseTask(ctx context.Context, command string, args []string, o *taskOptions) (*task, []byte, error) {
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
	payload, err := t.EncodeParams(params)
	if err != nil {
		return nil, nil, fmt.Errorf("task %s: %w", t.Name(), err)
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
	logger := slog.New(slog.NewTextHandler(a.stderr, nil))
	if o.json {
		// What the task prints is not to stand among the JSON.
		defer func(stdout *os.File) { os.Stdout = stdout }(os.Stdout)
		os.Stdout = os.Stderr
	}
	cfg := taskrt.ConsumerConfig{Logger: logger, Children: taskrt.ChildConfig{Env: o.env}}
	x, err := taskrt.Exec(ctx, b, cfg, t.Task, payload)
	if err != nil {
		return err
	}
	if isEmbedded(o.broker) {
		logBacklog(logger, b)
	}
	if failure := x.Failure; failure != nil {
		err = fmt.Errorf("task %s %s: %s", t.Name(), failure.Kind, failure.Message)
		return a.printFailure(x.ID, t.Name(), failure, err, o.json)
	}
	return a.printResult(t, x.ID, x.Result, o.json)
}

// printFailure prints how a run failed, if JSON was asked for, and returns the
// error that says so.
func (a *app) printFailure(id, task string, f *broker.Failure, failed error, asJSON bool) error {
	if !asJSON {
		return failed
	}
	if f == nil {
		f = &broker.Failure{Kind: taskrt.Failed}
	}
	view := outcomeView{ID: id, Task: task, State: string(broker.StateFailed), Failure: newFailureView(f)}
	return errors.Join(failed, a.printJSON(view))
}

// printResult prints a task's result as JSON; a task without one prints
// nothing unless JSON was asked for.
func (a *app) printResult(t *task, id string, b []byte, asJSON bool) error {
	result, err := t.showResult(b)
	switch {
	case err != nil:
		return err
	case asJSON:
		return a.printJSON(outcomeView{ID: id, Task: t.Name(), State: string(broker.StateSucceeded), Result: result})
	case result == nil:
		return nil
	}
	return a.printJSON(result)
}
