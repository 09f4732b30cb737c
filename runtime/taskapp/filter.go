package taskapp

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// states are those of runs, in the order in which they are shown.
var states = []string{
	string(broker.StateRunning), string(broker.StateQueued), string(broker.StateDelayed),
	string(broker.StateFailed), string(broker.StateCancelled), string(broker.StateSucceeded),
}

// liveStates are those of runs that have not ended.
var liveStates = states[:3]

// failureKinds are the kinds of failure that runs and dead letters can have.
var failureKinds = kindNames(taskrt.Failed, taskrt.Timeout, taskrt.Crashed, taskrt.OOM, taskrt.Cancelled, taskrt.Expired, taskrt.Schema, taskrt.Duplicate, taskrt.Lost)

func kindNames(kinds ...taskrt.FailureKind) (names []string) {
	for _, k := range kinds {
		names = append(names, string(k))
	}
	return names
}

// filterOptions are the flags that choose runs or dead letters.
type filterOptions struct {
	controlOptions
	state, task, tag, kind, error, key string
	older, newer                       time.Duration

	states []string // that --state may name; nil: the command has no --state
}

// addTo adds the flags. Those of a command for runs have a state, and those for dead letters
// a kind.
func (o *filterOptions) addTo(set *pflag.FlagSet) {
	o.controlOptions.addTo(set)
	textVar(set, &o.queue, "queue", "only those of this queue")
	if o.states != nil {
		textVar(set, &o.state, "state", "only those that are "+strings.Join(o.states, ", "))
	}
	textVar(set, &o.task, "task", "only those of this task")
	textVar(set, &o.tag, "tag", "only those of tasks with this tag")
	textVar(set, &o.kind, "kind", "only those that failed last as "+strings.Join(failureKinds, ", "))
	textVar(set, &o.error, "error", "only those with this text in why they, or an attempt, failed")
	textVar(set, &o.key, "key", "only those whose id begins so, or with this parent, root, group or unique key")
	durationVar(set, &o.older, "older", "only those that were queued, or have ended, longer ago than this, such as 1h")
	durationVar(set, &o.newer, "newer", "only those that were queued, or have ended, within this, such as 1h")
}

func (o *filterOptions) check(command string) error {
	switch {
	case o.state != "" && !slices.Contains(o.states, o.state):
		return usagef(command, "no state is named %q%s", o.state, didYouMean(o.state, o.states, "; one of "+strings.Join(o.states, ", ")))
	case o.kind != "" && !slices.Contains(failureKinds, o.kind):
		return usagef(command, "no kind is named %q%s", o.kind, didYouMean(o.kind, failureKinds, "; one of "+strings.Join(failureKinds, ", ")))
	case o.older < 0:
		return usagef(command, "--older is %v; it cannot be negative", o.older)
	case o.newer < 0:
		return usagef(command, "--newer is %v; it cannot be negative", o.newer)
	}
	return nil
}

// checkTag refuses a tag that no task has.
func (o *filterOptions) checkTag(c *commandLine, command string) error {
	known := c.tasks.tags()
	if o.tag == "" || slices.Contains(known, o.tag) {
		return nil
	}
	otherwise := "; known are " + text.List(known, mostNamed)
	if len(known) == 0 {
		otherwise = "; no task has any, //task:tags gives it some"
	}
	return usagef(command, "no task has the tag %q%s", o.tag, didYouMean(o.tag, known, otherwise))
}

// chooses reports whether any flag chooses, besides --queue.
func (o *filterOptions) chooses() bool {
	return o.state != "" || o.task != "" || o.tag != "" || o.kind != "" || o.error != "" || o.key != "" || o.older != 0 || o.newer != 0
}

