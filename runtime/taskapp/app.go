// Package taskapp makes a whole program of tasks: a command line that executes,
// schedules, queues, inspects and operates them, and that is its own child process for
// CPU-bound tasks.
//
//	func main() { taskapp.Main(tasks.Tasks()) }
//
// A program that needs more than that fills in an [App].
package taskapp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/dashboard"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// Main is a program made of tasks: (&App{}).Main.
func Main(sets ...[]taskrt.Task) { new(App).Main(sets...) }

// App is a program made of tasks. Its zero value works. Flags and environment win over
// its fields. It is not changed once a method was called.
type App struct {
	// Broker is the broker's URL where neither --broker nor TASKGEN_BROKER names one.
	// Defaults to memory:.
	Broker string
	// Brokers open brokers of further schemes, such as {"file": sqlite.Open}. Their keys
	// are in lower case, without the colon. Child processes do not get variables with
	// the broker's URL, see BrokerURL of [taskrt.ChildConfig].
	Brokers map[string]brokerurl.Opener
	// Client is for the runs that serve, exec and queue, and their tasks, queue. Its
	// MaxPayload defaults to that of Consumer.
	Client taskrt.ClientConfig
	// Consumer is for serve; exec applies the fields that [taskrt.Exec] does. Its Logger
	// replaces the lines on standard error, unless --log or --json is given.
	Consumer taskrt.ConsumerConfig
	// LogHandler, if set, wraps the handler of the lines that serve and exec write to standard
	// error, whatever --log and --json ask for. An example is LogHandler of package otel,
	// which adds ids of spans. It does not wrap the Logger of Consumer.
	LogHandler func(slog.Handler) slog.Handler
	// Scheduler is for serve. Its Logger defaults to that of serve's consumer.
	Scheduler taskrt.SchedulerConfig
	// Start opens what tasks need, such as a database. It runs once before serve and
	// exec execute anything, and in each child process before its first run; never for
	// list, status, --help and the other commands. An error ends the command with exit
	// status 1, or the child. ctx ends when the process is to stop. In serve and exec it
	// carries a client, so that stubs work; in a child process they do not work yet.
	Start func(ctx context.Context) error
	// Stop closes what Start has opened, and sends what is left to send, such as spans. It
	// runs once after serve and exec have executed everything, and never in a child process.
	// ctx ends after 10 seconds. An error is logged.
	Stop func(ctx context.Context) error
	// Access is who may do what over HTTP, if --http-auth does not say so. Defaults to
	// everything for requests of this machine, and nothing for others.
	Access dashboard.Access
	// Handler returns what serve --http serves in place of [Serving.Handler]. It can be
	// part of what it returns. --http-auth and Access do not restrict it: if it serves more
	// than probes, it has to ask who may see that, as [Serving.Restrict] does.
	Handler func(*Serving) http.Handler
}

// Main executes the command line and exits the process: with status 0, with 1 after an
// error, or with 2 after wrong usage. Run the program with --help to
// see its commands.
//
// In a child process for CPU-bound tasks Main serves those instead. So call it before
// anything that a child must not do, such as opening ports. SIGINT and SIGTERM stop
// gracefully; a second one stops at once.
func (a *App) Main(sets ...[]taskrt.Task) {
	if err := a.serveChild(sets); err != nil {
		fmt.Fprintln(os.Stderr, oneLine(err))
		os.Exit(1)
	}
	c := a.newCommandLine(sets)
	os.Exit(c.main(context.Background(), os.Args[1:]))
}

// Command returns the same command line as a command named tasks, to hang below one's
// own root. Set its Use for another name. Its commands stop gracefully on SIGINT and
// SIGTERM, and return errors for [ExitCode].
//
// In a child process for CPU-bound tasks Command serves those and exits the process. So
// call it before anything that a child must not do.
func (a *App) Command(sets ...[]taskrt.Task) *cobra.Command {
	if err := a.serveChild(sets); err != nil {
		fmt.Fprintln(os.Stderr, oneLine(err))
		os.Exit(1)
	}
	c := a.newCommandLine(sets)
	c.root.Use = "tasks"
	return c.root
}

// ExitCode returns the status with which [App.Main] exits after an error of a command:
// 0 for none, 1 for an error and 2 for wrong usage.
func ExitCode(err error) int {
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		return 2
	}
	return 1
}

func (a *App) newCommandLine(sets [][]taskrt.Task) *commandLine {
	c := &commandLine{app: a, taskOf: make(map[*cobra.Command]*task), stdout: os.Stdout, stderr: os.Stderr}
	c.tasks, c.err = newTaskSet(sets)
	c.root = c.tree()
	return c
}

// serveChild serves runs if this process is a child, and exits then. It returns the
// error of Start.
func (a *App) serveChild(sets [][]taskrt.Task) error {
	if taskrt.InChild() {
		if err := a.start(context.Background()); err != nil {
			return err
		}
	}
	a.Consumer.Children.ServeChild(sets...)
	return nil
}

// start runs the application's Start.
func (a *App) start(ctx context.Context) error {
	if a.Start == nil {
		return nil
	}
	if err := a.Start(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return nil
}

// newLogger returns a logger for the application's own lines.
func (a *App) newLogger(h slog.Handler) *slog.Logger {
	if a.LogHandler != nil {
		h = a.LogHandler(h)
	}
	return slog.New(h)
}

// stopTimeout is how long the application's Stop may take.
const stopTimeout = 10 * time.Second

// stop runs the application's Stop, also if ctx has ended.
func (a *App) stop(ctx context.Context, logger *slog.Logger) {
	if a.Stop == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := a.Stop(ctx); err != nil {
		logger.Error("the application's Stop failed", "error", err)
	}
}

// handler returns what serve --http serves.
func (a *App) handler(s *Serving) http.Handler {
	if a.Handler == nil {
		return s.Handler()
	}
	return a.Handler(s)
}

// clientConfig is Client with the consumer's limit where it has none.
func (a *App) clientConfig() taskrt.ClientConfig {
	cfg := a.Client
	if cfg.MaxPayload == 0 {
		cfg.MaxPayload = a.Consumer.MaxPayload
	}
	return cfg
}

// main executes the program's own command line and returns its exit status.
func (c *commandLine) main(ctx context.Context, args []string) int {
	c.root.Use = filepath.Base(os.Args[0])
	c.root.SilenceErrors = true
	c.root.AddCommand(c.completionCommand())
	c.root.SetHelpCommand(c.helpCommand())
	err := c.checkFirst(args)
	if err == nil {
		c.root.SetArgs(c.doubleHyphens(args))
		err = c.root.ExecuteContext(ctx)
	}
	if err == nil {
		return 0
	}
	hint := ""
	if usage := (*usageError)(nil); errors.As(err, &usage) {
		hint = fmt.Sprintf(" (see %s --help)", strings.TrimSpace(c.name()+" "+usage.command))
	}
	fmt.Fprintf(c.root.ErrOrStderr(), "%s: %s%s\n", c.name(), oneLine(err), hint)
	return ExitCode(err)
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

// oneLine keeps an error on one line, whatever a task put into its text.
func oneLine(err error) string {
	return text.Printable(strings.Join(strings.Fields(err.Error()), " "))
}
