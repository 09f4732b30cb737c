package taskapp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

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
	Due        time.Time    `json:"due,omitzero"`        // of a delayed one
	StartedAt  time.Time    `json:"started_at,omitzero"` // of the attempt that goes on, or was the last
	EndedAt    time.Time    `json:"ended_at,omitzero"`
	Took       string       `json:"took,omitempty"`    // the last attempt that has ended
	Host       string       `json:"host,omitempty"`    // that executes it, or executed the last attempt
	Session    string       `json:"session,omitempty"` // that holds it
	Failure    *failureView `json:"failure,omitempty"` // the last one
	Unreadable bool         `json:"unreadable,omitempty"`

	took time.Duration
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
	v := runView{
		ID: i.Run.ID, Task: i.Run.Task, Queue: i.Run.Queue, State: string(i.State), Attempts: i.Run.Attempt,
		QueuedAt: utc(i.Run.QueuedAt), StartedAt: utc(i.Started), EndedAt: utc(i.Ended), Failure: newFailureView(i.Failure),
	}
	v.addAttempts(i.Run.History.OrZero().Attempts)
	if i.State.Ended() {
		if i.State == broker.StateSucceeded {
			v.Failure = nil // of an attempt before
		}
		return v // no more is known
	}
	v.Deliveries, v.Priority, v.Session = i.Run.Deliveries, i.Run.Priority.String(), i.Session
	if i.State == broker.StateDelayed {
		v.Due = utc(i.Due)
	}
	return v
}

// addAttempts sets what is known of the last attempt that has ended.
func (v *runView) addAttempts(attempts []broker.Attempt) {
	if len(attempts) == 0 {
		return
	}
	last := attempts[len(attempts)-1]
	if v.State == string(broker.StateRunning) {
		return // another one goes on
	}
	if v.StartedAt.IsZero() {
		v.StartedAt = utc(last.Started)
	}
	if last.Took > 0 {
		v.Took, v.took = last.Took.String(), last.Took
	}
	v.Host = last.Host
}

// utc returns a time as JSON shows it. The zero time stays zero.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

// runsView is the JSON of runs and dead list.
type runsView struct {
	Runs []runView `json:"runs"`
	searched
}

func (c *commandLine) runsCommand() *cobra.Command {
	o := &searchOptions{filterOptions: filterOptions{states: states}}
	cmd := c.command(manual{
		use: "runs", short: "list the runs that wait, run or have ended; runs now makes delayed ones due",
		long: `Lists runs: those that run, then those that wait in their order, then those that
have ended and have a record (//task:result). It ends once it has looked at 100,000
runs, and its last line says how to go on. "runs now" makes delayed runs due.`,
		example: "runs --state failed --queue default",
	}, c.noWords, func(ctx context.Context, _ *cobra.Command, _ []string) error { return c.runs(ctx, o) })
	o.addTo(cmd.Flags())
	completeFlags(cmd, c.flagCompletions())
	cmd.AddCommand(c.runsNowCommand())
	return cmd
}

func (c *commandLine) runs(ctx context.Context, o *searchOptions) error {
	if err := cmp.Or(o.check("runs"), o.checkTag(c, "runs")); err != nil {
		return err
	}
	ctl, closeBroker, err := c.openControl(ctx, "runs", &o.controlOptions)
	if err != nil {
		return err
	}
	defer closeBroker()
	view := &runsView{Runs: []runView{}, searched: searched{After: o.after}}
	f := o.filter(c, ctl.queues)
	err = ctl.list(o, view, func(p taskrt.PageOptions) error {
		page, err := ctl.inspector.Runs(ctx, f, p)
		if err != nil {
			return err
		}
		for _, run := range page.Runs {
			view.Runs = append(view.Runs, newRunView(run))
		}
		view.set(page.Looked, page.Total, page.After)
		ctl.report(page.Skipped)
		return nil
	})
	if err == nil {
		err = ctl.addHosts(ctx, view.Runs)
	}
	switch {
	case err != nil:
		return err
	case o.json:
		err = c.printJSON(view)
	default:
		err = ctl.printRuns(view, o)
	}
	return cmp.Or(err, ctl.incomplete())
}

