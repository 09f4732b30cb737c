package taskapp

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/text"
)

// queueView is a queue as status prints it.
type queueView struct {
	Queue    string   `json:"queue"`
	Queued   int64    `json:"queued"`
	Delayed  int64    `json:"delayed"`
	Running  int64    `json:"running"`
	Dead     int64    `json:"dead"`
	Trimmed  int64    `json:"trimmed"` // dead letters beyond the limit of how many are kept
	Paused   bool     `json:"paused"`
	Disabled []string `json:"disabled"` // tasks
}

func newQueueView(info *broker.QueueInfo) queueView {
	return queueView{
		info.Queue, info.Queued, info.Delayed, info.Running, info.Dead, info.Trimmed,
		info.Paused, append([]string{}, info.Disabled...),
	}
}

// taskView is how a task ended last in a queue, as status prints it.
type taskView struct {
	Task  string    `json:"task"`
	Queue string    `json:"queue"`
	Last  *lastView `json:"last"` // null: nothing is known of one
}

type lastView struct {
	ID      string    `json:"id"`
	Started time.Time `json:"started"`
	Took    string    `json:"took"`  // such as 1.5s
	Ended   string    `json:"ended"` // succeeded, or how it failed

	took time.Duration
}

func newLastView(l broker.LastRun) *lastView {
	return &lastView{l.ID, l.Started, l.Took.String(), cmp.Or(string(l.Failure), string(broker.StateSucceeded)), l.Took}
}

// statusView is the JSON of status.
type statusView struct {
	Queues []queueView `json:"queues"`
	Tasks  []taskView  `json:"tasks"`
}

func (c *commandLine) statusCommand() *cobra.Command {
	o := &controlOptions{}
	cmd := c.command(manual{
		use: "status", short: "show the queues, and how each task ended last",
		long: `Shows of each queue how many runs are due, delayed, running and dead, how many
dead ones were trimmed as there were too many, and what was stopped by hand;
and of each task how its latest run ended.`,
		example: "status --queue default",
	}, c.noWords, func(ctx context.Context, _ *cobra.Command, _ []string) error { return c.status(ctx, o) })
	o.addTo(cmd.Flags())
	textVar(cmd.Flags(), &o.queue, "queue", "only this queue")
	completeFlags(cmd, c.flagCompletions())
	return cmd
}

func (c *commandLine) status(ctx context.Context, o *controlOptions) error {
	ctl, closeBroker, err := c.openControl(ctx, "status", o)
	if err != nil {
		return err
	}
	defer closeBroker()
	view, err := ctl.status(ctx)
	switch {
	case err != nil:
		return err
	case o.json:
		err = c.printJSON(view)
	default:
		err = c.printStatus(view)
	}
	return cmp.Or(err, ctl.incomplete())
}

func (c *control) status(ctx context.Context) (*statusView, error) {
	view := &statusView{Queues: []queueView{}, Tasks: []taskView{}}
	infos, err := c.infos(ctx, c.queues)
	if err != nil {
		return nil, err
	}
	for i, queue := range c.queues {
		info := infos[i]
		if info == nil {
			continue
		}
		view.Queues = append(view.Queues, newQueueView(info))
		for _, t := range c.line.tasks.list {
			if _, ran := info.Last[t.Name()]; !ran && t.Spec().Queue == queue {
				view.Tasks = append(view.Tasks, taskView{Task: t.Name(), Queue: queue})
			}
		}
		for task, last := range info.Last {
			view.Tasks = append(view.Tasks, taskView{task, queue, newLastView(last)})
		}
	}
	slices.SortFunc(view.Tasks, func(a, b taskView) int {
		return cmp.Or(cmp.Compare(a.Task, b.Task), cmp.Compare(a.Queue, b.Queue))
	})
	return view, nil
}

func (c *commandLine) printStatus(view *statusView) error {
	w := c.table()
	fmt.Fprintln(w, "QUEUE\tQUEUED\tDELAYED\tRUNNING\tDEAD\tTRIMMED\tPAUSED\tDISABLED")
	for _, q := range view.Queues {
		paused := "-"
		if q.Paused {
			paused = "paused"
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", text.Printable(q.Queue), q.Queued, q.Delayed, q.Running, q.Dead, q.Trimmed,
			paused, orDash(text.Printable(strings.Join(q.Disabled, " "))))
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "TASK\tQUEUE\tLAST RUN\tTOOK\tENDED")
	for _, t := range view.Tasks {
		fmt.Fprintf(w, "%s\t%s\t", text.Printable(t.Task), text.Printable(t.Queue))
		if t.Last == nil {
			fmt.Fprintln(w, "-\t-\t-")
			continue
		}
		fmt.Fprintf(w, "%s ago\t%s\t%s\n", age(t.Last.Started), span(t.Last.took), text.Printable(t.Last.Ended))
	}
	return w.Flush()
}
