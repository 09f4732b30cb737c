package taskapp

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// Main is an application made of tasks: it reads the command line, does what
// it says and exits the process, with status 0, 1 after an error or 2 after
// wrong usage. Run the program with --help to see its commands.
//
// In a child process for CPU-bound tasks Main serves those instead, so call it
// before anything that a child should not do, such as opening ports. SIGINT and
// SIGTERM stop gracefully; a second one at once.
func Main(sets ...[]taskrt.Task) {
	taskrt.ServeChild(sets...)
	// The first use of os/signal takes a thread for good: not the first one, which
	// waits for orphans if this process is the first of a container.
	goruntime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	goruntime.UnlockOSThread()
	context.AfterFunc(ctx, stop) // so that a second signal ends the process
	a := &app{name: filepath.Base(os.Args[0]), stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(a.main(ctx, os.Args[1:], sets))
}

// app is one run of the application's command line.
type app struct {
	name   string
	tasks  taskSet
	stdout io.Writer
	stderr io.Writer
}

// command is one of the words after the program's name.
type command struct {
	name    string // several ones that share what they say of themselves: a|b
	args    string
	summary string
	run     func(a *app, ctx context.Context, name string, args []string) error
}

// named reports whether the command goes by the word.
func (c command) named(word string) bool { return slices.Contains(strings.Split(c.name, "|"), word) }

// commandGroup is commands that help shows together.
type commandGroup struct {
	title    string
	commands []command
}

func commandGroups() []commandGroup {
	plain := func(f func(a *app, ctx context.Context, args []string) error) func(*app, context.Context, string, []string) error {
		return func(a *app, ctx context.Context, _ string, args []string) error { return f(a, ctx, args) }
	}
	return []commandGroup{
		{"Run", []command{
			{"serve", "", "execute and schedule tasks until interrupted", plain((*app).serve)},
			{"exec", "TASK [--param value…]", "execute one task here and now", plain((*app).exec)},
			{"queue", "TASK [--param value…]", "queue one run of a task", plain((*app).queue)},
		}},
		{"Look", []command{
			{"list", "", "list the tasks", plain((*app).list)},
			{"status", "", "show the queues, and how each task ended last", plain((*app).status)},
			{"runs", "", "list the runs that wait, run or have ended", plain((*app).runs)},
			{"run", "ID", "show all that is known of one run", plain((*app).run)},
		}},
		{"Steer", []command{
			{"cancel", "ID", "end a run", plain((*app).cancel)},
			{"dead", "list|retry|delete [ID…]", "runs that have ended without success", plain((*app).dead)},
			{"audit", "", "find and mend what nobody works on", plain((*app).audit)},
			{"pause|resume", "QUEUE", "stop handing out runs of a queue, or go on", (*app).pause},
			{"enable|disable", "TASK", "go on handing out runs of a task, or stop", (*app).disable},
		}},
	}
}

// commands are those of all groups.
func commands() (all []command) {
	for _, group := range commandGroups() {
		all = append(all, group.commands...)
	}
	return all
}

// usageError is the caller's mistake in the command line: exit status 2.
type usageError struct {
	command string // whose help to ask for
	message string
}

func (e *usageError) Error() string { return e.message }

func usagef(command, format string, args ...any) error {
	message := fmt.Sprintf(format, args...)
	if command != "" {
		message = command + ": " + message
	}
	return &usageError{command, message}
}

func (a *app) main(ctx context.Context, args []string, sets [][]taskrt.Task) int {
	err := a.dispatch(ctx, args, sets)
	var usage *usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(a.stderr, "%s: %s (see %s --help)\n", a.name, oneLine(err), strings.TrimSpace(a.name+" "+usage.command))
		return 2
	}
	fmt.Fprintf(a.stderr, "%s: %s\n", a.name, oneLine(err))
	return 1
}

// oneLine keeps an error on one line, whatever a task put into its text.
func oneLine(err error) string {
	return text.Printable(strings.Join(strings.Fields(err.Error()), " "))
}

