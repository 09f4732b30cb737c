package taskapp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/text"
)

// appliedView is the JSON of dead retry and dead delete.
type appliedView struct {
	Retried *int      `json:"retried,omitempty"`
	Deleted *int      `json:"deleted,omitempty"`
	Stayed  int       `json:"stayed"`            // chosen, and not dealt with
	Blocked []blocked `json:"blocked,omitempty"` // the first of these that a live run is in the way of
}

// blocked is a dead letter that stays, and the live run in its way.
type blocked struct {
	ID string `json:"id"`
	By string `json:"by"`
}

func (b blocked) String() string {
	if b.ID == b.By {
		return text.Printable(b.ID) + ": a run with its id is queued or running"
	}
	return fmt.Sprintf("%s: run %s has its parameters of a //task:unique, and is queued or running", text.Printable(b.ID), text.Printable(b.By))
}

// mostBlocked bounds the list of blocked dead letters.
const mostBlocked = 20

// applied counts the dead letters that an action was applied to.
type applied struct {
	done, stayed int
	blocked      []blocked
}

// deadAction is an action on dead letters.
type deadAction int8

const (
	retryDead deadAction = iota
	deleteDead
)

// apply applies an action to dead letters of a queue and returns their number. It adds
// to r the letters that a live run is in the way of.
func (c *control) apply(ctx context.Context, queue string, what deadAction, r *applied, ids ...string) (int, error) {
	do := c.controls.RequeueDead
	if what == deleteDead {
		do = c.controls.DeleteDead
	}
	n, err := do(ctx, queue, ids...)
	r.done += n
	var duplicates *broker.DuplicateError
	if !errors.As(err, &duplicates) {
		return n, err
	}
	for _, d := range duplicates.Runs {
		if d.Index >= 0 && d.Index < len(ids) && len(r.blocked) < mostBlocked {
			r.blocked = append(r.blocked, blocked{ids[d.Index], d.ID})
		}
	}
	return n, nil
}

// requeueCommand returns dead retry or dead delete.
func (c *commandLine) requeueCommand(name string, what deadAction) *cobra.Command {
	o := &deadOptions{}
	m := manual{
		use: name + " [ID…]", short: "queue dead letters again", example: "dead " + name + " --kind timeout --older 1h",
		long: "Queues dead letters again, each as a new run with all its attempts. One stays if a\nrun with its id, or with its parameters of a //task:unique, is queued or running.",
	}
	if what == deleteDead {
		m.short, m.long = "delete dead letters", "Deletes dead letters."
	}
	m.long += "\nIds, flags that choose, or --all are needed."
	cmd := c.command(m, cobra.ArbitraryArgs, func(ctx context.Context, _ *cobra.Command, ids []string) error {
		return c.requeue(ctx, "dead "+name, what, o, ids)
	})
	o.addTo(cmd.Flags())
	cmd.Flags().BoolVar(&o.all, "all", false, "all that the other flags choose")
	completeFlags(cmd, c.flagCompletions())
	cmd.ValidArgsFunction = c.completeDead
	return cmd
}

func (c *commandLine) requeue(ctx context.Context, command string, what deadAction, o *deadOptions, ids []string) error {
	if err := o.checkChoice(command, ids); err != nil {
		return err
	}
	ctl, closeBroker, err := c.openControl(ctx, command, &o.controlOptions)
	if err != nil {
		return err
	}
	defer closeBroker()
	if len(ids) > 0 {
		return ctl.applyToIDs(ctx, what, ids, o)
	}
	r, err := ctl.applyToAll(ctx, what, o.filter(c))
	if err == nil && ctl.incomplete() == nil {
		err = o.checkTask(c, command, r.done+r.stayed)
	}
	if err != nil {
		return err
	}
	return cmp.Or(ctl.printApplied(what, r, o.json, true), ctl.incomplete())
}

func (o *deadOptions) checkChoice(command string, ids []string) error {
	filtered := o.task != "" || o.kind != "" || o.older != 0
	switch {
	case len(ids) > 0 && (filtered || o.all):
		return usagef(command, "both ids and flags that choose; give one or the other")
	case len(ids) == 0 && !filtered && o.queue == "" && !o.all:
		return usagef(command, "nothing is chosen; give ids, --queue, --task, --kind, --older or --all")
	}
	for _, id := range ids {
		if err := checkID(command, id); err != nil {
			return err
		}
	}
	return o.check(command)
}

