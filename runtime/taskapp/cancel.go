package taskapp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// cancelView is a run that cancel cancelled by its id, as JSON.
type cancelView struct {
	ID      string `json:"id"`
	Queue   string `json:"queue"`
	Outcome string `json:"outcome"` // ended: it waited; asked: its consumer was asked to end it
}

func (c *commandLine) cancelCommand() *cobra.Command {
	o := &changeOptions{filterOptions: filterOptions{states: liveStates}}
	cmd := c.command(manual{
		use: "cancel [ID…]", short: "end runs",
		long: "Ends runs as cancelled. One that waits ends at once; the consumer of one that runs is\n" +
			"asked to end it, which it does within a second or so." + chooseHelp,
		example: "cancel --task " + c.exampleTask() + " --state queued --older 1h",
	}, c.someIDs, func(ctx context.Context, _ *cobra.Command, ids []string) error {
		if len(ids) > 0 && !o.dryRun {
			return c.cancelIDs(ctx, o, ids)
		}
		return c.change(ctx, o, &changeKind{
			command: "cancel", verb: "Cancel", thing: "run", done: "cancelled", key: "cancelled", apply: (*taskrt.Inspector).CancelAll,
			why: "no run of this id waits or runs",
		}, ids)
	})
	o.addTo(cmd.Flags())
	completeFlags(cmd, c.flagCompletions())
	cmd.ValidArgsFunction = c.completeRuns(broker.StateRunning, broker.StateQueued, broker.StateDelayed)
	return cmd
}

// checkID refuses an id that no run can have.
func checkID(command, id string) error {
	run := broker.TaskRun{ID: id, Task: "-", Queue: "-"}
	if err := run.Validate(); err != nil {
		return usagef(command, "%v", err)
	}
	return nil
}

// cancelIDs cancels runs by their ids, of which brokers find each at once.
func (c *commandLine) cancelIDs(ctx context.Context, o *changeOptions, ids []string) error {
	if err := o.check("cancel", ids); err != nil {
		return err
	}
	ctl, closeBroker, err := c.openControl(ctx, "cancel", &o.controlOptions)
	if err != nil {
		return err
	}
	defer closeBroker()
	view := &changeView{Cancel: new(int)}
	var first error
	for _, id := range ids {
		done, err := ctl.inspector.Cancel(ctx, id, ctl.queues...)
		switch ambiguous := (*taskrt.AmbiguousError)(nil); {
		case err != nil && ctx.Err() != nil:
			return err
		case errors.As(err, &ambiguous) && len(ids) == 1:
			return usagef("cancel", "%v with --queue", ambiguous)
		case err != nil:
			first = cmp.Or(first, err)
			view.Stayed++
			view.Stays = append(view.Stays, stayView{ID: id, Why: oneLine(errors.Unwrap(err))})
			continue
		}
		ctl.report(done.Skipped)
		*view.Cancel++
		outcome := "ended"
		if done.Running {
			outcome = "asked"
		}
		view.Outcomes = append(view.Outcomes, cancelView{id, done.Queue, outcome})
	}
	if len(ids) == 1 && first != nil {
		return first
	}
	if err := c.printCancelled(view, o.json); err != nil || view.Stayed == 0 {
		return err
	}
	return fmt.Errorf("cancel: %d of %s stayed, as said above", view.Stayed, text.Count(len(ids), "run"))
}

func (c *commandLine) printCancelled(view *changeView, asJSON bool) error {
	if asJSON {
		return c.printJSON(view)
	}
	var b strings.Builder
	for _, v := range view.Outcomes {
		happened := "it was waiting, and has ended"
		if v.Outcome == "asked" {
			happened = "it runs, and its consumer was asked to end it"
		}
		fmt.Fprintf(&b, "run %s of queue %s: %s\n", v.ID, v.Queue, happened)
	}
	for _, s := range view.Stays {
		fmt.Fprintf(&b, "run %s stays: %s\n", text.Printable(s.ID), s.Why)
	}
	_, err := io.WriteString(c.stdout, b.String())
	return err
}
