// Package app is an application that end-to-end tests start as processes.
package app

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
	"github.com/taskgen/taskgen/runtime/taskapp"
)

// Environment variables that tests set.
const (
	LedgerEnv = "TESTAPP_LEDGER" // file to which each run appends its start and end
	HoldEnv   = "TESTAPP_HOLD"   // how long a run lasts
)

// Main runs the application and exits.
func Main() {
	taskapp.Main(tasks.Tasks(&tasks.Recorder{Do: appendLedger}))
}

// appendLedger writes "START note id delivery pid" and "END note id delivery pid",
// each in one write, so that lines of several processes do not mix.
//
// Some notes change that: goexit and panic do so instead. After the start, die kills
// the process at a time when the earlier runs are likely recorded, and die:3s after 3
// seconds. A note that begins with burn uses a processor meanwhile.
func appendLedger(ctx context.Context, run *taskrt.Run, note string) error {
	switch note {
	case "goexit":
		runtime.Goexit()
	case "panic":
		panic("told to panic")
	}
	path := os.Getenv(LedgerEnv)
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprintf(f, "START %s %s %d %d\n", note, run.ID, run.Delivery, os.Getpid())
	if how, after, _ := strings.Cut(note, ":"); how == "die" {
		d, err := time.ParseDuration(after)
		if err != nil {
			d = 10 * time.Millisecond
		}
		time.Sleep(d)
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			return err
		}
		return self.Kill()
	}
	hold(ctx, strings.HasPrefix(note, "burn"))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	_, err = fmt.Fprintf(f, "END %s %s %d %d\n", note, run.ID, run.Delivery, os.Getpid())
	return err
}

// hold takes as long as the environment says, or until ctx ends, and may use a
// processor all the time.
func hold(ctx context.Context, burn bool) {
	d, err := time.ParseDuration(os.Getenv(HoldEnv))
	if err != nil {
		return
	}
	for end := time.Now().Add(d); burn && time.Now().Before(end) && ctx.Err() == nil; {
		for range 1_000_000 {
			runtime.KeepAlive(ctx)
		}
	}
	if burn {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
