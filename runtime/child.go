package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/subprocess"
)

// InChild reports whether this process is a child that a consumer started for
// its CPU-bound tasks.
func InChild() bool { return subprocess.InChild() }

// ServeChild makes a child process serve runs and exit; in any other process
// it returns at once. A main that does not use [Main] calls it first, before
// it opens ports, files or connections.
func ServeChild(sets ...[]Task) {
	if !InChild() {
		return
	}
	if err := serveChild(sets); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// checkNotChild fails in a child process that did not become one: it would do
// what its parent does, and start children of its own.
func checkNotChild() error {
	if InChild() {
		return errors.New("this process is a child for CPU-bound tasks: call taskrt.Main or taskrt.ServeChild first in main")
	}
	return nil
}

func serveChild(sets [][]Task) error {
	tasks, err := newTaskSet(sets)
	if err != nil {
		return fmt.Errorf("serve as a child process: %w", err)
	}
	return subprocess.Serve(context.Background(), func(ctx context.Context, run *broker.TaskRun, parent *subprocess.Parent) *subprocess.Response {
		return tasks.serve(ctx, run, parent)
	})
}

// serve executes a run in the child process. What the run queues or waits for
// travels through the parent, so it works with every broker.
func (s taskSet) serve(ctx context.Context, run *broker.TaskRun, parent *subprocess.Parent) *subprocess.Response {
	task, ok := s.byName[run.Task]
	if !ok {
		return respond(ctx, nil, Permanent(fmt.Errorf("%w: the child process does not know %s; pass the same tasks to ServeChild as to NewConsumer", ErrUnknownTask, run.Task)))
	}
	deadline, _ := ctx.Deadline()
	ctx = &runContext{
		Context: ctx,
		run:     newRunInfo(run, deadline),
		client:  NewClient(parentBroker{parent}, ClientConfig{MaxPayload: math.MaxInt}), // the parent checks
		logger:  slog.New(parent.Handler()),
	}
	defer task.spec.surround()()
	result, err := protect(ctx, task, run.Payload)
	return respond(ctx, result, err)
}

// surround gives the child process the environment and the memory limit that
// the task asks for, and returns how to take them back: a child executes one
// run at a time, and the next may be of another task.
func (s *Spec) surround() (restore func()) {
	var undo []func()
	if s.Memory > 0 {
		// Below the cap, so that the collector works harder before the parent
		// kills; and what earlier runs left behind is not this one's.
		before := debug.SetMemoryLimit(s.Memory / 10 * 9)
		debug.FreeOSMemory()
		undo = append(undo, func() { debug.SetMemoryLimit(before) })
	}
	for _, pair := range s.Env {
		key, value, _ := strings.Cut(pair, "=")
		before, had := os.LookupEnv(key)
		_ = os.Setenv(key, value) // the generator refuses names that fail
		undo = append(undo, func() {
			if had {
				_ = os.Setenv(key, before)
			} else {
				_ = os.Unsetenv(key)
			}
		})
	}
	return func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
	}
}

// protect makes a panic or Goexit of the task its error. It uses a goroutine
// of its own because a Goexit ends the one it is called on.
func protect(ctx context.Context, task *Task, payload []byte) (result []byte, err error) {
	done := make(chan struct{})
	err = errGoexit
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				err = &panicError{v, debug.Stack()}
			}
		}()
		result, err = task.run(ctx, payload)
	}()
	<-done
	return result, err
}

func respond(ctx context.Context, result []byte, err error) *subprocess.Response {
	if err == nil {
		return &subprocess.Response{Result: result}
	}
	failure := failureOf(ctx, err)
	permanent, after := verdict(err)
	return &subprocess.Response{Failure: &failure, Permanent: permanent, RetryAfter: after}
}
