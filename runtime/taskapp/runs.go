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
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/text"
)

// How far runs are looked through for those of one task or one id.
const (
	lookFirst = 500
	lookMost  = 10_000 // of one state and queue
)

// The default and the bounds of --limit.
const (
	defaultLimit = 50
	maxLimit     = 1_000_000
	limitUsage   = "so many at most (default 50)"
)

// states are those of runs, in the order in which they are shown.
var states = []string{
	string(broker.StateRunning), string(broker.StateQueued), string(broker.StateDelayed),
	string(broker.StateFailed), string(broker.StateSucceeded),
}

// runView is a run as runs, run and dead list print it.
type runView struct {
	ID         string       `json:"id"`
	Task       string       `json:"task"`
	Queue      string       `json:"queue"`
	State      string       `json:"state"`
	Attempts   int          `json:"attempts"` // that have ended
	Deliveries int          `json:"deliveries,omitempty"`
	Priority   string       `json:"priority,omitempty"`
	QueuedAt   time.Time    `json:"queued_at,omitzero"`
	Due        time.Time    `json:"due,omitzero"`      // of a delayed one
	EndedAt    time.Time    `json:"ended_at,omitzero"` // of a dead one
	Session    string       `json:"session,omitempty"` // that holds it
	Failure    *failureView `json:"failure,omitempty"` // the last one
	Unreadable bool         `json:"unreadable,omitempty"`
}

type failureView struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
	Stack   string `json:"stack,omitempty"`
}

func newFailureView(f *broker.Failure) *failureView {
	if f == nil {
		return nil
	}
	return &failureView{string(f.Kind), f.Message, f.Stack}
}

func newRunView(i *broker.RunInfo) runView {
	v := runView{ID: i.Run.ID, Task: i.Run.Task, Queue: i.Run.Queue, State: string(i.State), Attempts: i.Run.Attempt, Failure: newFailureView(i.Failure)}
	if i.State.Ended() {
		return v // no more is known
	}
	v.Deliveries, v.Priority, v.QueuedAt, v.Session = i.Run.Deliveries, i.Run.Priority.String(), i.Run.QueuedAt, i.Session
	if i.State == broker.StateDelayed {
		v.Due = i.Due
	}
	return v
}

// runsOptions are the flags of runs.
type runsOptions struct {
	controlOptions
	state, task string
	limit       int
}

func (c *commandLine) runsCommand() *cobra.Command {
	o := &runsOptions{limit: defaultLimit}
	cmd := c.command(manual{
		use: "runs", short: "list the runs that wait, run or have ended",
		long: `Lists runs: those that run, then those that wait in their order, then those that
have ended and have a record (//task:result).`,
		example: "runs --state failed --queue default",
	}, c.noWords, func(ctx context.Context, _ *cobra.Command, _ []string) error { return c.runs(ctx, o) })
	set := cmd.Flags()
	o.addTo(set)
	textVar(set, &o.queue, "queue", "only those of this queue")
	textVar(set, &o.state, "state", "only those that are "+strings.Join(states, ", "))
	textVar(set, &o.task, "task", "only those of this task")
	intVar(set, &o.limit, "limit", limitUsage)
	completeFlags(cmd, c.flagCompletions())
	return cmd
}

func (c *commandLine) runs(ctx context.Context, o *runsOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	ctl, closeBroker, err := c.openControl(ctx, "runs", &o.controlOptions)
	if err != nil {
		return err
	}
	defer closeBroker()
	views, more, err := ctl.list(ctx, o)
	switch {
	case err != nil:
		return err
	case o.json:
		err = c.printJSON(views)
	default:
		err = c.printRuns(views, more)
	}
	return cmp.Or(err, ctl.incomplete())
}

func (o *runsOptions) check() error {
	if o.state != "" && !slices.Contains(states, o.state) {
		return usagef("runs", "no state is named %q%s", o.state, didYouMean(o.state, states, "; one of "+strings.Join(states, ", ")))
	}
	return checkLimit("runs", o.limit)
}

func checkLimit(command string, n int) error {
	if n < 1 {
		return usagef(command, "--limit is %d; at least 1 is needed", n)
	}
	if n > maxLimit {
		return usagef(command, "--limit is %d; at most %d are printed", n, maxLimit)
	}
	return nil
}

