// Package tasks has the tasks that this module's tests queue and run: one for each
// way in which a run can end.
package tasks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	taskrt "github.com/taskgen/taskgen/runtime"
)

// Answer is a result with some structure.
type Answer struct {
	Text  string
	Parts []string `msgpack:"parts"`
	At    time.Time
	PID   int
}

// Echo returns its parameters.
//
//task:io
//task:tags demo
func Echo(ctx context.Context, text string, times int) (Answer, error) {
	parts := strings.Split(strings.Repeat(text+" ", times), " ")
	return Answer{Text: text, Parts: parts[:times], At: time.Now(), PID: os.Getpid()}, nil
}

// Record records its run.
//
//task:io
//task:retry 3 backoff=1s..10s
//task:timeout 5s
func (r *Recorder) Record(ctx context.Context, note string) error {
	return r.record(ctx, note)
}

// Mail is Record on another queue, before other runs.
//
//task:io
//task:queue mail
//task:priority high
func (r *Recorder) Mail(ctx context.Context, to string) error { return r.record(ctx, to) }

// Tick is Record every second; late ticks run too.
//
//task:io
//task:every 1s
//task:missed all
func (r *Recorder) Tick(ctx context.Context) error { return r.record(ctx, "tick") }

// Hourly is Record every hour, and when a scheduler starts.
//
//task:io
//task:every 1h start
func (r *Recorder) Hourly(ctx context.Context) error { return r.record(ctx, "hourly") }

// Expiring is Record unless it waits for too long.
//
//task:io
//task:expire 10s
//task:result 1h
func (r *Recorder) Expiring(ctx context.Context, note string) error { return r.record(ctx, note) }

// Square squares a number in a child process.
//
//task:cpu
//task:timeout 20s
//task:result 1h params
//task:trace child
func Square(ctx context.Context, n int64) (int64, error) { return n * n, nil }

// Where returns the id of the process that runs it.
//
//task:cpu
func Where(ctx context.Context) (int, error) { return os.Getpid(), nil }

// Misbehave does as asked in a child process: it returns an error, panics, exits, or
// spins beyond its timeout.
//
//task:cpu
//task:retry 1 backoff=1ms..2ms
//task:timeout 500ms
//task:result 1h
func Misbehave(ctx context.Context, how string) error {
	switch how {
	case "error":
		return errors.New("told to fail")
	case "permanent":
		return taskrt.Permanent(errors.New("told to fail for good"))
	case "snooze":
		if _, err := QueueRecorderRecord(ctx, "snoozed", taskrt.ID("snoozed"), taskrt.Delay(time.Hour)); err != nil {
			return nil // it was put off before
		}
		return taskrt.Snooze(time.Millisecond)
	case "panic":
		panic("told to panic")
	case "broken":
		return (*BrokenError)(nil)
	case "goexit":
		runtime.Goexit()
	case "exit":
		fmt.Fprintln(os.Stderr, "last words")
		os.Exit(3)
	case "spin":
		for {
			_ = how
		}
	}
	return fmt.Errorf("no such way to misbehave: %s", how)
}

// BrokenError panics in Error if it is nil.
type BrokenError struct{ text string }

func (e *BrokenError) Error() string { return e.text }

// Relay queues Echo from a child process and waits for its result there.
//
//task:cpu
func Relay(ctx context.Context, text string) (Answer, error) {
	handle, err := QueueEcho(ctx, text, 2)
	if err != nil {
		return Answer{}, err
	}
	return handle.Wait(ctx)
}

// Descend queues Record and reports its own parent and root. It accepts a run that is
// not replicated yet.
//
//task:cpu
func Descend(ctx context.Context) (string, error) {
	run, _ := taskrt.CurrentRun(ctx)
	taskrt.Logger(ctx).Info("descending")
	fmt.Println("on standard output")
	handle, err := QueueRecorderRecord(ctx, "descended from "+run.ID)
	if err != nil && !errors.Is(err, taskrt.ErrNotReplicated) {
		return "", err
	}
	return handle.ID, nil
}

// Grab takes a number of MiB of memory and holds them until it is stopped.
//
//task:cpu
//task:memory 96MiB
//task:retry 0
//task:timeout 20s
//task:result 1h
func Grab(ctx context.Context, size int) error {
	held := make([]byte, size<<20)
	for i := 0; i < len(held); i += 4096 {
		held[i] = 1
	}
	if size > 96 {
		<-ctx.Done()
	}
	runtime.KeepAlive(held)
	return ctx.Err()
}

// Greeting returns a variable of its environment.
//
//task:cpu
//task:env TESTAPP_GREETING=hello
func Greeting(ctx context.Context) (string, error) { return os.Getenv("TESTAPP_GREETING"), nil }

// Ungreeted returns the same without that variable.
//
//task:cpu
func Ungreeted(ctx context.Context) (string, error) { return os.Getenv("TESTAPP_GREETING"), nil }

// Login has a secret parameter.
//
//task:io
//task:secret pin
func Login(ctx context.Context, user string, pin int) error { return nil }

// Linger reports progress until it is stopped.
//
//task:io
//task:result 1h
func Linger(ctx context.Context, note string) error {
	taskrt.Progress(ctx, 1, 4, note)
	<-ctx.Done()
	return ctx.Err()
}

// Brood is Linger in a child process.
//
//task:cpu
//task:result 1h
func Brood(ctx context.Context, note string) error { return Linger(ctx, note) }

// Plan schedules Record every second from now on, or unschedules it if the note is
// empty, and returns the ids of all schedules.
//
//task:cpu
func Plan(ctx context.Context, id, note string) ([]string, error) {
	if note == "" {
		if err := taskrt.Unschedule(ctx, "", id); err != nil {
			return nil, taskrt.Permanent(err)
		}
	} else if _, err := taskrt.Schedule(ctx, "@every 1s", "", CallRecorderRecord(note), taskrt.ID(id)); err != nil {
		return nil, err
	}
	list, err := taskrt.Schedules(ctx)
	ids := []string{}
	for _, s := range list {
		ids = append(ids, s.ID+" "+s.Spec)
	}
	return ids, err
}