// filter returns what the flags choose, in these queues.
func (o *filterOptions) filter(c *commandLine, queues []string) taskrt.RunFilter {
	f := taskrt.RunFilter{Queues: queues, Task: o.task, Tag: o.tag, Kind: taskrt.FailureKind(o.kind), Error: o.error, Key: o.key}
	if t := c.taskNamed(o.task); t != nil {
		f.Task = t.Name()
	}
	if o.state != "" {
		f.States = []broker.State{broker.State(o.state)}
	}
	if o.older > 0 {
		f.Before = time.Now().Add(-o.older)
	}
	if o.newer > 0 {
		f.Since = time.Now().Add(-o.newer)
	}
	return f
}

// checkTask refuses the name of a task that is not in the program, unless something of it
// was found.
func (o *filterOptions) checkTask(c *commandLine, command string, found int) error {
	if found == 0 && o.task != "" && c.taskNamed(o.task) == nil {
		return c.unknownTask(command, o.task)
	}
	return nil
}

// flags writes the flags that choose, as they can be typed again.
func (o *filterOptions) flags() string {
	var b strings.Builder
	add := func(name, value string) {
		if value != "" {
			b.WriteString(" --" + name + " " + quoted(value))
		}
	}
	add("queue", o.queue)
	add("state", o.state)
	add("task", o.task)
	add("tag", o.tag)
	add("kind", o.kind)
	add("error", o.error)
	add("key", o.key)
	if o.older > 0 {
		add("older", o.older.String())
	}
	if o.newer > 0 {
		add("newer", o.newer.String())
	}
	return b.String()
}

// quoted writes a word for a shell.
func quoted(word string) string {
	plain := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@%+=,", r))
	}
	if !strings.ContainsFunc(word, plain) {
		return word
	}
	return "'" + strings.ReplaceAll(text.Printable(word), "'", `'\''`) + "'"
}

// searchOptions are the flags of a list.
type searchOptions struct {
	filterOptions
	limit int
	after string
}

// The default and the bounds of --limit.
const (
	defaultLimit = 50
	maxLimit     = 1_000_000
	limitUsage   = "so many at most (default 50)"
)

// mostLooked is after how many runs that it looked at a list reads no further page.
const mostLooked = 100_000

func (o *searchOptions) addTo(set *pflag.FlagSet) {
	o.filterOptions.addTo(set)
	o.limit = defaultLimit
	intVar(set, &o.limit, "limit", limitUsage)
	textVar(set, &o.after, "after", "go on where the list before ended, as its last line says")
}

func (o *searchOptions) check(command string) error {
	switch {
	case o.limit < 1:
		return usagef(command, "--limit is %d; at least 1 is needed", o.limit)
	case o.limit > maxLimit:
		return usagef(command, "--limit is %d; at most %d are printed", o.limit, maxLimit)
	}
	return o.filterOptions.check(command)
}

// page says what is to be read next of a list.
func (o *searchOptions) page(found int, after string) taskrt.PageOptions {
	return taskrt.PageOptions{After: after, Max: min(o.limit-found, broker.MaxFound)}
}

// searched is what a list has looked at.
type searched struct {
	Looked int    `json:"looked"`
	Total  *int64 `json:"total"`           // there are so many in the states and queues, about; null: unknown
	After  string `json:"after,omitempty"` // where the list goes on; empty: it has ended
}

func (s *searched) set(looked int, total int64, after string) {
	s.Looked += looked
	s.After = after
	if s.Total = nil; total >= 0 {
		s.Total = &total
	}
}

// text describes the end of a list of found things, and how it goes on.
func (s *searched) text(c *control, o *searchOptions, found int, thing string) string {
	line := text.Count(found, thing)
	if found == 0 {
		line = "No " + thing + " matches"
	}
	if o.chooses() {
		line += "; looked at " + text.Thousands(int64(s.Looked))
	}
	if s.Total != nil && s.After != "" {
		line += " of about " + text.Thousands(*s.Total)
	}
	line += " in " + c.places(3) + "."
	if s.After == "" {
		return line
	}
	flags := o.flags()
	if o.limit != defaultLimit {
		flags += fmt.Sprintf(" --limit %d", o.limit)
	}
	return fmt.Sprintf("%s There are more; go on with\n  %s %s%s --after %s", line, c.line.name(), c.command, flags, s.After)
}
