package taskapp

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// queueView is a queue as status prints it.
type queueView struct {
	Queue      string      `json:"queue"`
	Queued     int64       `json:"queued"`
	Held       int64       `json:"held"` // of queued: a limit or their turn keeps them back
	Delayed    int64       `json:"delayed"`
	Running    int64       `json:"running"`
	Dead       int64       `json:"dead"`
	Trimmed    int64       `json:"trimmed"`         // dead letters beyond the limit of how many are kept
	Oldest     time.Time   `json:"oldest,omitzero"` // since when the run is due that waits the longest
	Consumers  *int        `json:"consumers"`       // that take from it; null: unknown
	NoConsumer bool        `json:"no_consumer"`     // it has runs, and none takes from it
	Paused     bool        `json:"paused"`
	Disabled   []string    `json:"disabled"` // tasks
	Limits     []limitView `json:"limits,omitempty"`
}

// limitView is a limit that keeps runs back.
type limitView struct {
	Key     string            `json:"key"`
	Task    string            `json:"task,omitempty"`
	Values  []json.RawMessage `json:"values,omitempty"` // of the parameters that the limit depends on
	Max     int               `json:"max"`
	Per     string            `json:"per,omitempty"` // empty: at once
	Used    int               `json:"used"`
	Waiting int64             `json:"waiting"`

	digest string
}

// whose describes the limit by its task, and by the values that it depends on or their digest.
func (l *limitView) whose() string {
	switch {
	case l.Task == "":
		return l.Key
	case l.digest == "":
		return l.Task
	case l.Values == nil:
		return l.Task + " (digest " + l.digest + ")"
	}
	values := make([]string, len(l.Values))
	for i, v := range l.Values {
		values[i] = string(v)
	}
	return l.Task + " " + strings.Join(values, ", ")
}

func newQueueView(q *taskrt.QueueStatus) queueView {
	v := queueView{
		Queue: q.Queue, Queued: q.Queued, Held: q.Held, Delayed: q.Delayed, Running: q.Running, Dead: q.Dead, Trimmed: q.Trimmed,
		Oldest: utc(q.Oldest), NoConsumer: q.NoConsumer, Paused: q.Paused, Disabled: append([]string{}, q.Disabled...),
	}
	if q.Consumers >= 0 {
		v.Consumers = &q.Consumers
	}
	for _, l := range q.Limits {
		limit := limitView{Key: l.Key, Task: l.Task, Values: l.Values, Max: l.Max, Used: l.Used, Waiting: l.Waiting, digest: l.Digest}
		if l.Per > 0 {
			limit.Per = l.Per.String()
		}
		v.Limits = append(v.Limits, limit)
	}
	return v
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
	return &lastView{l.ID, utc(l.Started), l.Took.String(), cmp.Or(string(l.Failure), string(broker.StateSucceeded)), l.Took}
}

// scheduleView is a schedule as status prints it.
type scheduleView struct {
	Task    string    `json:"task"`
	Queue   string    `json:"queue"`
	ID      string    `json:"id,omitempty"` // of a schedule made at run time
	Rule    string    `json:"rule"`
	Zone    string    `json:"zone,omitempty"`
	Last    time.Time `json:"last,omitzero"` // the last tick that was queued
	Next    time.Time `json:"next,omitzero"` // the tick behind it
	Overdue bool      `json:"overdue"`       // that is late
	Why     string    `json:"why,omitempty"`

	late     time.Duration
	disabled bool
}

// statusView is the JSON of status.
type statusView struct {
	Broker    string         `json:"broker"`
	Prefix    string         `json:"prefix,omitempty"`
	Queues    []queueView    `json:"queues"`
	Tasks     []taskView     `json:"tasks"`
	Schedules []scheduleView `json:"schedules"` // of the program's tasks, and those made at run time that are overdue
}

