package runtime

import (
	"context"
	"log/slog"
	"maps"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// Run tells a task about its own execution.
type Run struct {
	ID       string
	Task     string
	Queue    string
	Attempt  int       // from 1
	Delivery int       // how often the run was handed out, from 1; more than Attempt after a crash
	Deadline time.Time // of this attempt
	QueuedAt time.Time
	ParentID string // the run that queued this one, if one did
	RootID   string // the first run of that line, this one if it has no parent
	Headers  map[string]string
}

// Handler executes a run. A middleware's error counts as the task's.
type Handler func(ctx context.Context, run *Run) error

// Middleware wraps the execution of every run of a consumer. For CPU-bound
// tasks it runs in the consumer's process, around the child's work. One that
// does not call next decides the run's outcome by itself; it cannot end a run
// well whose task has a result.
type Middleware func(next Handler) Handler

func newRunInfo(run *broker.TaskRun, deadline time.Time) *Run {
	return &Run{
		ID:       run.ID,
		Task:     run.Task,
		Queue:    run.Queue,
		Attempt:  run.Attempt + 1,
		Delivery: run.Deliveries,
		Deadline: deadline,
		QueuedAt: run.QueuedAt,
		ParentID: run.ParentID,
		RootID:   rootID(run),
		Headers:  maps.Clone(run.Headers), // the stored ones are not a task's to change
	}
}

func rootID(run *broker.TaskRun) string {
	if run.RootID == "" {
		return run.ID
	}
	return run.RootID
}

type runKey struct{}
type loggerKey struct{}

// runContext carries what a task may ask of its context in one allocation
// instead of a chain of values.
type runContext struct {
	context.Context
	run    *Run
	client *Client
	logger *slog.Logger
}

func (c *runContext) Value(key any) any {
	switch key.(type) {
	case runKey:
		return c.run
	case clientKey:
		return c.client
	case loggerKey:
		return c.logger
	}
	return c.Context.Value(key)
}

// CurrentRun returns the run that ctx belongs to, false outside of a task.
func CurrentRun(ctx context.Context) (*Run, bool) {
	run, ok := ctx.Value(runKey{}).(*Run)
	return run, ok
}

// Logger returns the consumer's logger with the run's id, task and attempt,
// also in a child process, from where the records travel to the consumer's
// log. Outside of a task it is slog's default logger.
func Logger(ctx context.Context) *slog.Logger {
	logger, ok := ctx.Value(loggerKey{}).(*slog.Logger)
	if !ok {
		return slog.Default()
	}
	if run, ok := CurrentRun(ctx); ok {
		return logger.With("task", run.Task, "run", run.ID, "attempt", run.Attempt)
	}
	return logger
}
