package taskapp_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
	"github.com/taskgen/taskgen/runtime/taskapp"
)

// notesEnv names the file in which the application of these tests notes what it does.
const notesEnv = "TASKAPP_TEST_NOTES"

// failEnv has its Start fail.
const failEnv = "TASKAPP_TEST_FAIL"

// serveOneEnv has it queue a run at its start, and stop once that has ended.
const serveOneEnv = "TASKAPP_TEST_SERVE_ONE"

func note(format string, args ...any) {
	f, err := os.OpenFile(os.Getenv(notesEnv), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	fmt.Fprintf(f, format+"\n", args...)
}

// filledApp is an application that fills in all fields of App. With "below" as its first
// argument its commands hang below a root of its own.
func filledApp() {
	a := &taskapp.App{
		Broker: "noted:default",
		Brokers: map[string]brokerurl.Opener{"noted": func(_ context.Context, url string) (broker.Broker, error) {
			note("open %s", url)
			return memory.New(), nil
		}},
		Client: taskrt.ClientConfig{Middleware: []taskrt.QueueMiddleware{func(next taskrt.QueueHandler) taskrt.QueueHandler {
			return func(ctx context.Context, runs ...*broker.TaskRun) error {
				note("queue %s", runs[0].Task)
				return next(ctx, runs...)
			}
		}}},
		Consumer: taskrt.ConsumerConfig{Middleware: []taskrt.Middleware{func(next taskrt.Handler) taskrt.Handler {
			return func(ctx context.Context, run *taskrt.Run) error {
				note("run %s", run.Task)
				run.Headers = map[string]string{"from": "parent"}
				if os.Getenv(serveOneEnv) == "" {
					return next(ctx, run)
				}
				self, err := os.FindProcess(os.Getpid())
				return errors.Join(err, next(ctx, run), self.Signal(os.Interrupt))
			}
		}}, Children: taskrt.ChildConfig{Middleware: []taskrt.Middleware{func(next taskrt.Handler) taskrt.Handler {
			return func(ctx context.Context, run *taskrt.Run) error {
				note("run %s in child, with a header from %s", run.Task, run.Headers["from"])
				return next(ctx, run)
			}
		}}}},
		LogHandler: func(h slog.Handler) slog.Handler { return h.WithAttrs([]slog.Attr{slog.String("by", "filled")}) },
		Start: func(ctx context.Context) error {
			where := "parent"
			if taskrt.InChild() {
				where = "child"
			}
			note("start in %s", where)
			if greeting := os.Getenv("TESTAPP_GREETING"); where == "child" && greeting != "" {
				note("greeting %s", greeting)
			}
			if os.Getenv(serveOneEnv) != "" && where == "parent" {
				if _, err := tasks.QueueUngreeted(ctx); err != nil {
					return err
				}
			}
			if os.Getenv(failEnv) == where {
				return errors.New("no\ndatabase")
			}
			return nil
		},
		Stop: func(ctx context.Context) error {
			note("stop %v", ctx.Err())
			if os.Getenv(failEnv) == "stop" {
				return errors.New("no\ndatabase")
			}
			return nil
		},
	}
	if len(os.Args) < 2 || os.Args[1] != "below" {
		a.Main(tasks.Tasks(nil))
	}
	root := &cobra.Command{Use: "mine", SilenceErrors: true}
	verbose := root.PersistentFlags().Bool("verbose", false, "say more")
	below := a.Command(tasks.Tasks(nil))
	below.Use = "jobs"
	root.AddCommand(below)
	root.SetArgs(os.Args[2:])
	err := root.Execute()
	fmt.Printf("verbose=%v error=%v\n", *verbose, err)
	os.Exit(taskapp.ExitCode(err))
}
