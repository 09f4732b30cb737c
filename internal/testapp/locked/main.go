//go:build linux

// Command locked is a program whose main thread is locked, as in programs with a window. It
// runs two tasks in child processes, in which another goroutine serves. Each task starts a
// process in its group and another outside the group, and goes on until it is stopped. The
// program prints the ids of a child and of what it started as one line.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/subprocess"
)

const processes = 2

func init() { runtime.LockOSThread() }

func main() {
	if subprocess.InChild() {
		ended := make(chan error)
		go func() {
			ended <- subprocess.Serve(context.Background(), nil, handle)
		}()
		exit(<-ended)
	}
	exit(runTasks())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runTasks runs a task in each child of a pool.
func runTasks() error {
	var mu sync.Mutex
	pool, err := subprocess.NewPool(subprocess.Config{
		Processes: processes,
		Call: func(_ context.Context, _ *broker.TaskRun, _ string, body []byte) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Printf("%s\n", body)
			return nil, nil
		},
	})
	if err != nil {
		return err
	}
	var runs sync.WaitGroup
	for i := range processes {
		runs.Go(func() {
			run := &broker.TaskRun{ID: fmt.Sprint(i), Task: "family", Queue: "default", Kind: broker.CPU}
			_, _ = pool.Run(context.Background(), &subprocess.Request{Run: run}) // until the program is killed
		})
	}
	runs.Wait()
	return pool.Close(context.Background())
}

func handle(ctx context.Context, _ *broker.TaskRun, parent *subprocess.Parent) *subprocess.Response {
	if err := family(ctx, parent); err != nil {
		return &subprocess.Response{Failure: &broker.Failure{Message: err.Error()}}
	}
	return &subprocess.Response{}
}

// family starts the processes of a task and reports them.
func family(ctx context.Context, parent *subprocess.Parent) error {
	near, away := exec.Command("sleep", "300"), exec.Command("sleep", "300")
	near.Stdout, near.Stderr = os.Stdout, os.Stderr // holds the descriptors
	away.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	for _, cmd := range []*exec.Cmd{near, away} {
		if err := cmd.Start(); err != nil {
			return err
		}
	}
	ids := fmt.Sprintf("%d %d %d", os.Getpid(), near.Process.Pid, away.Process.Pid)
	if _, err := parent.Call(ctx, "tell", []byte(ids)); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