func (c *commandLine) statusCommand() *cobra.Command {
	o := &controlOptions{}
	cmd := c.command(manual{
		use: "status", short: "show the queues, the schedules, and how each task ended last",
		long: `Shows of each queue how many runs are due, held back by limits, delayed, running and
dead, how long the oldest has waited, how many consumers take from it, and what was
stopped by hand; which limits hold runs back; when each schedule ticks; and of each task
how its latest run ended. NO CONSUMER and OVERDUE are what needs a person.`,
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
	if err != nil {
		return err
	}
	view.Broker, view.Prefix = ctl.brokerText(o.broker)
	if o.json {
		err = c.printJSON(view)
	} else {
		err = c.printStatus(view)
	}
	return cmp.Or(err, ctl.incomplete())
}

func (c *control) status(ctx context.Context) (*statusView, error) {
	view := &statusView{Queues: []queueView{}, Tasks: []taskView{}, Schedules: []scheduleView{}}
	found, err := c.inspector.Overview(ctx, c.queues...)
	if err != nil {
		return nil, err
	}
	c.report(found.Queues.Skipped)
	for i := range found.Queues.Queues {
		q := &found.Queues.Queues[i]
		view.Queues = append(view.Queues, newQueueView(q))
		for _, t := range c.line.tasks.list {
			if _, ran := q.Last[t.Name()]; !ran && t.Spec().Queue == q.Queue {
				view.Tasks = append(view.Tasks, taskView{Task: t.Name(), Queue: q.Queue})
			}
		}
		for task, last := range q.Last {
			view.Tasks = append(view.Tasks, taskView{task, q.Queue, newLastView(last)})
		}
	}
	slices.SortFunc(view.Tasks, func(a, b taskView) int {
		return cmp.Or(cmp.Compare(a.Task, b.Task), cmp.Compare(a.Queue, b.Queue))
	})
	c.report(found.Schedules.Skipped)
	view.addSchedules(found.Schedules)
	return view, nil
}

// addSchedules adds the schedules of the program's tasks, and of those made at run time the
// ones that are overdue: there can be very many.
func (view *statusView) addSchedules(list *taskrt.ScheduleList) {
	for _, s := range list.Schedules {
		if s.ID != "" && !s.Overdue {
			continue
		}
		view.Schedules = append(view.Schedules, scheduleView{
			Task: s.Task, Queue: s.Queue, ID: s.ID, Rule: s.Spec, Zone: s.Zone, Last: utc(s.Last), Next: s.Next,
			Overdue: s.Overdue, Why: s.Why, late: list.Now.Sub(s.Next), disabled: s.Disabled,
		})
	}
}

func (c *commandLine) printStatus(view *statusView) error {
	line := "broker " + view.Broker
	if view.Prefix != "" {
		line += ", prefix " + view.Prefix
	}
	if _, err := fmt.Fprintf(c.stdout, "%s\n\n", text.Printable(line)); err != nil {
		return err
	}
	for _, write := range []func(io.Writer, *statusView){printQueues, printLimits, printSchedules, printLastRuns} {
		w := c.table()
		write(w, view)
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func printQueues(w io.Writer, view *statusView) {
	fmt.Fprintln(w, "QUEUE\tQUEUED\tHELD\tDELAYED\tRUNNING\tDEAD\tOLDEST\tCONSUMERS\tNOTES")
	for _, q := range view.Queues {
		consumers := "-"
		if q.Consumers != nil {
			consumers = fmt.Sprint(*q.Consumers)
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n", text.Printable(q.Queue), q.Queued, q.Held, q.Delayed, q.Running, q.Dead,
			age(q.Oldest), consumers, orDash(text.Printable(q.notes())))
	}
}

// notes is what a person should know of a queue.
func (q *queueView) notes() string {
	var notes []string
	if q.NoConsumer {
		notes = append(notes, "NO CONSUMER")
	}
	if q.Paused {
		notes = append(notes, "paused")
	}
	if len(q.Disabled) > 0 {
		notes = append(notes, "disabled: "+strings.Join(q.Disabled, " "))
	}
	if q.Trimmed > 0 {
		notes = append(notes, text.Count(int(q.Trimmed), "dead letter")+" trimmed")
	}
	return strings.Join(notes, "; ")
}

// mostLimits is how many limits of a queue are shown.
const mostLimits = 10

func printLimits(w io.Writer, view *statusView) {
	some := false
	for _, q := range view.Queues {
		for _, l := range q.Limits[:min(len(q.Limits), mostLimits)] {
			if !some {
				fmt.Fprintln(w, "\nHELD BACK BY\tQUEUE\tLIMIT\tUSED\tWAITING")
				some = true
			}
			limit := fmt.Sprintf("%d at once", l.Max)
			if l.Per != "" {
				limit = fmt.Sprintf("%d in %s", l.Max, l.Per)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\n", text.Printable(text.Truncate(l.whose(), 60)), text.Printable(q.Queue), limit, l.Used, l.Waiting)
		}
	}
}

// mostOverdue is how many schedules made at run time are shown.
const mostOverdue = 20

func printSchedules(w io.Writer, view *statusView) {
	dynamic := 0
	for i, s := range view.Schedules {
		if i == 0 {
			fmt.Fprintln(w, "\nSCHEDULE\tQUEUE\tRULE\tLAST TICK\tNEXT TICK")
		}
		name := s.Task
		if s.ID != "" {
			if dynamic++; dynamic > mostOverdue {
				continue
			}
			name += " " + s.ID
		}
		last := "-"
		if !s.Last.IsZero() {
			last = age(s.Last) + " ago"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", text.Printable(name), text.Printable(s.Queue),
			text.Printable(ruleText(strings.TrimPrefix(s.Rule, "@"), s.Zone)), last, text.Printable(s.next()))
	}
	if more := dynamic - mostOverdue; more > 0 {
		fmt.Fprintf(w, "%s more made at run time %s OVERDUE\n", text.Count(more, "schedule"), map[bool]string{true: "is", false: "are"}[more == 1])
	}
}

// next describes the next tick.
func (s *scheduleView) next() string {
	switch {
	case s.Overdue && s.late > 0:
		return fmt.Sprintf("OVERDUE by %s: %s", span(s.late), s.Why)
	case s.Overdue:
		return "OVERDUE: " + s.Why
	case s.disabled:
		return "disabled"
	case s.Next.IsZero():
		return "-"
	case s.late > 0:
		return "now"
	}
	return "in " + span(-s.late)
}

func printLastRuns(w io.Writer, view *statusView) {
	fmt.Fprintln(w, "\nTASK\tQUEUE\tLAST RUN\tTOOK\tENDED")
	for _, t := range view.Tasks {
		fmt.Fprintf(w, "%s\t%s\t", text.Printable(t.Task), text.Printable(t.Queue))
		if t.Last == nil {
			fmt.Fprintln(w, "-\t-\t-")
			continue
		}
		fmt.Fprintf(w, "%s ago\t%s\t%s\n", age(t.Last.Started), span(t.Last.took), text.Printable(t.Last.Ended))
	}
}
