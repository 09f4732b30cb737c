package runtime

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/broker"
)

// redoView is what dead retry and dead delete print.
type redoView struct {
	Retried *int `json:"retried,omitempty"`
	Deleted *int `json:"deleted,omitempty"`
	Stayed  int  `json:"stayed"` // chosen, and not dealt with
}

func (a *app) redo(ctx context.Context, command string, what broker.Redo, args []string) error {
	o := &deadOptions{}
	set := a.flags(command)
	o.addTo(set)
	set.BoolVar(&o.all, "all", false, "all that the other flags choose")
	intro := "Queues dead letters again, each as a new run with all its attempts. One stays if a\nrun with its id, or with its parameters of a //task:unique, is queued or running."
	if what == broker.RedoDelete {
		intro = "Deletes dead letters."
	}
	ids, err := a.parseWords(set, args, manual{
		usage: command + " [ID…] [flags]", intro: intro + "\nIds, flags that choose, or --all are needed.",
		example: command + " --kind timeout --older 1h",
	})
	if err == nil {
		err = o.checkChoice(command, ids)
	}
	if err != nil {
		return err
	}
	c, closeBroker, err := a.openControl(ctx, command, &o.controlOptions)
	if err != nil {
		return err
	}
	defer closeBroker()
	if len(ids) > 0 {
		return c.redoIDs(ctx, what, ids, o)
	}
	done, stayed, err := c.redoAll(ctx, what, o.filter(a))
	if err == nil {
		err = o.checkTask(a, command, done+stayed)
	}
	if err != nil {
		return err
	}
	return c.printRedo(what, done, stayed, o.json)
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

func (c *control) redoIDs(ctx context.Context, what broker.Redo, ids []string, o *deadOptions) error {
	slices.Sort(ids)
	ids = slices.Compact(ids)
	done := 0
	var stayed []string
	for _, id := range ids { // one by one, to know which
		found := 0
		for _, queue := range c.queues {
			n, err := c.controls.Redo(ctx, queue, what, id)
			if err != nil {
				return c.cutShort(what, done, err)
			}
			found += n
		}
		if done += found; found == 0 {
			stayed = append(stayed, id)
		}
	}
	if err := c.printRedo(what, done, len(stayed), o.json); err != nil || len(stayed) == 0 {
		return err
	}
	return c.explainStayed(ctx, what, stayed, len(ids))
}

// explainStayed says of the first of the ids that were not dealt with why.
func (c *control) explainStayed(ctx context.Context, what broker.Redo, stayed []string, of int) error {
	there := map[string]bool{}
	for _, queue := range c.queues {
		if what == broker.RedoDelete {
			break // those that are there are gone
		}
		letters, err := c.letters(ctx, queue, len(stayed), func(l *broker.DeadLetter) bool { return slices.Contains(stayed, l.ID) })
		if err != nil {
			return fmt.Errorf("%s: look for those that stayed: %w", c.command, err)
		}
		for _, l := range letters {
			there[l.ID] = true
		}
	}
	const most = 5
	var why []string
	for _, id := range stayed[:min(len(stayed), most)] {
		if there[id] {
			why = append(why, id+": a run with its id, or with its parameters of a //task:unique, is queued or running")
		} else {
			why = append(why, id+": no such dead letter in "+c.places())
		}
	}
	if more := len(stayed) - most; more > 0 {
		why = append(why, fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("%s: %d of %s stayed: %s", c.command, len(stayed), count(of, "id"), strings.Join(why, "; "))
}

// redoAll deals with all dead letters that are wanted, a page at a time, and
// returns how many of them stayed. Those that die again meanwhile are not dealt
// with twice.
func (c *control) redoAll(ctx context.Context, what broker.Redo, want func(*broker.DeadLetter) bool) (done, stayed int, err error) {
	for _, queue := range c.queues {
		met := map[string]bool{}
		for n := letterPage; ; {
			letters, err := c.records.DeadLetters(ctx, queue, n)
			if err != nil {
				return done, stayed, c.cutShort(what, done, err)
			}
			letters = slices.DeleteFunc(letters, func(l *broker.DeadLetter) bool { return met[l.ID] })
			var ids []string
			for _, l := range letters {
				if !met[l.ID] && want(l) {
					ids = append(ids, l.ID)
				}
				met[l.ID] = true
			}
			gone, err := c.redoPages(ctx, queue, what, ids)
			if err != nil {
				return done + gone, stayed, c.cutShort(what, done+gone, err)
			}
			done, stayed = done+gone, stayed+max(len(ids)-gone, 0)
			info, err := c.controls.Queue(ctx, queue)
			if err != nil {
				return done, stayed, c.cutShort(what, done, err)
			}
			if int64(n) >= info.Dead && len(letters) == 0 {
				break
			}
			if gone > 0 {
				n += letterPage - gone // what is left is met again, and a page more
			} else {
				n *= 2
			}
		}
	}
	return done, stayed, nil
}

func (c *control) redoPages(ctx context.Context, queue string, what broker.Redo, ids []string) (done int, err error) {
	for page := range slices.Chunk(ids, letterPage) {
		n, err := c.controls.Redo(ctx, queue, what, page...)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// cutShort says in an error what was done before it.
func (c *control) cutShort(what broker.Redo, done int, err error) error {
	return fmt.Errorf("%s: %s, and then: %w", c.command, redone(what, done), err)
}

func redone(what broker.Redo, n int) string {
	if what == broker.RedoDelete {
		return count(n, "dead letter") + " deleted"
	}
	return count(n, "dead letter") + " queued again"
}

func (c *control) printRedo(what broker.Redo, done, stayed int, asJSON bool) error {
	if asJSON {
		view := redoView{Retried: &done, Stayed: stayed}
		if what == broker.RedoDelete {
			view.Retried, view.Deleted = nil, &done
		}
		return c.app.printJSON(view)
	}
	text := redone(what, done)
	if stayed > 0 {
		text += fmt.Sprintf(", %d stayed", stayed)
	}
	_, err := fmt.Fprintln(c.app.stdout, text)
	return err
}
