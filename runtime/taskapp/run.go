package taskapp

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/text"
)

// runDetail is the JSON of run.
type runDetail struct {
	runView
	Progress *progressView     `json:"progress,omitempty"`
	Expire   string            `json:"expire,omitempty"` // not started within this of being due: dropped
	Keep     string            `json:"keep,omitempty"`   // how long its record is kept after its end
	Parent   string            `json:"parent,omitempty"`
	Root     string            `json:"root,omitempty"`
	Group    string            `json:"group,omitempty"`   // it is a member of
	Gathers  string            `json:"gathers,omitempty"` // the group whose end it waited for
	Headers  map[string]string `json:"headers,omitempty"`

	Params      paramsView      `json:"params,omitempty"`
	ParamsError string          `json:"params_error,omitempty"` // why they cannot be shown
	Result      json.RawMessage `json:"result,omitempty"`
	ResultError string          `json:"result_error,omitempty"`

	Successors []queuedView `json:"successors,omitempty"` // of a call that it returned
}

type progressView struct {
	Done  int64  `json:"done"`
	Total int64  `json:"total,omitempty"` // 0: unknown
	Note  string `json:"note,omitempty"`
}

func (c *commandLine) runCommand() *cobra.Command {
	o := &controlOptions{}
	cmd := c.command(manual{
		use: "run ID", short: "show all that is known of one run",
		long: `Shows all that is known of a run that waits, runs, is dead or has a record
(//task:result): parameters, progress, failure, result.`,
		example: "run 01K4V5Q7T3M8ZB6D2X9YHRNCPW",
	}, c.oneWord("the id of a run"), func(ctx context.Context, _ *cobra.Command, words []string) error {
		return c.run(ctx, o, words[0])
	})
	o.addTo(cmd.Flags())
	textVar(cmd.Flags(), &o.queue, "queue", "the run's queue (default all that are known)")
	completeFlags(cmd, c.flagCompletions())
	cmd.ValidArgsFunction = firstWord(c.completeRun(broker.StateRunning, broker.StateQueued, broker.StateDelayed, broker.StateFailed, broker.StateSucceeded))
	return cmd
}

func (c *commandLine) run(ctx context.Context, o *controlOptions, id string) error {
	if err := checkID("run", id); err != nil {
		return err
	}
	ctl, closeBroker, err := c.openControl(ctx, "run", o)
	if err != nil {
		return err
	}
	defer closeBroker()
	detail, err := ctl.find(ctx, id)
	switch {
	case err != nil:
		return err
	case o.json:
		return c.printJSON(detail)
	}
	return c.printRun(detail)
}

// find searches a run: its record, then the waiting and running ones, then the dead
// letters. Brokers know only records by id, so find reads the others one by one.
func (c *control) find(ctx context.Context, id string) (*runDetail, error) {
	records, err := c.recorded(ctx, id)
	if err != nil {
		return nil, err
	}
	var detail *runDetail
	queues := c.queues
	if len(records) > 0 {
		r := records[0]
		detail = &runDetail{}
		detail.addRecord(c.line, r)
		queues = []string{r.Queue}
	}
	if !detail.state().Ended() {
		info, err := c.liveIn(ctx, queues, id, detail.state())
		if err != nil {
			return nil, err
		}
		if info != nil {
			return detail.withInfo(c.line, info), nil
		}
	}
	if detail == nil || detail.state() == broker.StateFailed {
		dead, err := c.lettersIn(ctx, queues, 1, func(l *broker.DeadLetter) bool { return l.ID == id })
		if err != nil {
			return nil, err
		}
		for i, letters := range dead {
			if len(letters) > 0 {
				return detail.withLetter(c.line, queues[i], letters[0]), nil
			}
		}
	}
	if detail != nil {
		return detail, nil
	}
	return nil, c.unlessPassed(fmt.Errorf("no run %s in %s: not among the records and dead letters, nor the first %d that run, are queued and are delayed in each; %s", id, c.places(), lookMost, notYet))
}

// liveIn returns a run of one of the queues that waits or runs, nil if it is not found.
func (c *control) liveIn(ctx context.Context, queues []string, id string, first broker.State) (info *broker.RunInfo, err error) {
	want := func(i *broker.RunInfo) bool { return i.Run.ID == id }
	apart := map[int]bool{} // queues that are to be looked into by themselves
	for _, state := range liveStates {
		rest, err := surveyed(ctx, c, queues, func(s maintenance.Surveyor, queues []string, part func(maintenance.Part[[]*broker.RunInfo])) error {
			return s.SurveyRuns(ctx, queues, state, 1, want, part)
		}, func(_ int, part maintenance.Part[[]*broker.RunInfo]) {
			if len(part.Found) > 0 {
				info = part.Found[0]
			}
		})
		if err != nil || info != nil {
			return info, err
		}
		for _, i := range rest {
			apart[i] = true
		}
	}
	live, err := inQueues(ctx, c, pick(queues, slices.Sorted(maps.Keys(apart))), func(queue string) (*broker.RunInfo, error) {
		return c.live(ctx, queue, id, first)
	})
	for _, info := range live {
		if info != nil {
			return info, err
		}
	}
	return nil, err
}

