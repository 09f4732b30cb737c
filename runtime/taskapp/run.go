package taskapp

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// runDetail is the JSON of run.
type runDetail struct {
	runView
	History  []attemptView     `json:"history,omitempty"` // attempts that have ended, the oldest first
	Progress *progressView     `json:"progress,omitempty"`
	Expire   string            `json:"expire,omitempty"` // not started within this of being due: dropped
	Keep     string            `json:"keep,omitempty"`   // how long its record is kept after its end
	Parent   string            `json:"parent,omitempty"`
	Root     string            `json:"root,omitempty"`
	Group    string            `json:"group,omitempty"`   // it is a member of
	Gathers  string            `json:"gathers,omitempty"` // the group whose end it waited for
	Headers  map[string]string `json:"headers,omitempty"`

	Params      taskrt.ShownParams `json:"params,omitempty"`
	ParamsError string             `json:"params_error,omitempty"` // why they cannot be shown
	Result      json.RawMessage    `json:"result,omitempty"`
	ResultError string             `json:"result_error,omitempty"`

	Successors []queuedView `json:"successors,omitempty"` // of a call that it returned
}

// attemptView is an attempt that has ended.
type attemptView struct {
	Started time.Time `json:"started_at,omitzero"`
	Took    string    `json:"took,omitempty"`
	Host    string    `json:"host,omitempty"`
	Ended   string    `json:"ended"` // succeeded, or the kind of failure
	Message string    `json:"message,omitempty"`

	took time.Duration
}

type progressView struct {
	Done  int64  `json:"done"`
	Total int64  `json:"total,omitempty"` // 0: unknown
	Note  string `json:"note,omitempty"`
}

// runOptions are the flags of run.
type runOptions struct {
	controlOptions
	full bool
}

func (c *commandLine) runCommand() *cobra.Command {
	o := &runOptions{}
	cmd := c.command(manual{
		use: "run ID", short: "show all that is known of one run",
		long: `Shows all that is known of a run that waits, runs, is dead or has a record
(//task:result): times, attempts, parameters, progress, failure, result. Of a run that
has ended the parameters are known if it is dead, or its record keeps them.`,
		example: "run 01K4V5Q7T3M8ZB6D2X9YHRNCPW",
	}, c.oneWord("the id of a run"), func(ctx context.Context, _ *cobra.Command, words []string) error {
		return c.run(ctx, o, words[0])
	})
	o.addTo(cmd.Flags())
	textVar(cmd.Flags(), &o.queue, "queue", "the run's queue (default all that are known)")
	cmd.Flags().BoolVar(&o.full, "full", false, "show long values in full, as --json does")
	completeFlags(cmd, c.flagCompletions())
	cmd.ValidArgsFunction = firstWord(c.completeRuns(allStates...))
	return cmd
}

// allStates are the states of runs.
var allStates = []broker.State{
	broker.StateRunning, broker.StateQueued, broker.StateDelayed, broker.StateFailed, broker.StateCancelled, broker.StateSucceeded,
}

func (c *commandLine) run(ctx context.Context, o *runOptions, id string) error {
	if err := checkID("run", id); err != nil {
		return err
	}
	ctl, closeBroker, err := c.openControl(ctx, "run", &o.controlOptions)
	if err != nil {
		return err
	}
	defer closeBroker()
	found, err := ctl.inspector.Run(ctx, id, ctl.queues...)
	switch ambiguous := (*taskrt.AmbiguousError)(nil); {
	case errors.As(err, &ambiguous):
		return usagef("run", "%v with --queue", ambiguous)
	case err != nil:
		return err
	}
	ctl.report(found.Skipped)
	detail := newRunDetail(found)
	if o.json {
		return c.printJSON(detail)
	}
	return c.printRun(detail, o.full)
}

