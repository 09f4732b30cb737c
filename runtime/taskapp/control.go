package taskapp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// controlOptions are the flags of the commands that inspect a broker and
// operate it.
type controlOptions struct {
	broker string
	json   bool
	queue  string // where it is not a word of its own; empty: all that are known
}

func (o *controlOptions) addTo(set *pflag.FlagSet) {
	set.StringVar(&o.broker, "broker", "", "URL of the broker")
	set.BoolVar(&o.json, "json", false, "print JSON")
}

// control is a broker that is inspected and operated.
type control struct {
	line      *commandLine
	command   string
	broker    broker.Broker
	inspector *taskrt.Inspector
	known     []string // queues: those of the program's tasks, and those that the broker knows
	unnamed   bool     // not all that the broker knows are known
	queues    []string // those to look into; nil: all

	mu      sync.Mutex
	skipped map[string]bool // the queues and names that were reported as skipped
}

// openControl opens the broker for a command, and returns how to close it.
func (c *commandLine) openControl(ctx context.Context, command string, o *controlOptions) (*control, func(), error) {
	if c.isEmbedded(o.broker) {
		return nil, nil, usagef(command, "the embedded broker is private to its process; set --broker or $%s", brokerurl.Env)
	}
	b, closeBroker, err := c.openBroker(ctx, o.broker, c.skipLogger())
	if err != nil {
		return nil, nil, err
	}
	ctl := &control{line: c, command: command, broker: b}
	if err := ctl.start(ctx, o); err != nil {
		closeBroker()
		return nil, nil, err
	}
	return ctl, closeBroker, nil
}

func (c *control) start(ctx context.Context, o *controlOptions) (err error) {
	c.inspector, err = taskrt.NewInspector(c.broker, c.line.tasks.plain())
	if err != nil {
		return err
	}
	c.known, err = c.inspector.QueueNames(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil:
		c.unnamed = true
		c.skip("names of queues", errors.Unwrap(err))
	}
	if o.queue != "" {
		c.queues = []string{o.queue}
		return c.checkQueue(o.queue)
	}
	return nil
}

func (c *control) checkQueue(name string) error {
	if slices.Contains(c.known, name) || c.unnamed && (&broker.TaskRun{ID: "-", Task: "-", Queue: name}).Validate() == nil {
		return nil
	}
	hint := didYouMean(name, c.known, "; known are "+text.List(c.known, mostNamed))
	return usagef(c.command, "no queue is named %q%s", name, hint)
}

// mostNamed is how many queues one line names.
const mostNamed = 20

// places names the queues into which a command looks, or counts them if they are more than
// most.
func (c *control) places(most int) string {
	switch {
	case len(c.queues) == 1:
		return "queue " + text.Printable(c.queues[0])
	case len(c.known) == 1:
		return "queue " + text.Printable(c.known[0])
	case len(c.known) > most:
		return text.Count(len(c.known), "queue")
	}
	return "the queues " + text.Printable(text.List(c.known, most))
}

// pauseCommand returns pause or resume.
func (c *commandLine) pauseCommand(name string) *cobra.Command {
	o := &controlOptions{}
	m := manual{
		use: "pause QUEUE", short: "stop handing out runs of a queue", example: "pause mail",
		long: "Hands out no run of the queue from now on; what was handed out goes on.\nresume has them handed out again.",
	}
	if name == "resume" {
		m = manual{
			use: "resume QUEUE", short: "hand out runs of a queue again", example: "resume mail",
			long: "Has the runs of a queue that was paused handed out again.",
		}
	}
	cmd := c.command(m, c.oneWord("the name of a queue"), func(ctx context.Context, _ *cobra.Command, words []string) error {
		return c.pause(ctx, name, o, words[0])
	})
	o.addTo(cmd.Flags())
	completeFlags(cmd, c.flagCompletions())
	cmd.ValidArgsFunction = firstWord(c.completeQueue)
	return cmd
}

func (c *commandLine) pause(ctx context.Context, name string, o *controlOptions, queue string) error {
	ctl, closeBroker, err := c.openControl(ctx, name, o)
	if err != nil {
		return err
	}
	defer closeBroker()
	if err := ctl.checkQueue(queue); err != nil {
		return err
	}
	change := ctl.inspector.Resume
	if name == "pause" {
		change = ctl.inspector.Pause
	}
	if err := change(ctx, queue); err != nil {
		return err
	}
	list, err := ctl.inspector.Queues(ctx, queue)
	if err != nil {
		return err
	}
	ctl.report(list.Skipped)
	info := &list.Queues[0]
	if o.json {
		return c.printJSON(newQueueView(info))
	}
	not := "not "
	if info.Paused {
		not = ""
	}
	_, err = fmt.Fprintf(c.stdout, "queue %s is %spaused: %d queued, %d delayed, %d running\n", queue, not, info.Queued, info.Delayed, info.Running)
	return err
}

// disabledView is the JSON of disable and enable.
type disabledView struct {
	Task     string `json:"task"`
	Queue    string `json:"queue"`
	Disabled bool   `json:"disabled"`
}