// addHosts adds to running runs where they run.
func (c *control) addHosts(ctx context.Context, runs []runView) error {
	isRunning := func(v runView) bool { return v.State == string(broker.StateRunning) }
	if !slices.ContainsFunc(runs, isRunning) {
		return nil
	}
	hosts, err := c.inspector.Hosts(ctx)
	for i := range runs {
		if isRunning(runs[i]) {
			runs[i].Host = hosts[runs[i].Session]
		}
	}
	return err
}

// list has next add pages to a list until it has as much as it may, or there is no more.
func (c *control) list(o *searchOptions, view *runsView, next func(taskrt.PageOptions) error) error {
	for first := true; first || view.After != "" && len(view.Runs) < o.limit && view.Looked < mostLooked; first = false {
		err := next(o.page(len(view.Runs), view.After))
		switch {
		case errors.Is(err, taskrt.ErrAfter):
			return usagef(c.command, "--after is not where a list of this kind, and of these queues, ended")
		case err != nil:
			return err
		}
	}
	return o.checkTask(c.line, c.command, len(view.Runs))
}

func (c *control) printRuns(view *runsView, o *searchOptions) error {
	if len(view.Runs) == 0 && !o.chooses() && view.After == "" {
		_, err := fmt.Fprintf(c.line.stdout, "No run waits, runs or has a record in %s. %s queue TASK queues one.\n", c.places(mostNamed), c.line.name())
		return err
	}
	if len(view.Runs) > 0 {
		w := c.line.table()
		fmt.Fprintln(w, "ID\tTASK\tQUEUE\tSTATE\tAGE\tDUE\tATTEMPTS\tTOOK\tHOST\tFAILURE")
		for _, v := range view.Runs {
			fmt.Fprintln(w, v.row())
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(c.line.stdout, view.text(c, o, len(view.Runs), "run"))
	return err
}

// row is the run as a row of a table. Its age is that since it was queued or, of one that has
// ended, since then.
func (v *runView) row() string {
	since, due, took := v.QueuedAt, "-", "-"
	if broker.State(v.State).Ended() {
		since = v.EndedAt
	}
	if !v.Due.IsZero() {
		due = "in " + span(max(time.Until(v.Due), 0))
	}
	switch {
	case v.State == string(broker.StateRunning) && !v.StartedAt.IsZero():
		took = age(v.StartedAt) + "…"
	case v.Took != "":
		took = span(v.took)
	}
	return strings.Join([]string{
		text.Printable(v.ID), text.Printable(v.Task), text.Printable(v.Queue), v.State, age(since), due,
		fmt.Sprint(v.Attempts), took, orDash(text.Printable(v.Host)), v.Failure.brief(80),
	}, "\t")
}

// brief is a failure for a column of a table.
func (f *failureView) brief(most int) string {
	switch {
	case f == nil:
		return "-"
	case f.Message == "":
		return text.Printable(f.Kind)
	}
	return brief(strings.TrimPrefix(f.Kind+": ", ": ")+f.Message, most)
}

func (c *commandLine) runsNowCommand() *cobra.Command {
	o := &changeOptions{}
	cmd := c.command(manual{
		use: "now [ID…]", short: "make delayed runs due",
		long: "Makes delayed runs due now, those that wait for a retry included. Their attempts stay\nas they are." +
			chooseHelp,
		example: "runs now --task " + c.exampleTask() + " --older 1h",
	}, c.someIDs, func(ctx context.Context, _ *cobra.Command, ids []string) error {
		return c.change(ctx, o, &changeKind{
			command: "runs now", done: "made due", verb: "Make", after: " due", thing: "delayed run", apply: (*taskrt.Inspector).RunNow,
			why: "no delayed run has this id",
		}, ids)
	})
	o.addTo(cmd.Flags())
	completeFlags(cmd, c.flagCompletions())
	cmd.ValidArgsFunction = c.completeRuns(broker.StateDelayed)
	return cmd
}