func newRunDetail(d *taskrt.RunDetail) *runDetail {
	v := &runDetail{runView: runView{
		ID: d.ID, Task: d.Task, Queue: d.Queue, State: string(d.State), Attempts: d.Attempt, QueuedAt: utc(d.QueuedAt),
		Due: utc(d.Due), StartedAt: utc(d.Started), EndedAt: utc(d.Ended), Host: d.Host, Session: d.Session,
		Failure: newFailureView(d.Failure), Unreadable: d.Dead != nil && d.Dead.Run == nil,
	}}
	for _, a := range d.Attempts {
		v.History = append(v.History, newAttemptView(a))
	}
	if n := len(d.Attempts); n > 0 && d.State.Ended() && d.Attempts[n-1].Took > 0 {
		v.Took, v.took = d.Attempts[n-1].Took.String(), d.Attempts[n-1].Took
	}
	if p := d.Progress; p != nil {
		v.Progress = &progressView{p.Done, p.Total, p.Note}
	}
	if d.Run != nil {
		v.addRun(d.Run)
	}
	if d.Record != nil {
		v.Parent = cmp.Or(v.Parent, d.Record.ParentID)
		for _, ref := range d.Record.Successors {
			v.Successors = append(v.Successors, queuedView{ref.ID, ref.Queue})
		}
	}
	v.Params, v.Result = d.Params, d.Result
	v.ParamsError, v.ResultError = errorText(d.ParamsErr), errorText(d.ResultErr)
	return v
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func newAttemptView(a broker.Attempt) attemptView {
	v := attemptView{Started: utc(a.Started), Host: a.Host, Ended: cmp.Or(string(a.Kind), string(broker.StateSucceeded)), Message: a.Message, took: a.Took}
	if a.Took > 0 {
		v.Took = a.Took.String()
	}
	return v
}

func (d *runDetail) addRun(run *broker.TaskRun) {
	d.Deliveries, d.Priority = run.Deliveries, run.Priority.String()
	if run.Expire > 0 {
		d.Expire = run.Expire.String()
	}
	if run.Keep > 0 {
		d.Keep = run.Keep.String()
	}
	d.Parent, d.Root, d.Headers = run.ParentID, run.RootID, run.Headers
	links := run.Links.OrZero()
	d.Group, d.Gathers = links.Group, links.Awaits.ID
}

func (c *commandLine) printRun(d *runDetail, full bool) error {
	w := detailTable{c.table(), full}
	w.writeState(d)
	w.writeRelatives(d)
	w.writeData(d)
	if err := w.Flush(); err != nil {
		return err
	}
	if err := c.printHistory(d.History); err != nil || d.Failure == nil || d.Failure.Stack == "" {
		return err
	}
	return c.printStack(d.Failure.Stack)
}

// detailTable writes a line for each detail of a run that is not empty.
type detailTable struct {
	*tabwriter.Writer
	full bool // long values are not cut
}

func (w detailTable) line(name, value string) {
	if value != "" {
		fmt.Fprintf(w, "%s\t%s\n", name, text.Printable(value))
	}
}

// mostShown is how many bytes of a value are shown.
const mostShown = 1000

// value is line for a value that may be long.
func (w detailTable) value(name, before, value string) {
	if len(value) > mostShown && !w.full {
		cut := mostShown / 4
		for !utf8.RuneStart(value[cut]) {
			cut--
		}
		value = fmt.Sprintf("%s… (%s bytes; --full shows all)", value[:cut], text.Thousands(int64(len(value))))
	}
	if value != "" {
		w.line(name, before+value)
	}
}

func (w detailTable) time(name string, t time.Time) {
	if !t.IsZero() {
		w.line(name, fmt.Sprintf("%s (%s ago)", t.UTC().Format(time.RFC3339), age(t)))
	}
}

func (w detailTable) writeState(d *runDetail) {
	w.line("run", d.ID)
	w.line("task", d.Task)
	w.line("queue", d.Queue)
	w.line("state", d.State)
	w.line("priority", d.Priority)
	w.line("attempts", fmt.Sprint(d.Attempts))
	w.time("queued", d.QueuedAt)
	if !d.Due.IsZero() {
		w.line("due", fmt.Sprintf("%s (in %s)", d.Due.UTC().Format(time.RFC3339), span(max(time.Until(d.Due), 0))))
	}
	w.time("started", d.StartedAt)
	w.time("ended", d.EndedAt)
	if d.Took != "" {
		w.line("took", span(d.took))
	}
	w.line("host", d.Host)
	w.line("session", d.Session)
	w.line("expires", d.Expire)
	w.line("kept", d.Keep)
	w.line("progress", d.Progress.text())
}

func (w detailTable) writeRelatives(d *runDetail) {
	w.line("parent", d.Parent)
	w.line("root", d.Root)
	w.line("group", d.Group)
	w.line("gathers", d.Gathers)
	for _, s := range d.Successors {
		w.line("successor", s.ID+" in queue "+s.Queue)
	}
}

func (w detailTable) writeData(d *runDetail) {
	for _, key := range slices.Sorted(maps.Keys(d.Headers)) {
		w.value("header", key+": ", d.Headers[key])
	}
	for _, p := range d.Params {
		w.value("param", p.Name+": ", string(p.Value))
	}
	w.line("params", d.ParamsError)
	w.value("result", "", string(d.Result)+d.ResultError)
	if d.Failure != nil {
		w.value("failure", strings.TrimPrefix(d.Failure.Kind+": ", ": "), cmp.Or(d.Failure.Message, "-"))
	}
}

// printHistory prints the attempts that have ended.
func (c *commandLine) printHistory(attempts []attemptView) error {
	if len(attempts) == 0 {
		return nil
	}
	fmt.Fprintln(c.stdout)
	w := c.table()
	fmt.Fprintln(w, "STARTED\tTOOK\tHOST\tENDED\tMESSAGE")
	for _, a := range attempts {
		started, took := "-", "-"
		if !a.Started.IsZero() {
			started = a.Started.Format(time.RFC3339)
		}
		if a.took > 0 {
			took = span(a.took)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", started, took, orDash(text.Printable(a.Host)), text.Printable(a.Ended), orDash(brief(a.Message, 200)))
	}
	return w.Flush()
}

func (c *commandLine) printStack(stack string) error {
	fmt.Fprintln(c.stdout, "\nstack")
	for frame := range strings.Lines(stack) {
		frame = strings.ReplaceAll(strings.TrimRight(frame, "\r\n"), "\t", "    ")
		if _, err := fmt.Fprintln(c.stdout, "  "+text.Printable(frame)); err != nil {
			return err
		}
	}
	return nil
}

func (p *progressView) text() string {
	switch {
	case p == nil:
		return ""
	case p.Total == 0:
		return strings.TrimSpace(fmt.Sprintf("%d %s", p.Done, p.Note))
	}
	return strings.TrimSpace(fmt.Sprintf("%d of %d %s", p.Done, p.Total, p.Note))
}
