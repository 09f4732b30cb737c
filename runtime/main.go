package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// Main is an application made of tasks: it reads the command line, does what
// it says and exits the process, with status 0, 1 after an error or 2 after
// wrong usage. Run the program with --help to see its commands.
//
// In a child process for CPU-bound tasks Main serves those instead, so call it
// before anything that a child should not do, such as opening ports. SIGINT and
// SIGTERM stop gracefully; a second one at once.
func Main(sets ...[]Task) {
	ServeChild(sets...)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
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
	name    string
	args    string
	summary string
	run     func(a *app, ctx context.Context, args []string) error
}

func commands() []command {
	return []command{
		{"serve", "", "execute queued tasks and queue the periodic ones, until interrupted", (*app).serve},
		{"exec", "TASK [--param value…]", "execute one task here and now", (*app).exec},
		{"queue", "TASK [--param value…]", "queue one run of a task", (*app).queue},
		{"list", "", "list the tasks", (*app).list},
	}
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

func (a *app) main(ctx context.Context, args []string, sets [][]Task) int {
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
	return strings.Join(strings.Fields(err.Error()), " ")
}

func (a *app) dispatch(ctx context.Context, args []string, sets [][]Task) (err error) {
	if a.tasks, err = newTaskSet(sets); err != nil {
		return err
	}
	if len(args) == 0 {
		return usagef("", "no command; one of serve, exec, queue, list is needed")
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		if len(args) > 1 {
			return a.dispatch(ctx, append(args[1:], "--help"), sets)
		}
		a.help()
		return nil
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(a, ctx, args[1:])
		}
	}
	return usagef("", "unknown command %q", args[0])
}

func (a *app) help() {
	fmt.Fprintf(a.stdout, "%s runs background tasks.\n\nUsage:\n", a.name)
	w := tabwriter.NewWriter(a.stdout, 0, 0, 3, ' ', 0)
	for _, c := range commands() {
		fmt.Fprintf(w, "  %s %s\t%s\n", a.name, strings.TrimSpace(c.name+" "+c.args), c.summary)
	}
	w.Flush()
	fmt.Fprintf(a.stdout, `
Each command takes --help. serve, exec and queue take --broker URL: memory:
(embedded, gone with the process) or redis://host:port. The default is
$%s, else memory:.
`, BrokerEnv)
	if tasks := a.tasks.list; len(tasks) > 0 {
		fmt.Fprintf(a.stdout, "\nExample: %s exec %s%s\n", a.name, tasks[0].spec.Name, exampleFlags(tasks[0]))
	}
}

func exampleFlags(t *Task) string {
	var b strings.Builder
	for _, f := range t.paramFlags(flag.NewFlagSet("", flag.ContinueOnError), t.newParams()) {
		fmt.Fprintf(&b, " --%s …", f.name)
	}
	return b.String()
}

// flags returns the flag set of a command, which writes nothing itself.
func (a *app) flags(name string) *flag.FlagSet {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	return set
}

// parse reads a command's flags; nothing may follow them. Asked for help it
// prints intro and the flags, and returns flag.ErrHelp.
func (a *app) parse(set *flag.FlagSet, args []string, usage, intro string) error {
	err := set.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(a.stdout, "Usage: %s %s\n\n%s\n\nFlags:\n", a.name, usage, strings.TrimSpace(intro))
		a.printFlags(set)
		return err
	case err != nil:
		message := strings.ReplaceAll(err.Error(), "flag provided but not defined: -", "unknown flag --")
		return usagef(set.Name(), "%s", strings.ReplaceAll(message, " for flag -", " for flag --"))
	case set.NArg() > 0:
		return usagef(set.Name(), "unexpected argument %q", set.Arg(0))
	}
	return nil
}

func (a *app) printFlags(set *flag.FlagSet) {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 3, ' ', 0)
	set.VisitAll(func(f *flag.Flag) {
		def := ""
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" {
			def = fmt.Sprintf(" (default %s)", strings.ToLower(f.DefValue))
		}
		fmt.Fprintf(w, "  --%s\t%s%s\n", f.Name, f.Usage, def)
	})
	w.Flush()
}

// task takes the task's name from a command's arguments; it may be written
// with hyphens.
func (a *app) task(command string, args []string) (*Task, []string, error) {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		if len(args) > 0 && (args[0] == "-h" || args[0] == "--help" || args[0] == "-help") {
			fmt.Fprintf(a.stdout, "Usage: %s %s TASK [--param value…]\n\nThe tasks are:\n", a.name, command)
			return nil, nil, errors.Join(a.list(context.Background(), nil), flag.ErrHelp)
		}
		return nil, nil, usagef(command, "the name of a task is needed; %s list shows them", a.name)
	}
	for _, name := range []string{args[0], strings.ReplaceAll(args[0], "-", "_")} {
		if t, ok := a.tasks.byName[name]; ok {
			return t, args[1:], nil
		}
	}
	return nil, nil, usagef(command, "no task is named %q; %s list shows them", args[0], a.name)
}

// openBroker opens the broker of a command and returns how to close it.
func openBroker(ctx context.Context, url string) (broker.Broker, func(), error) {
	b, err := Open(ctx, url)
	if err != nil {
		return nil, nil, err
	}
	return b, func() {
		if c, ok := b.(io.Closer); ok {
			c.Close()
		}
	}, nil
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// durationVar adds a flag whose error says how a duration is written.
func durationVar(set *flag.FlagSet, d *time.Duration, name, usage string) {
	set.Func(name, usage, func(text string) (err error) {
		*d, err = time.ParseDuration(text)
		if err != nil {
			return errors.New("not a duration such as 1m30s")
		}
		return nil
	})
}