// list returns the runs that the flags ask for, and whether there are more.
func (c *control) list(ctx context.Context, o *runsOptions) (views []runView, more bool, err error) {
	views = []runView{}
	var want func(*broker.RunInfo) bool
	if o.task != "" {
		names := c.line.namesOf(o.task)
		want = func(i *broker.RunInfo) bool { return slices.Contains(names, i.Run.Task) }
	}
	for _, state := range states {
		if o.state != "" && o.state != state {
			continue
		}
		most := queuesAtOnce
		if _, together := c.broker.(maintenance.Surveyor); together && broker.State(state).Ended() {
			most = len(c.queues)
		} else if together {
			most = queuesTogether
		}
		for rest, n := c.queues, queuesAtOnce; len(rest) > 0; {
			queues := rest[:min(n, len(rest))]
			rest = rest[len(queues):]
			n = min(4*n, max(most, queuesAtOnce))
			pages, err := c.lookIn(ctx, queues, broker.State(state), o.limit-len(views)+1, want)
			if err != nil {
				return nil, false, err
			}
			for _, page := range pages {
				more = more || !page.all
				views = append(views, page.views(broker.State(state))...)
			}
			if len(views) > o.limit {
				return views[:o.limit], true, nil
			}
		}
	}
	if len(views) == 0 && o.task != "" && c.line.taskNamed(o.task) == nil {
		return nil, false, c.line.unknownTask("runs", o.task)
	}
	return views, more, nil
}

// queuesTogether is how many queues at most are looked into together for runs that have
// not ended, of which each can have as many as are asked for.
const queuesTogether = 1000

// lookIn is look for many queues.
func (c *control) lookIn(ctx context.Context, queues []string, state broker.State, most int, want func(*broker.RunInfo) bool) ([]lookPage, error) {
	return inMany(ctx, c, queues, func(s maintenance.Surveyor, queues []string, part func(maintenance.Part[[]*broker.RunInfo])) error {
		return s.SurveyRuns(ctx, queues, state, most, want, part)
	}, func(part maintenance.Part[[]*broker.RunInfo]) lookPage {
		return lookPage{part.Found, part.All}
	}, func(queue string) (page lookPage, err error) {
		page.found, page.all, err = c.look(ctx, queue, state, most, want)
		return page, err
	})
}

// lookPage is the first runs of one queue in one state.
type lookPage struct {
	found []*broker.RunInfo
	all   bool
}

func (p lookPage) views(state broker.State) (views []runView) {
	if state.Ended() {
		// The newest first, if ids sort by time.
		slices.SortFunc(p.found, func(a, b *broker.RunInfo) int { return -cmp.Compare(a.Run.ID, b.Run.ID) })
	}
	for _, i := range p.found {
		views = append(views, newRunView(i))
	}
	return views
}

// namesOf returns the names under which runs of a task can be queued. It may be
// one that the program does not know, whose runs are still there.
func (c *commandLine) namesOf(task string) []string {
	if t := c.taskNamed(task); t != nil {
		return t.names()
	}
	return []string{task}
}

// look returns the first runs of a queue in a state that are wanted, all if want
// is nil, and whether it has seen all there are. Beside an error it returns what could
// be read.
func (c *control) look(ctx context.Context, queue string, state broker.State, most int, want func(*broker.RunInfo) bool) (found []*broker.RunInfo, all bool, err error) {
	n := min(most, lookMost)
	if want != nil {
		n = lookFirst
	}
	for ; ; n = min(5*n, lookMost) {
		infos, err := c.controls.Runs(ctx, queue, state, n)
		if infos == nil && err != nil {
			return nil, false, err
		}
		found = infos
		if want != nil {
			found = slices.DeleteFunc(slices.Clone(infos), func(i *broker.RunInfo) bool { return !want(i) })
		}
		if all = len(infos) < n; all || n == lookMost || want == nil || len(found) >= most {
			return found[:min(len(found), most)], all, err
		}
	}
}

func (c *commandLine) printRuns(views []runView, more bool) error {
	w := c.table()
	fmt.Fprintln(w, "ID\tTASK\tQUEUE\tSTATE\tAGE\tDUE\tATTEMPTS\tFAILURE")
	for _, v := range views {
		due, failure := "-", "-"
		if !v.Due.IsZero() {
			due = "in " + span(max(time.Until(v.Due), 0))
		}
		if v.Failure != nil {
			failure = v.Failure.Kind
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", text.Printable(v.ID), text.Printable(v.Task), text.Printable(v.Queue), v.State, age(v.QueuedAt), due, v.Attempts, text.Printable(failure))
	}
	if err := w.Flush(); err != nil || !more {
		return err
	}
	_, err := fmt.Fprintln(c.stdout, "There are more; --limit, --state, --queue and --task choose which are shown.")
	return err
}