func (a *app) dispatch(ctx context.Context, args []string, sets [][]taskrt.Task) (err error) {
	if a.tasks, err = newTaskSet(sets); err != nil {
		return err
	}
	if len(args) == 0 {
		return usagef("", "no command; one of %s is needed", strings.Join(commandNames(), ", "))
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		words := args[1:]
		if i := slices.IndexFunc(words, isFlag); i >= 0 {
			words = words[:i] // nothing is executed that is not asked for
		}
		if len(words) > 0 && words[0] != "help" {
			return a.dispatch(ctx, append(slices.Clone(words), "--help"), sets)
		}
		a.help()
		return nil
	}
	if isFlag(args[0]) {
		return usagef("", "flag %s before the command; flags stand behind it", args[0])
	}
	for _, c := range commands() {
		if c.named(args[0]) {
			return c.run(a, ctx, args[0], args[1:])
		}
	}
	if slices.Contains(deadCommands, args[0]) {
		return usagef("", "unknown command %q; did you mean \"dead %[1]s\"?", args[0])
	}
	return usagef("", "unknown command %q%s", args[0], didYouMean(args[0], commandNames(), ""))
}

// isFlag reports whether an argument is like a flag.
func isFlag(arg string) bool { return strings.HasPrefix(arg, "-") }

func commandNames() (names []string) {
	for _, c := range commands() {
		names = append(names, strings.Split(c.name, "|")...)
	}
	return names
}

func (a *app) help() {
	fmt.Fprintf(a.stdout, "%s runs background tasks.\n", a.name)
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, group := range commandGroups() {
		fmt.Fprintf(w, "\n%s:\n", group.title)
		for _, c := range group.commands {
			fmt.Fprintf(w, "  %s %s\t%s\n", a.name, strings.TrimSpace(c.name+" "+c.args), c.summary)
		}
	}
	w.Flush()
	fmt.Fprintf(a.stdout, `
Each command takes --help and --json. --broker URL, by default $%s,
names a broker: redis://host:port, or memory: (embedded, gone with the process).
`, brokerurl.Env)
	if tasks := a.tasks.list; len(tasks) > 0 {
		params, _ := tasks[0].paramFlags(context.Background())
		fmt.Fprintf(a.stdout, "\nExample: %s exec %s%s\n", a.name, tasks[0].Spec().Name, exampleFlags(params))
	}
}

// task takes the task's name from a command's arguments; it may be written
// with hyphens.
func (a *app) task(command string, args []string) (*task, []string, error) {
	if len(args) > 0 && isHelp(args[0]) {
		return nil, nil, errors.Join(a.helpTask(command), flag.ErrHelp)
	}
	if len(args) == 0 || isFlag(args[0]) {
		return nil, nil, usagef(command, "the name of a task is needed; %s list shows them", a.name)
	}
	t := a.taskNamed(args[0])
	if t == nil {
		return nil, nil, a.unknownTask(command, args[0])
	}
	return t, args[1:], nil
}

// taskNamed returns the task of a name that may be written with hyphens, nil if
// there is none.
func (a *app) taskNamed(name string) *task {
	if t, ok := a.tasks.byName[name]; ok {
		return t
	}
	return a.tasks.byName[strings.ReplaceAll(name, "-", "_")]
}

func (a *app) unknownTask(command, name string) error {
	known := slices.Sorted(maps.Keys(a.tasks.byName))
	hint := didYouMean(strings.ReplaceAll(name, "-", "_"), known, fmt.Sprintf("; %s list shows them", a.name))
	return usagef(command, "no task is named %q%s", name, hint)
}

// openBroker opens the broker of a command, which logs what it skips, and returns how
// to close it.
func openBroker(ctx context.Context, url string, logger *slog.Logger) (broker.Broker, func(), error) {
	b, err := brokerurl.Config{Logger: logger}.Open(ctx, url)
	if err != nil {
		return nil, nil, err
	}
	return b, func() {
		if c, ok := b.(io.Closer); ok {
			c.Close()
		}
	}, nil
}