func (c *control) applyToIDs(ctx context.Context, what deadAction, ids []string, o *deadOptions) error {
	slices.Sort(ids)
	ids = slices.Compact(ids)
	r := &applied{}
	var why []string
	for _, id := range ids { // one by one, to know which
		found, inTheWay := 0, len(r.blocked)
		for _, queue := range c.queues {
			if c.isPassed(queue) {
				continue
			}
			n, err := c.apply(ctx, queue, what, r, id)
			found += n
			switch {
			case err != nil && (ctx.Err() != nil || len(c.queues) == 1):
				return c.cutShort(what, r.done, err)
			case err != nil:
				c.pass(inQueue(queue), err)
			}
		}
		switch {
		case found > 0:
			continue
		case len(r.blocked) > inTheWay:
			why = append(why, r.blocked[inTheWay].String())
		case r.stayed < mostStayed:
			reason, err := c.whyStayed(ctx, what, id)
			if err != nil {
				return err
			}
			why = append(why, reason)
		}
		r.stayed++
	}
	if err := c.printApplied(what, r, o.json, false); err != nil || r.stayed == 0 {
		return cmp.Or(err, c.incomplete())
	}
	why = why[:min(len(why), mostStayed)]
	if more := r.stayed - len(why); more > 0 {
		why = append(why, fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("%s: %d of %s stayed: %s", c.command, r.stayed, text.Count(len(ids), "id"), strings.Join(why, "; "))
}

// mostStayed bounds the ids whose reason an error names.
const mostStayed = 5

// whyStayed returns why a dead letter stayed that no live run is in the way of.
func (c *control) whyStayed(ctx context.Context, what deadAction, id string) (string, error) {
	for _, queue := range c.queues {
		if what == deleteDead {
			break // those that are there are gone
		}
		if c.isPassed(queue) {
			continue
		}
		letters, err := c.letters(ctx, queue, 1, func(l *broker.DeadLetter) bool { return l.ID == id })
		if err != nil && letters == nil {
			return "", fmt.Errorf("%s: look for those that stayed: %w", c.command, err)
		}
		if len(letters) > 0 && letters[0].Run == nil {
			return id + ": its bytes cannot be read, so that it can only be deleted", nil
		}
		if len(letters) > 0 {
			return id + ": it could not be queued just now; try again", nil
		}
	}
	return id + ": no such dead letter in " + c.places(), nil
}

// applyToAll applies an action to all wanted dead letters, a page at a time. A run that
// dies again in the meantime is left as it is.
func (c *control) applyToAll(ctx context.Context, what deadAction, want func(*broker.DeadLetter) bool) (*applied, error) {
	r := &applied{}
	for _, queue := range c.queues {
		err := c.applyToQueue(ctx, queue, what, want, r)
		switch {
		case err != nil && (ctx.Err() != nil || len(c.queues) == 1):
			return r, c.cutShort(what, r.done, err)
		case err != nil:
			c.pass(inQueue(queue), err)
		}
	}
	return r, nil
}

// applyToQueue is applyToAll for one queue.
func (c *control) applyToQueue(ctx context.Context, queue string, what deadAction, want func(*broker.DeadLetter) bool, r *applied) error {
	met := map[string]bool{}
	for n := letterPage; ; {
		letters, err := c.records.DeadLetters(ctx, queue, n)
		if err != nil {
			return err
		}
		letters = slices.DeleteFunc(letters, func(l *broker.DeadLetter) bool { return met[l.ID] })
		var ids []string
		for _, l := range letters {
			if !met[l.ID] && want(l) {
				ids = append(ids, l.ID)
			}
			met[l.ID] = true
		}
		gone := 0
		for page := range slices.Chunk(ids, letterPage) {
			n, err := c.apply(ctx, queue, what, r, page...)
			if err != nil {
				return err
			}
			gone += n
		}
		r.stayed += max(len(ids)-gone, 0)
		info, err := c.controls.Queue(ctx, queue)
		if info == nil {
			return err
		}
		if int64(n) >= info.Dead && len(letters) == 0 {
			return err
		}
		if gone > 0 {
			n += letterPage - gone // the rest is read again, and a page more
		} else {
			n *= 2
		}
	}
}

// cutShort adds to an error the number of letters done before it.
func (c *control) cutShort(what deadAction, done int, err error) error {
	return fmt.Errorf("%s: %s, and then: %w", c.command, appliedText(what, done), err)
}

func appliedText(what deadAction, n int) string {
	if what == deleteDead {
		return text.Count(n, "dead letter") + " deleted"
	}
	return text.Count(n, "dead letter") + " queued again"
}

// printApplied prints the counts and, if explain is true, why letters stayed.
func (c *control) printApplied(what deadAction, r *applied, asJSON, explain bool) error {
	if asJSON {
		view := appliedView{Retried: &r.done, Stayed: r.stayed, Blocked: r.blocked}
		if what == deleteDead {
			view.Retried, view.Deleted = nil, &r.done
		}
		return c.line.printJSON(view)
	}
	text := appliedText(what, r.done)
	if r.stayed > 0 {
		text += fmt.Sprintf(", %d stayed", r.stayed)
	}
	if explain {
		for _, b := range r.blocked {
			text += "\n" + b.String()
		}
		if more := r.stayed - len(r.blocked); more > 0 && len(r.blocked) > 0 {
			text += fmt.Sprintf("\nand %d more", more)
		}
	}
	_, err := fmt.Fprintln(c.line.stdout, text)
	return err
}
