package taskapp

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// changeOptions are the flags of the commands that change all that match.
type changeOptions struct {
	filterOptions
	all, yes, dryRun bool
	rate             int
}

func (o *changeOptions) addTo(set *pflag.FlagSet) {
	o.filterOptions.addTo(set)
	set.BoolVar(&o.all, "all", false, "all that the other flags choose")
	set.BoolVar(&o.dryRun, "dry-run", false, "only count what is chosen, and change nothing")
	set.BoolVar(&o.yes, "yes", false, "do not ask before the change")
	intVar(set, &o.rate, "rate", "change no more than so many a second")
}

// chooseHelp is the end of the help of these commands.
const chooseHelp = `
Ids, flags that choose, or --all are needed. Unless ids are given, the command counts what
is chosen and asks before it changes that; --yes answers. It ends with status 1 if some
stayed as they are.`

func (o *changeOptions) check(command string, ids []string) error {
	switch {
	case len(ids) > 0 && (o.chooses() || o.all):
		return usagef(command, "both ids and flags that choose; give one or the other")
	case len(ids) == 0 && !o.chooses() && o.queue == "" && !o.all:
		return usagef(command, "nothing is chosen; give ids, flags such as --queue, --task, --error and --older, or --all")
	case o.rate < 0:
		return usagef(command, "--rate is %d; it cannot be negative", o.rate)
	}
	for _, id := range ids {
		if err := checkID(command, id); err != nil {
			return err
		}
	}
	return o.filterOptions.check(command)
}

// someIDs accepts any ids behind a command.
func (c *commandLine) someIDs(*cobra.Command, []string) error { return nil }

// changeKind is a change of all that match.
type changeKind struct {
	command     string // its words
	verb, after string // of the question: "Cancel 3 runs?", "Make 3 delayed runs due?"
	thing       string // that is changed
	done        string // what happened to it
	key         string // of how many, in JSON
	why         string // an id is not among them
	apply       func(*taskrt.Inspector, context.Context, taskrt.RunFilter, taskrt.ChangeOptions) (*taskrt.ChangeResult, error)
}

// changeView is the JSON of a change.
type changeView struct {
	Matched  *int         `json:"matched,omitempty"` // of a dry run, which changes nothing
	Cancel   *int         `json:"cancelled,omitempty"`
	MadeDue  *int         `json:"made_due,omitempty"`
	Retried  *int         `json:"retried,omitempty"`
	Deleted  *int         `json:"deleted,omitempty"`
	Stayed   int          `json:"stayed"`          // chosen, and not changed
	Stays    []stayView   `json:"stays,omitempty"` // the first of these
	Reasons  []reasonView `json:"reasons,omitempty"`
	Looked   int          `json:"looked"`
	Outcomes []cancelView `json:"outcomes,omitempty"`
}

// stayView is a run or dead letter that stays as it is.
type stayView struct {
	ID    string `json:"id"`
	Queue string `json:"queue,omitempty"`
	Why   string `json:"why"`
}

// reasonView is why some stayed.
type reasonView struct {
	Why   string `json:"why"`
	Count int    `json:"count"`
}

// change changes what ids or flags choose.
func (c *commandLine) change(ctx context.Context, o *changeOptions, what *changeKind, ids []string) error {
	if err := cmp.Or(o.check(what.command, ids), o.checkTag(c, what.command)); err != nil {
		return err
	}
	ctl, closeBroker, err := c.openControl(ctx, what.command, &o.controlOptions)
	if err != nil {
		return err
	}
	defer closeBroker()
	f := o.filter(c, ctl.queues)
	f.IDs = ids
	if len(ids) == 0 && !o.yes && !o.dryRun {
		if sure, err := ctl.ask(ctx, o, what, f); !sure || err != nil {
			return err
		}
	}
	return ctl.apply(ctx, o, what, f)
}

// apply changes what the filter chooses, and prints the result.
func (c *control) apply(ctx context.Context, o *changeOptions, what *changeKind, f taskrt.RunFilter) error {
	options := taskrt.ChangeOptions{DryRun: o.dryRun, PerSecond: o.rate}
	clear := func() {}
	if isTerminal(c.line.stderr) && !o.json {
		options.Progress, clear = c.progress(what)
	}
	r, err := what.apply(c.inspector, ctx, f, options)
	clear()
	if r == nil {
		return err
	}
	c.report(r.Skipped)
	view := newChangeView(what, r, o.dryRun)
	if err == nil && c.incomplete() == nil {
		if err := o.checkTask(c.line, c.command, r.Changed+r.Stayed); err != nil {
			return err
		}
	}
	if printErr := c.printChange(what, view, o); printErr != nil {
		return printErr
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("%s: interrupted; the above is done, and the rest stays as it is", c.command)
	case err != nil:
		return err
	case view.Stayed > 0:
		err = fmt.Errorf("%s: %d stayed, as said above", c.command, view.Stayed)
	}
	return cmp.Or(err, c.incomplete())
}

