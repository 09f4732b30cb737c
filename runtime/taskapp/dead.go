package taskapp

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// deadCommands are the words behind dead.
var deadCommands = []string{"list", "retry", "delete"}

func (c *commandLine) deadCommand() *cobra.Command {
	group := c.command(manual{
		use: "dead list|retry|delete [ID…]", short: "list, retry or delete runs that have ended without success",
		long: `Runs that have ended without success are kept as dead letters. list shows them,
retry queues them again as new runs, delete forgets them. Each takes --help.`,
		example: "dead retry --kind timeout --older 1h",
	}, nil, nil)
	needed := "; one of " + strings.Join(deadCommands, ", ") + " is needed"
	c.asGroup(group, func(word string) error {
		return usagef("dead", "unknown command %q%s", word, didYouMean(word, deadCommands, needed))
	}, func() error { return usagef("dead", "no command%s", needed) })
	group.AddCommand(c.deadListCommand(), c.deadChangeCommand("retry", manual{
		short: "queue dead letters again",
		long: "Queues dead letters again, each as a new run with all its attempts. One stays if a\n" +
			"run with its id, or with its parameters of a //task:unique, is queued or running.",
	}, changeKind{verb: "Queue", after: " again", done: "queued again", key: "retried", apply: (*taskrt.Inspector).Requeue}),
		c.deadChangeCommand("delete", manual{short: "delete dead letters", long: "Deletes dead letters."},
			changeKind{verb: "Delete", done: "deleted", key: "deleted", apply: (*taskrt.Inspector).Delete}))
	return group
}

// deadChangeCommand returns dead retry or dead delete.
func (c *commandLine) deadChangeCommand(name string, m manual, what changeKind) *cobra.Command {
	o := &changeOptions{}
	m.use, m.long, m.example = name+" [ID…]", m.long+chooseHelp, "dead "+name+" --kind timeout --older 1h"
	what.command, what.thing, what.why = "dead "+name, "dead letter", "no dead letter has this id"
	cmd := c.command(m, c.someIDs, func(ctx context.Context, _ *cobra.Command, ids []string) error {
		return c.change(ctx, o, &what, ids)
	})
	o.addTo(cmd.Flags())
	completeFlags(cmd, c.flagCompletions())
	cmd.ValidArgsFunction = c.completeDead
	return cmd
}

func newLetterView(l taskrt.DeadLetter) runView {
	v := runView{ID: l.ID, Queue: l.Queue, State: string(broker.StateFailed), EndedAt: utc(l.At), Failure: newFailureView(&l.Failure), Unreadable: l.Run == nil}
	if run := l.Run; run != nil {
		v.Task, v.Attempts, v.Deliveries, v.Priority, v.QueuedAt = run.Task, run.Attempt, run.Deliveries, run.Priority.String(), utc(run.QueuedAt)
		v.addAttempts(run.History.OrZero().Attempts)
	}
	return v
}

func (c *commandLine) deadListCommand() *cobra.Command {
	o := &searchOptions{}
	cmd := c.command(manual{
		use: "list", short: "list dead letters",
		long:    "Lists the runs that have ended without success, the newest first. Its last line says\nhow many it looked at, and how to go on.",
		example: "dead list --kind crashed --limit 10",
	}, c.noWords, func(ctx context.Context, _ *cobra.Command, _ []string) error { return c.deadList(ctx, o) })
	o.addTo(cmd.Flags())
	completeFlags(cmd, c.flagCompletions())
	return cmd
}

func (c *commandLine) deadList(ctx context.Context, o *searchOptions) error {
	if err := cmp.Or(o.check("dead list"), o.checkTag(c, "dead list")); err != nil {
		return err
	}
	ctl, closeBroker, err := c.openControl(ctx, "dead list", &o.controlOptions)
	if err != nil {
		return err
	}
	defer closeBroker()
	view := &runsView{Runs: []runView{}, searched: searched{After: o.after}}
	f := o.filter(c, ctl.queues)
	err = ctl.list(o, view, func(p taskrt.PageOptions) error {
		page, err := ctl.inspector.Dead(ctx, f, p)
		if err != nil {
			return err
		}
		for _, l := range page.Letters {
			view.Runs = append(view.Runs, newLetterView(l))
		}
		view.set(page.Looked, page.Total, page.After)
		ctl.report(page.Skipped)
		return nil
	})
	switch {
	case err != nil:
		return err
	case o.json:
		err = c.printJSON(view)
	default:
		err = ctl.printDead(view, o)
	}
	return cmp.Or(err, ctl.incomplete())
}

func (c *control) printDead(view *runsView, o *searchOptions) error {
	if len(view.Runs) == 0 && !o.chooses() && view.After == "" {
		why := "no run there has ended without success"
		if c.incomplete() != nil {
			why = "as far as it could be read"
		}
		_, err := fmt.Fprintf(c.line.stdout, "No dead letter is in %s: %s.\n", c.places(mostNamed), why)
		return err
	}
	unreadable := 0
	if len(view.Runs) > 0 {
		w := c.line.table()
		fmt.Fprintln(w, "ID\tTASK\tQUEUE\tKIND\tENDED\tATTEMPTS\tHOST\tMESSAGE")
		for _, v := range view.Runs {
			ended := age(v.EndedAt)
			if !v.EndedAt.IsZero() {
				ended += " ago"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", text.Printable(v.ID), orDash(text.Printable(v.Task)), text.Printable(v.Queue),
				orDash(text.Printable(v.Failure.Kind)), ended, v.Attempts, orDash(text.Printable(v.Host)), orDash(brief(v.Failure.Message, 100)))
			if v.Unreadable {
				unreadable++
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	end := view.text(c, o, len(view.Runs), "dead letter") + "\n"
	if unreadable > 0 {
		end = fmt.Sprintf("%d of these cannot be read, and can only be deleted.\n", unreadable) + end
	}
	_, err := io.WriteString(c.line.stdout, end)
	return err
}
