package taskapp

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// letterPage is how many dead letters one request reads or changes.
const letterPage = 200

// failureKinds are the kinds of failure that dead letters can have.
var failureKinds = kindNames(taskrt.Failed, taskrt.Timeout, taskrt.Crashed, taskrt.OOM, taskrt.Cancelled, taskrt.Expired, taskrt.Schema)

func kindNames(kinds ...taskrt.FailureKind) (names []string) {
	for _, k := range kinds {
		names = append(names, string(k))
	}
	return names
}

// deadOptions are the flags of the commands of dead.
type deadOptions struct {
	controlOptions
	task, kind string
	older      time.Duration
	limit      int  // list only
	all        bool // retry and delete only
}

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
	group.AddCommand(c.deadListCommand(), c.requeueCommand("retry", retryDead), c.requeueCommand("delete", deleteDead))
	return group
}

func (o *deadOptions) addTo(set *pflag.FlagSet) {
	o.controlOptions.addTo(set)
	textVar(set, &o.queue, "queue", "only those of this queue")
	textVar(set, &o.task, "task", "only those of this task")
	textVar(set, &o.kind, "kind", "only those that ended as "+strings.Join(failureKinds, ", "))
	durationVar(set, &o.older, "older", "only those that ended longer ago than this, such as 1h")
}

func (o *deadOptions) check(command string) error {
	if o.kind != "" && !slices.Contains(failureKinds, o.kind) {
		return usagef(command, "no kind is named %q%s", o.kind, didYouMean(o.kind, failureKinds, "; one of "+strings.Join(failureKinds, ", ")))
	}
	if o.older < 0 {
		return usagef(command, "--older is %v; it cannot be negative", o.older)
	}
	return nil
}

// filter returns a function that reports whether the flags choose a dead letter.
func (o *deadOptions) filter(c *commandLine) func(*broker.DeadLetter) bool {
	names := c.namesOf(o.task)
	before := time.Now().Add(-o.older)
	return func(l *broker.DeadLetter) bool {
		switch {
		case o.task != "" && (l.Run == nil || !slices.Contains(names, l.Run.Task)):
			return false
		case o.kind != "" && string(l.Failure.Kind) != o.kind:
			return false
		}
		return o.older == 0 || !l.At.IsZero() && l.At.Before(before)
	}
}

// checkTask refuses the name of a task that is not in the program, unless dead letters
// of it were found.
func (o *deadOptions) checkTask(c *commandLine, command string, found int) error {
	if found == 0 && o.task != "" && c.taskNamed(o.task) == nil {
		return c.unknownTask(command, o.task)
	}
	return nil
}

func newLetterView(queue string, l *broker.DeadLetter) runView {
	v := runView{ID: l.ID, Queue: queue, State: string(broker.StateFailed), EndedAt: l.At, Failure: newFailureView(&l.Failure), Unreadable: l.Run == nil}
	if run := l.Run; run != nil {
		v.Task, v.Attempts, v.Deliveries, v.Priority, v.QueuedAt = run.Task, run.Attempt, run.Deliveries, run.Priority.String(), run.QueuedAt
	}
	return v
}

func (c *commandLine) deadListCommand() *cobra.Command {
	o := &deadOptions{limit: defaultLimit}
	cmd := c.command(manual{
		use: "list", short: "list dead letters",
		long:    "Lists the runs that have ended without success, the newest first.",
		example: "dead list --kind crashed --limit 10",
	}, c.noWords, func(ctx context.Context, _ *cobra.Command, _ []string) error { return c.deadList(ctx, o) })
	o.addTo(cmd.Flags())
	intVar(cmd.Flags(), &o.limit, "limit", limitUsage)
	completeFlags(cmd, c.flagCompletions())
	return cmd
}

func (c *commandLine) deadList(ctx context.Context, o *deadOptions) error {
	if err := cmp.Or(o.check("dead list"), checkLimit("dead list", o.limit)); err != nil {
		return err
	}
	ctl, closeBroker, err := c.openControl(ctx, "dead list", &o.controlOptions)
	if err != nil {
		return err
	}
	defer closeBroker()
	views := []runView{}
	found, err := ctl.lettersIn(ctx, ctl.queues, o.limit+1, o.filter(c))
	if err != nil {
		return err
	}
	for i, letters := range found {
		for _, l := range letters {
			views = append(views, newLetterView(ctl.queues[i], l))
		}
	}
	if err := o.checkTask(c, "dead list", len(views)); err != nil {
		return err
	}
	slices.SortStableFunc(views, func(a, b runView) int { return b.EndedAt.Compare(a.EndedAt) })
	more := len(views) > o.limit
	views = views[:min(len(views), o.limit)]
	if o.json {
		err = c.printJSON(views)
	} else {
		err = c.printDead(views, more)
	}
	return cmp.Or(err, ctl.incomplete())
}

func (c *commandLine) printDead(views []runView, more bool) error {
	w := c.table()
	fmt.Fprintln(w, "ID\tTASK\tQUEUE\tKIND\tENDED\tMESSAGE")
	unreadable := 0
	for _, v := range views {
		ended := age(v.EndedAt)
		if !v.EndedAt.IsZero() {
			ended += " ago"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", text.Printable(v.ID), orDash(text.Printable(v.Task)), text.Printable(v.Queue),
			orDash(text.Printable(v.Failure.Kind)), ended, brief(v.Failure.Message, 100))
		if v.Unreadable {
			unreadable++
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var text string
	if unreadable > 0 {
		text = fmt.Sprintf("%d of these cannot be read, and can only be deleted.\n", unreadable)
	}
	if more {
		text += "There are more; --limit, --queue, --task, --kind and --older choose which are shown.\n"
	}
	_, err := io.WriteString(c.stdout, text)
	return err
}

// lettersIn is letters for many queues.
func (c *control) lettersIn(ctx context.Context, queues []string, most int, want func(*broker.DeadLetter) bool) ([][]*broker.DeadLetter, error) {
	return inMany(ctx, c, queues, func(s maintenance.Surveyor, queues []string, part func(maintenance.Part[[]*broker.DeadLetter])) error {
		return s.SurveyDeadLetters(ctx, queues, part)
	}, func(part maintenance.Part[[]*broker.DeadLetter]) []*broker.DeadLetter {
		letters := slices.DeleteFunc(part.Found, func(l *broker.DeadLetter) bool { return !want(l) })
		return letters[:min(len(letters), most)]
	}, func(queue string) ([]*broker.DeadLetter, error) { return c.letters(ctx, queue, most, want) })
}

// letters returns the newest dead letters of a queue that are wanted. It may return some
// beside an error, which is then of another part of the queue.
func (c *control) letters(ctx context.Context, queue string, most int, want func(*broker.DeadLetter) bool) ([]*broker.DeadLetter, error) {
	info, odd := c.controls.Queue(ctx, queue)
	if info == nil || info.Dead == 0 {
		return nil, odd
	}
	for n := letterPage; ; n *= 4 {
		letters, err := c.records.DeadLetters(ctx, queue, n)
		if err != nil {
			return nil, err
		}
		found := slices.DeleteFunc(letters, func(l *broker.DeadLetter) bool { return !want(l) })
		if len(found) >= most || int64(n) >= info.Dead {
			return found[:min(len(found), most)], odd
		}
	}
}