// enableCommand returns enable or disable.
func (c *commandLine) enableCommand(name string) *cobra.Command {
	o := &controlOptions{}
	m := manual{
		use: "disable TASK", short: "stop handing out runs of a task", example: "disable " + c.exampleTask(),
		long: "Hands out no run of the task from now on: they are queued, and wait, and none\nof its ticks is claimed. What was handed out goes on. enable ends that.",
	}
	if name == "enable" {
		m = manual{
			use: "enable TASK", short: "hand out runs of a task again", example: "enable " + c.exampleTask(),
			long: "Has the runs of a task that was disabled handed out again.",
		}
	}
	cmd := c.command(m, c.oneWord("the name of a task"), func(ctx context.Context, _ *cobra.Command, words []string) error {
		return c.disable(ctx, name, o, words[0])
	})
	o.addTo(cmd.Flags())
	textVar(cmd.Flags(), &o.queue, "queue", "another queue than the task's own")
	completeFlags(cmd, c.flagCompletions())
	cmd.ValidArgsFunction = firstWord(c.completeTaskName)
	return cmd
}

func (c *commandLine) disable(ctx context.Context, name string, o *controlOptions, task string) error {
	t := c.taskNamed(task)
	if t == nil && name == "disable" {
		return c.unknownTask(name, task)
	}
	ctl, closeBroker, err := c.openControl(ctx, name, o)
	if err != nil {
		return err
	}
	defer closeBroker()
	queues := ctl.queues
	switch {
	case t != nil && queues == nil:
		queues = t.Spec().Queues()
	case t == nil:
		if queues, err = ctl.disabling(ctx, task); err != nil {
			return err
		}
	}
	if t != nil {
		task = t.Name()
	}
	return ctl.disable(ctx, queues, task, name == "disable", o.json)
}

// disabling returns the queues in which a task that the program does not know
// is disabled, so that it can be enabled.
func (c *control) disabling(ctx context.Context, task string) (queues []string, err error) {
	list, err := c.inspector.Queues(ctx, c.queues...)
	if err != nil {
		return nil, err
	}
	c.report(list.Skipped)
	for _, q := range list.Queues {
		if slices.Contains(q.Disabled, task) {
			queues = append(queues, q.Queue)
		}
	}
	if queues == nil {
		return nil, c.unlessSkipped(c.line.unknownTask(c.command, task))
	}
	return queues, nil
}

// disable disables or enables the task in queues, and prints the new state.
func (c *control) disable(ctx context.Context, queues []string, task string, disabled, asJSON bool) error {
	change := c.inspector.Enable
	if disabled {
		change = c.inspector.Disable
	}
	for _, queue := range queues {
		err := change(ctx, task, queue)
		var list *taskrt.QueueList
		if err == nil {
			list, err = c.inspector.Queues(ctx, queue)
		}
		switch {
		case err != nil && len(queues) == 1:
			return err
		case err != nil:
			c.skip(inQueue(queue), err)
			continue
		}
		c.report(list.Skipped)
		view := disabledView{task, queue, slices.Contains(list.Queues[0].Disabled, task)}
		if err := c.line.printDisabled(view, asJSON); err != nil {
			return err
		}
	}
	return c.incomplete()
}

func (c *commandLine) printDisabled(view disabledView, asJSON bool) error {
	if asJSON {
		return c.printJSON(view)
	}
	state := "enabled"
	if view.Disabled {
		state = "disabled"
	}
	_, err := fmt.Fprintf(c.stdout, "task %s is %s in queue %s\n", view.Task, state, view.Queue)
	return err
}

// exampleTask is the task of examples in help.
func (c *commandLine) exampleTask() string {
	if len(c.tasks.list) == 0 {
		return "send_mail"
	}
	return c.tasks.list[0].Spec().Name
}

// exampleFlags are the parameters of that task.
func (c *commandLine) exampleFlags() string {
	if len(c.tasks.list) == 0 {
		return " --to …"
	}
	params, _ := c.tasks.list[0].paramFlags(context.Background())
	return exampleFlags(params)
}

// skip notes on standard error that something could not be read or done, and lets the
// command go on without it.
func (c *control) skip(what string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.skipped == nil {
		c.skipped = make(map[string]bool)
	}
	if c.skipped[what] {
		return
	}
	c.skipped[what] = true
	fmt.Fprintf(c.line.stderr, "%s: %s: skipped: %s\n", c.line.name(), text.Printable(what), oneLine(err))
}

// report notes what the inspector skipped.
func (c *control) report(skipped []taskrt.Skipped) {
	for _, s := range skipped {
		what := inQueue(s.Queue)
		if s.Queue == "" {
			what = "names of queues"
		}
		c.skip(what, s.Err)
	}
}

func inQueue(queue string) string { return "queue " + queue }

// incomplete returns an error if anything was skipped.
func (c *control) incomplete() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.skipped) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %s skipped in whole or in part, as said above", c.command, text.Count(len(c.skipped), "place"))
}

// unlessSkipped adds to a not-found error that the command skipped places, if it did.
func (c *control) unlessSkipped(err error) error {
	if c.incomplete() != nil {
		return fmt.Errorf("%w; it may be where this command did not get to look", err)
	}
	return err
}

// brokerText describes a broker: its URL and the beginning of its keys.
func (c *control) brokerText(url string) (redacted, prefix string) {
	redacted = brokerurl.Redact(c.line.brokers(nil).URL(url))
	if p, ok := c.broker.(maintenance.Prefixer); ok {
		prefix = p.Prefix()
	}
	return redacted, prefix
}
