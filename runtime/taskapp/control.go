package taskapp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/text"
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
	line     *commandLine
	command  string
	broker   broker.Broker
	controls broker.Controls
	records  broker.Records
	known    []string // queues: those of the program's tasks, and those that the broker knows
	queues   []string // those to look at
	silent   bool     // skipped queues are not reported
	unnamed  bool     // not all that the broker knows are known

	mu     sync.Mutex
	passed map[string]bool // the queues and names that the command skipped
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

func (c *control) start(ctx context.Context, o *controlOptions) error {
	var controlled, recorded bool
	c.controls, controlled = c.broker.(broker.Controls)
	c.records, recorded = c.broker.(broker.Records)
	if !controlled || !recorded {
		return errors.New("this broker has no broker.Controls, or no broker.Records, so it cannot be looked into")
	}
	names, err := c.names(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil && names == nil:
		c.unnamed = true
		c.pass("names of queues", err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return checkQueueName(name) != nil })
	for _, t := range c.line.tasks.list {
		names = append(names, t.Spec().Queue)
	}
	slices.Sort(names)
	c.known = slices.Compact(names)
	c.queues = c.known
	if o.queue != "" {
		c.queues = []string{o.queue}
		return c.checkQueue(o.queue)
	}
	return nil
}

// names returns the names of the queues that the broker knows.
func (c *control) names(ctx context.Context) ([]string, error) {
	if namer, ok := c.broker.(maintenance.Namer); ok {
		return namer.QueueNames(ctx)
	}
	lengths, err := c.broker.QueueLength(ctx)
	if lengths == nil {
		return nil, err
	}
	return slices.AppendSeq([]string{}, maps.Keys(lengths)), err
}

func (c *control) checkQueue(name string) error {
	if slices.Contains(c.known, name) || c.unnamed && checkQueueName(name) == nil {
		return nil
	}
	hint := didYouMean(name, c.known, "; known are "+text.List(c.known, mostNamed))
	return usagef(c.command, "no queue is named %q%s", name, hint)
}

// checkQueueName refuses a name that no queue can have.
func checkQueueName(name string) error {
	return (&broker.TaskRun{ID: "-", Task: "-", Queue: name}).Validate()
}

// mostNamed is how many queues one line names.
const mostNamed = 20

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
	if err := ctl.controls.Pause(ctx, queue, name == "pause"); err != nil {
		return err
	}
	info, err := ctl.controls.Queue(ctx, queue)
	if info == nil {
		return err
	}
	if err != nil {
		ctl.pass(inQueue(queue), err)
	}
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
	if t != nil && o.queue == "" {
		ctl.queues = []string{t.Spec().Queue}
	}
	names := []string{task}
	if t != nil {
		names = t.names()
	} else if ctl.queues, err = ctl.disabling(ctx, task); err != nil {
		return err
	}
	return ctl.disable(ctx, names, name == "disable", o.json)
}

// disabling returns the queues in which a task that the program does not know
// is disabled, so that it can be enabled.
func (c *control) disabling(ctx context.Context, task string) (queues []string, err error) {
	infos, err := c.infos(ctx, c.queues)
	if err != nil {
		return nil, err
	}
	for i, info := range infos {
		if info != nil && slices.Contains(info.Disabled, task) {
			queues = append(queues, c.queues[i])
		}
	}
	if queues == nil {
		return nil, c.unlessPassed(c.line.unknownTask(c.command, task))
	}
	return queues, nil
}

// disable disables or enables the task of these names, and prints the new state.
func (c *control) disable(ctx context.Context, names []string, disabled, asJSON bool) error {
	for _, queue := range c.queues {
		info, err := c.disableIn(ctx, queue, names, disabled)
		if info == nil && len(c.queues) == 1 {
			return err
		}
		if err != nil {
			c.pass(inQueue(queue), err)
		}
		if info == nil {
			continue
		}
		view := disabledView{names[0], queue, slices.Contains(info.Disabled, names[0])}
		if asJSON {
			err = c.line.printJSON(view)
		} else {
			state := "enabled"
			if view.Disabled {
				state = "disabled"
			}
			_, err = fmt.Fprintf(c.line.stdout, "task %s is %s in queue %s\n", view.Task, state, view.Queue)
		}
		if err != nil {
			return err
		}
	}
	return c.incomplete()
}

// disableIn is disable in one queue. It returns the queue's new state.
func (c *control) disableIn(ctx context.Context, queue string, names []string, disabled bool) (*broker.QueueInfo, error) {
	for _, name := range names {
		if err := c.controls.Disable(ctx, queue, name, disabled); err != nil {
			return nil, err
		}
	}
	return c.controls.Queue(ctx, queue)
}

// infos returns the state of queues, nil for a queue that is skipped.
func (c *control) infos(ctx context.Context, queues []string) ([]*broker.QueueInfo, error) {
	return inMany(ctx, c, queues, func(s maintenance.Surveyor, queues []string, part func(maintenance.Part[*broker.QueueInfo])) error {
		return s.SurveyQueues(ctx, queues, part)
	}, found[*broker.QueueInfo], func(queue string) (*broker.QueueInfo, error) { return c.controls.Queue(ctx, queue) })
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
