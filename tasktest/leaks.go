package tasktest

import (
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
)

// AllowLeaks has goroutines outlive the test that has the kit.
func AllowLeaks() Option { return func(k *Kit) { k.allowLeaks = true } }

// leakLabel is the profiler label of goroutines that began with a kit. Goroutines inherit
// labels, so tests that run at one time are not blamed for each other's.
const leakLabel = "tasktest"

// leakPatience is how long goroutines may take to end after the test.
const leakPatience = time.Second

// label labels the goroutine of the test, and with it those that it or a task starts from now
// on. In a bubble testing/synctest fails a test whose goroutines do not end.
func (k *Kit) label() {
	k.ctx = pprof.WithLabels(k.ctx, pprof.Labels(leakLabel, k.leakID()))
	pprof.SetGoroutineLabels(k.ctx)
}

func (k *Kit) leakID() string { return fmt.Sprintf("%p", k) }

// findLeaks fails the test if goroutines that began with the kit go on.
func (k *Kit) findLeaks(t testing.TB) {
	t.Helper()
	pprof.SetGoroutineLabels(context.Background()) // the test itself goes on
	var left []string
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		var err error
		if left, err = k.labelled(); err != nil {
			t.Errorf("tasktest: look for goroutines that go on: %v", err)
			return
		}
		if len(left) == 0 {
			return
		}
		if time.Since(began) > leakPatience {
			break
		}
	}
	t.Errorf("tasktest: goroutines go on after the test; wait for them, or give New the option tasktest.AllowLeaks():\n%s", strings.Join(left, "\n\n"))
}

// labelled returns the stacks of the goroutines with the kit's label. Idle connections of
// package http are no leaks: the transport keeps them for others.
func (k *Kit) labelled() (stacks []string, err error) {
	var text strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&text, 1); err != nil {
		return nil, err
	}
	label := fmt.Sprintf("%q:%q", leakLabel, k.leakID())
	for stack := range strings.SplitSeq(text.String(), "\n\n") {
		if strings.Contains(stack, label) && !strings.Contains(stack, "net/http.(*persistConn)") {
			stacks = append(stacks, strings.TrimSpace(stack))
		}
	}
	return stacks, nil
}
