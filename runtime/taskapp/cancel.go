package taskapp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// cancelView is the JSON of cancel.
type cancelView struct {
	ID      string `json:"id"`
	Queue   string `json:"queue"`
	Outcome string `json:"outcome"` // ended: it waited; asked: its consumer was asked to end it
}

func (c *commandLine) cancelCommand() *cobra.Command {
	o := &controlOptions{}
	cmd := c.command(manual{
		use: "cancel ID", short: "end a run",
		long: `Ends a run as cancelled. One that waits ends at once; the consumer of one that
runs is asked to end it, which it does within a second or so.`,
		example: "cancel 01K4V5Q7T3M8ZB6D2X9YHRNCPW",
	}, c.oneWord("the id of a run"), func(ctx context.Context, _ *cobra.Command, words []string) error {
		return c.cancel(ctx, o, words[0])
	})
	o.addTo(cmd.Flags())
	textVar(cmd.Flags(), &o.queue, "queue", "the run's queue (default all that are known)")
	completeFlags(cmd, c.flagCompletions())
	cmd.ValidArgsFunction = firstWord(c.completeRun(liveStates...))
	return cmd
}

func (c *commandLine) cancel(ctx context.Context, o *controlOptions, id string) error {
	if err := checkID("cancel", id); err != nil {
		return err
	}
	ctl, closeBroker, err := c.openControl(ctx, "cancel", o)
	if err != nil {
		return err
	}
	defer closeBroker()
	view, err := ctl.cancel(ctx, id)
	switch {
	case err != nil:
		return err
	case o.json:
		return c.printJSON(view)
	}
	happened := "it was waiting, and has ended"
	if view.Outcome == "asked" {
		happened = "it runs, and its consumer was asked to end it"
	}
	_, err = fmt.Fprintf(c.stdout, "run %s of queue %s: %s\n", view.ID, view.Queue, happened)
	return err
}

// checkID refuses an id that no run can have.
func checkID(command, id string) error {
	run := broker.TaskRun{ID: id, Task: "-", Queue: "-"}
	if err := run.Validate(); err != nil {
		return usagef(command, "%v", err)
	}
	return nil
}

// cancel ends the run in the first queue that has it. Ids of the application's choice may
// be in several queues: if records show that, cancel returns an error.
func (c *control) cancel(ctx context.Context, id string) (*cancelView, error) {
	records, err := c.recorded(ctx, id)
	if err != nil {
		return nil, err
	}
	queues := c.queues
	ended := ""
	for _, r := range records {
		queues = append([]string{r.Queue}, queues...) // there first
		if r.State.Ended() {
			ended = fmt.Sprintf("it has ended in queue %s: %s", r.Queue, endOf(string(r.State), r.Failure))
		}
	}
	for i, queue := range queues {
		if slices.Contains(queues[:i], queue) {
			continue
		}
		if c.isPassed(queue) {
			continue
		}
		view, err := c.cancelIn(ctx, queue, id)
		if view != nil || ctx.Err() != nil {
			return view, err
		}
		if err != nil && len(c.queues) == 1 {
			return nil, err
		}
		if err != nil {
			c.pass(inQueue(queue), err)
		}
	}
	if ended != "" {
		return nil, c.unlessPassed(fmt.Errorf("cancel run %s: %s", id, ended))
	}
	return nil, c.unlessPassed(fmt.Errorf("cancel run %s: no run of this id waits or runs in %s; %s, so cancel that", id, c.places(), notYet))
}

// cancelIn is cancel in one queue. It returns nil if the queue has no such run.
func (c *control) cancelIn(ctx context.Context, queue, id string) (*cancelView, error) {
	running, odd := c.running(ctx, queue, id)
	err := c.line.client(c.broker).Cancel(ctx, queue, id)
	switch {
	case errors.Is(err, taskrt.ErrNoRecord):
		return nil, odd
	case err != nil:
		return nil, err
	case !running:
		running, _ = c.running(ctx, queue, id) // it may have started by now
	}
	if running {
		return &cancelView{id, queue, "asked"}, nil
	}
	return &cancelView{id, queue, "ended"}, nil
}

// notYet is a reason why a run is not found: until a run has succeeded, brokers know its
// follow-ups (Then) only as a part of it.
const notYet = "one that is to follow another is not known before that has succeeded"

// running reports whether a session holds the run.
func (c *control) running(ctx context.Context, queue, id string) (bool, error) {
	found, _, err := c.look(ctx, queue, broker.StateRunning, 1, func(r *broker.RunInfo) bool { return r.Run.ID == id })
	return len(found) > 0, err
}

// recorded returns the records of the run. If several have not ended, it returns an
// error: the id is ambiguous.
func (c *control) recorded(ctx context.Context, id string) (records []*broker.Record, err error) {
	var live []string
	all, err := inMany(ctx, c, c.queues, func(s maintenance.Surveyor, queues []string, part func(maintenance.Part[*broker.Record])) error {
		return s.SurveyRecords(ctx, queues, id, part)
	}, found[*broker.Record], func(queue string) (*broker.Record, error) {
		record, err := c.records.Record(ctx, queue, id)
		if errors.Is(err, broker.ErrNoRecord) {
			err = nil
		}
		return record, err
	})
	if err != nil {
		return nil, err
	}
	for i, record := range all {
		if record == nil {
			continue
		}
		records = append(records, record)
		if !record.State.Ended() {
			live = append(live, c.queues[i])
		}
	}
	if len(live) > 1 {
		return nil, usagef(c.command, "the queues %s have a run of this id each; name one with --queue", strings.Join(live, " and "))
	}
	// Runs that have not ended come first.
	slices.SortStableFunc(records, func(a, b *broker.Record) int { return rank(a.State) - rank(b.State) })
	return records, nil
}

func rank(state broker.State) int {
	if state.Ended() {
		return 1
	}
	return 0
}

// places names the queues in which a command searched.
func (c *control) places() string {
	if len(c.queues) == 1 {
		return "queue " + c.queues[0]
	}
	return "the queues " + text.List(c.queues, mostNamed)
}

// endOf describes the state of a run, and its failure if it has one.
func endOf(state string, f *broker.Failure) string {
	if f == nil || state == string(broker.StateSucceeded) {
		return state
	}
	return state + " (" + string(f.Kind) + ")"
}
