package taskapp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/taskgen/taskgen/broker"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// taskOptions are the flags that exec and queue have besides the parameters.
type taskOptions struct {
	broker string
	json   bool
	env    []string // exec only
	queueOptions
}

func (o *taskOptions) addTo(set *pflag.FlagSet, command string) {
	set.StringVar(&o.broker, "broker", "", "URL of the broker")
	set.BoolVar(&o.json, "json", false, "print JSON")
	if command != "queue" {
		childEnvVar(set, &o.env)
		return
	}
	o.queueOptions.addTo(set)
}

// outcomeView is how a run ended, as exec and queue --wait print it.
type outcomeView struct {
	ID      string          `json:"id"`
	Task    string          `json:"task"`
	State   string          `json:"state"`            // succeeded, failed or cancelled
	Result  json.RawMessage `json:"result,omitempty"` // of a success, if the task has one
	Failure *failureView    `json:"failure,omitempty"`
	Queued  *queuedView     `json:"queued,omitempty"` // of exec, if the task returned a call
}

// queuedView is a run of a call that a task returned.
type queuedView struct {
	ID    string `json:"id"`
	Queue string `json:"queue"`
}

func (c *commandLine) execCommand() *cobra.Command {
	return c.taskGroup(manual{
		use: "exec TASK [--param value…]", short: "execute one task here and now",
		long:    "Executes one attempt of a task in this process, a CPU-bound one in a child of it.\n" + c.taskHelpHint("exec"),
		example: "exec " + c.exampleTask() + c.exampleFlags(),
	}, c.exec)
}

// taskHelpHint names the command that shows the parameters of a task.
func (c *commandLine) taskHelpHint(command string) string {
	return command + " TASK --help shows the parameters of a task."
}

// exec executes one attempt of a task in this process, a CPU-bound one in a
// child of it.
func (c *commandLine) exec(ctx context.Context, o *taskOptions, t *task, payload []byte) error {
	b, closeBroker, err := c.openBroker(ctx, o.broker, c.skipLogger())
	if err != nil {
		return err
	}
	defer closeBroker()
	logger := c.app.newLogger(slog.NewTextHandler(c.stderr, nil))
	if o.json {
		// The task's own output must not mix with the JSON.
		defer func(stdout *os.File) { os.Stdout = stdout }(os.Stdout)
		os.Stdout = os.Stderr
	}
	cfg := c.app.Consumer
	if cfg.Logger == nil {
		cfg.Logger = logger
	}
	if o.env != nil {
		cfg.Children.Env = o.env
	}
	c.withhold(&cfg.Children, o.broker)
	ctx = taskrt.WithClient(ctx, c.client(b))
	if err := c.app.start(ctx); err != nil {
		return err
	}
	defer c.app.stop(ctx, logger)
	x, err := taskrt.Exec(ctx, b, cfg, t.Task, payload)
	if err != nil {
		return err
	}
	if c.isEmbedded(o.broker) {
		logBacklog(logger, b)
	}
	if failure := x.Failure; failure != nil {
		err = fmt.Errorf("task %s %s: %s", t.Name(), failure.Kind, failure.Message)
		return c.printFailure(x.ID, t.Name(), broker.StateFailed, failure, err, o.json)
	}
	if x.Queued != nil {
		return c.printCall(t, x, o.json)
	}
	return c.printResult(t, x.ID, x.Result, o.json)
}

// printCall prints the id of the last run of the call that a task returned.
func (c *commandLine) printCall(t *task, x *taskrt.ExecResult, asJSON bool) error {
	if asJSON {
		queued := &queuedView{x.Queued.ID, x.Queued.Queue}
		return c.printJSON(outcomeView{ID: x.ID, Task: t.Name(), State: string(broker.StateSucceeded), Queued: queued})
	}
	_, err := fmt.Fprintln(c.stdout, x.Queued.ID)
	return err
}

// printFailure prints the failure of a run as JSON, if that was asked for, and returns
// its error.
func (c *commandLine) printFailure(id, task string, state broker.State, f *broker.Failure, failed error, asJSON bool) error {
	if !asJSON {
		return failed
	}
	if f == nil {
		f = &broker.Failure{Kind: taskrt.Failed}
	}
	view := outcomeView{ID: id, Task: task, State: string(state), Failure: newFailureView(f)}
	return errors.Join(failed, c.printJSON(view))
}

// printResult prints a task's result as JSON; a task without one prints
// nothing unless JSON was asked for.
func (c *commandLine) printResult(t *task, id string, b []byte, asJSON bool) error {
	result, err := t.ShowResult(b)
	switch {
	case err != nil:
		return err
	case asJSON:
		return c.printJSON(outcomeView{ID: id, Task: t.Name(), State: string(broker.StateSucceeded), Result: result})
	case result == nil:
		return nil
	}
	return c.printJSON(result)
}