func newChangeView(what *changeKind, r *taskrt.ChangeResult, dry bool) *changeView {
	view := &changeView{Stayed: r.Stayed + len(r.Missing), Looked: r.Looked}
	switch {
	case dry:
		view.Matched = &r.Changed
	case what.key == "cancelled":
		view.Cancel = &r.Changed
	case what.key == "retried":
		view.Retried = &r.Changed
	case what.key == "deleted":
		view.Deleted = &r.Changed
	default:
		view.MadeDue = &r.Changed
	}
	for _, s := range r.Stays {
		view.Stays = append(view.Stays, stayView{s.ID, s.Queue, s.Why})
	}
	for _, id := range r.Missing {
		view.Stays = append(view.Stays, stayView{ID: id, Why: what.why})
	}
	for _, reason := range r.Reasons {
		view.Reasons = append(view.Reasons, reasonView(reason))
	}
	if n := len(r.Missing); n > 0 {
		view.Reasons = append(view.Reasons, reasonView{what.why, n})
	}
	return view
}

// What people see of those that stayed.
const (
	mostReasons = 20
	mostStays   = 3 // ids of each reason
)

func (c *control) printChange(what *changeKind, view *changeView, o *changeOptions) error {
	if o.json {
		return c.line.printJSON(view)
	}
	var b strings.Builder
	if view.Matched != nil {
		verb := "match"
		if *view.Matched == 1 {
			verb = "matches"
		}
		fmt.Fprintf(&b, "%s %s; nothing was changed\n", text.Count(*view.Matched, what.thing), verb)
	} else {
		n := *cmp.Or(view.Cancel, view.MadeDue, view.Retried, view.Deleted)
		fmt.Fprintf(&b, "%s %s", text.Count(n, what.thing), what.done)
		if view.Stayed > 0 {
			fmt.Fprintf(&b, ", %d stayed:", view.Stayed)
		}
		b.WriteString("\n")
	}
	view.printStays(&b)
	_, err := io.WriteString(c.line.stdout, b.String())
	return err
}

// printStays prints why some stayed, a line for each reason, with the first ids.
func (v *changeView) printStays(w io.Writer) {
	more := v.Stayed
	for _, r := range v.Reasons[:min(len(v.Reasons), mostReasons)] {
		more -= r.Count
		var ids []string
		for _, s := range v.Stays {
			if s.Why != r.Why || len(ids) == mostStays {
				continue
			}
			id := text.Printable(s.ID)
			if s.Queue != "" {
				id += " (queue " + text.Printable(s.Queue) + ")"
			}
			ids = append(ids, id)
		}
		switch why := text.Printable(r.Why); {
		case len(ids) == 0:
			fmt.Fprintf(w, "  %d: %s\n", r.Count, why)
		case r.Count == 1:
			fmt.Fprintf(w, "  %s: %s\n", ids[0], why)
		case r.Count == len(ids):
			fmt.Fprintf(w, "  %d: %s: %s\n", r.Count, why, strings.Join(ids, ", "))
		default:
			fmt.Fprintf(w, "  %d: %s, such as %s\n", r.Count, why, strings.Join(ids, ", "))
		}
	}
	if more > 0 {
		fmt.Fprintf(w, "  and %d more\n", more)
	}
}

// ask counts what would be changed, and asks whether it may be.
func (c *control) ask(ctx context.Context, o *changeOptions, what *changeKind, f taskrt.RunFilter) (bool, error) {
	if o.json || !isTerminal(os.Stdin) {
		return false, usagef(c.command, "nobody is there to be asked; --yes changes all that is chosen, --dry-run counts it")
	}
	r, err := what.apply(c.inspector, ctx, f, taskrt.ChangeOptions{DryRun: true})
	if err != nil {
		return false, err
	}
	c.report(r.Skipped)
	if r.Changed == 0 {
		if err := o.checkTask(c.line, c.command, 0); err != nil {
			return false, err
		}
		_, err := fmt.Fprintf(c.line.stdout, "No %s matches in %s.\n", what.thing, c.places(3))
		return false, cmp.Or(err, c.incomplete())
	}
	fmt.Fprintf(c.line.stderr, "%s %s of %s%s? [y/N] ", what.verb, text.Count(r.Changed, what.thing), c.places(3), what.after)
	answer, err := readLine(ctx)
	if err != nil {
		return false, err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true, nil
	}
	fmt.Fprintln(c.line.stderr, "Nothing was changed.")
	return false, nil
}

// readLine reads a line of standard input, until ctx ends.
func readLine(ctx context.Context) (string, error) {
	line := make(chan string, 1)
	go func() { // it ends with the process, if nobody answers
		s, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		line <- s
	}()
	select {
	case s := <-line:
		return s, nil
	case <-ctx.Done():
		return "", errors.New("interrupted; nothing was changed")
	}
}

// progress returns a function that shows how far a change is, on one line of the terminal, and
// one that clears the line.
func (c *control) progress(what *changeKind) (show func(taskrt.Changes), clear func()) {
	return func(done taskrt.Changes) {
			fmt.Fprintf(c.line.stderr, "\r\x1b[K%s %s; %s of about %s looked at", text.Count(done.Changed, what.thing), what.done,
				text.Thousands(int64(done.Looked)), text.Thousands(done.Total))
		}, func() {
			fmt.Fprint(c.line.stderr, "\r\x1b[K")
		}
}