// liveStates are the states of a run that has not ended, in the order of the search: a
// run that changes its state during the search is found in its next state.
var liveStates = []broker.State{broker.StateDelayed, broker.StateQueued, broker.StateRunning}

// live returns a run that waits or runs, nil if it is not found. It is probably
// in the first state.
func (c *control) live(ctx context.Context, queue, id string, first broker.State) (*broker.RunInfo, error) {
	var odd error
	for _, state := range append([]broker.State{first}, liveStates...) {
		if state == "" {
			continue
		}
		found, _, err := c.look(ctx, queue, state, 1, func(i *broker.RunInfo) bool { return i.Run.ID == id })
		if len(found) > 0 {
			return found[0], nil
		}
		if odd = cmp.Or(odd, err); ctx.Err() != nil {
			break
		}
	}
	return nil, odd
}

// state is the run's, "" if there is no record of it.
func (d *runDetail) state() broker.State {
	if d == nil {
		return ""
	}
	return broker.State(d.State)
}

func (d *runDetail) addRecord(c *commandLine, r *broker.Record) {
	d.ID, d.Task, d.Queue, d.State, d.Attempts = r.ID, r.Task, r.Queue, string(r.State), r.Attempt
	d.Failure = newFailureView(r.Failure)
	if p := r.Progress; p != nil {
		d.Progress = &progressView{p.Done, p.Total, p.Note}
	}
	if r.State != broker.StateSucceeded {
		return
	}
	d.Failure = nil // of an attempt before
	for _, ref := range r.Successors {
		d.Successors = append(d.Successors, queuedView{ref.ID, ref.Queue})
	}
	if len(r.Successors) > 0 {
		return // the last of them has the result
	}
	if t := c.tasks.byName[r.Task]; t == nil {
		d.ResultError = fmt.Sprintf("%d bytes of a task that this program does not have", len(r.Result))
	} else if result, err := t.showResult(r.Result); err != nil {
		d.ResultError = err.Error()
	} else {
		d.Result = result
	}
}

// withInfo adds what is known of a run that waits or runs to its record, if
// there is one.
func (d *runDetail) withInfo(c *commandLine, i *broker.RunInfo) *runDetail {
	view := newRunView(i)
	if d == nil {
		d = &runDetail{}
	} else if view.Failure == nil {
		view.Failure = d.Failure
	}
	d.runView = view
	d.addRun(c, i.Run)
	return d
}

func (d *runDetail) withLetter(c *commandLine, queue string, l *broker.DeadLetter) *runDetail {
	if d == nil {
		d = &runDetail{}
	}
	d.runView = newLetterView(queue, l)
	if l.Run == nil {
		d.ParamsError = fmt.Sprintf("the run is %d bytes that cannot be read", len(l.Raw))
		return d
	}
	d.addRun(c, l.Run)
	return d
}

func (d *runDetail) addRun(c *commandLine, run *broker.TaskRun) {
	if run.Expire > 0 {
		d.Expire = run.Expire.String()
	}
	if run.Keep > 0 {
		d.Keep = run.Keep.String()
	}
	d.Parent, d.Root, d.Headers = run.ParentID, run.RootID, run.Headers
	links := run.Links.OrZero()
	d.Group, d.Gathers = links.Group, links.Awaits.ID
	if t := c.tasks.byName[run.Task]; t == nil {
		d.ParamsError = fmt.Sprintf("%d bytes of a task that this program does not have", len(run.Payload))
	} else if params, err := t.showParams(run.Payload); err != nil {
		d.ParamsError = err.Error()
	} else {
		d.Params = params
	}
}

func (c *commandLine) printRun(d *runDetail) error {
	w := detailTable{c.table()}
	w.writeState(d)
	w.writeRelatives(d)
	w.writeData(d)
	if err := w.Flush(); err != nil || d.Failure == nil || d.Failure.Stack == "" {
		return err
	}
	return c.printStack(d.Failure.Stack)
}

// detailTable writes a line for each detail of a run that is not empty.
type detailTable struct{ *tabwriter.Writer }

func (w detailTable) line(name, value string) {
	if value != "" {
		fmt.Fprintf(w, "%s\t%s\n", name, text.Printable(value))
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
	w.time("ended", d.EndedAt)
	w.line("expires", d.Expire)
	w.line("kept", d.Keep)
	w.line("session", d.Session)
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
		w.line("header", key+": "+d.Headers[key])
	}
	for _, p := range d.Params {
		w.line("param", p.name+": "+string(p.value))
	}
	w.line("params", d.ParamsError)
	w.line("result", string(d.Result)+d.ResultError)
	if d.Failure != nil {
		w.line("failure", strings.TrimPrefix(d.Failure.Kind+": ", ": ")+d.Failure.Message)
	}
}

func (c *commandLine) printStack(stack string) error {
	fmt.Fprintln(c.stdout, "stack")
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
