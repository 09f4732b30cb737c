// Package tasks is the work of the benchmark.
package tasks

import (
	"context"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	taskrt "github.com/taskgen/taskgen/runtime"
)

// Counter is the state of the tasks.
type Counter struct {
	Done    atomic.Int64
	Holding atomic.Int64       // number of started runs of Held
	Release chan struct{}      // closed to end them
	Started chan time.Time     // receives the time of each start unless nil
	Late    chan time.Duration // receives the lateness of each tick unless nil
}

// Noop only counts. It has all defaults.
//
//task:io
func (c *Counter) Noop(ctx context.Context, id [16]byte, n int) error {
	if c.Started != nil {
		c.Started <- time.Now()
	}
	c.Done.Add(1)
	return nil
}

// Tick records how late it is.
//
//task:io
//task:every 100ms
func (c *Counter) Tick(ctx context.Context) error {
	now := time.Now()
	if c.Late == nil {
		return nil
	}
	run, _ := taskrt.CurrentRun(ctx)
	_, due, _ := strings.Cut(run.ID, "@")
	at, err := time.Parse(time.RFC3339Nano, due)
	if err == nil {
		c.Late <- now.Sub(at)
	}
	return err
}

// Kept is Noop with its result kept for an hour.
//
//task:io
//task:result 1h
func (c *Counter) Kept(ctx context.Context, id [16]byte, n int) error {
	c.Done.Add(1)
	return nil
}

// Blob is Noop with larger parameters.
//
//task:io
func (c *Counter) Blob(ctx context.Context, data []byte) error {
	c.Done.Add(1)
	return nil
}

// Sleep takes the given time.
//
//task:io
func (c *Counter) Sleep(ctx context.Context, d time.Duration) error {
	time.Sleep(d)
	c.Done.Add(1)
	return nil
}

// Nothing does nothing, in a child process.
//
//task:cpu
func Nothing(ctx context.Context, id [16]byte, n int) error { return nil }

// Burn uses a processor for d, measured as CPU time of the process.
//
//task:cpu
func Burn(ctx context.Context, d time.Duration) error {
	return Use(syscall.RUSAGE_SELF, d)
}

// Use uses a processor for d, measured as CPU time of who, as in getrusage.
func Use(who int, d time.Duration) error {
	var from, now syscall.Rusage
	if err := syscall.Getrusage(who, &from); err != nil {
		return err
	}
	spent := func(r *syscall.Rusage) int64 { return r.Utime.Nano() + r.Stime.Nano() }
	for spent(&now)-spent(&from) < int64(d) {
		for range 1000 {
			runtime.KeepAlive(d)
		}
		if err := syscall.Getrusage(who, &now); err != nil {
			return err
		}
	}
	return nil
}

// Grab takes a number of bytes of memory, and holds them until it is stopped.
//
//task:cpu
//task:memory 64MiB
//task:retry 0
//task:result 1h
func Grab(ctx context.Context, size int) error {
	held := make([]byte, size)
	for i := 0; i < len(held); i += 4096 {
		held[i] = 1
	}
	<-ctx.Done()
	runtime.KeepAlive(held)
	return nil
}

// Held keeps its slot until it is released. At most two run at once.
//
//task:io
//task:concurrency 2
func (c *Counter) Held(ctx context.Context) error {
	c.Holding.Add(1)
	<-c.Release
	return nil
}
