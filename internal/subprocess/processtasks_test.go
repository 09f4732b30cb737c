//go:build linux

package subprocess_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/taskgen/taskgen/internal/subprocess"
)

// family starts a process in its group and, unless it must crash, one outside the
// group. It reports their ids and runs the named task.
func family(ctx context.Context, p string, parent *subprocess.Parent) (string, error) {
	cmd := exec.Command("sleep", "300")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr // holds the descriptors
	if err := cmd.Start(); err != nil {
		return "", err
	}
	away := exec.Command("sleep", "300")
	away.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // leaves the process group
	if p != "crash" {
		if err := away.Start(); err != nil {
			return "", err
		}
		tell(ctx, parent, "%d %d %d", os.Getpid(), cmd.Process.Pid, away.Process.Pid)
	} else {
		tell(ctx, parent, "%d %d", os.Getpid(), cmd.Process.Pid)
	}
	if p == "spin" {
		return spin(ctx, "", parent)
	}
	if p == "crash" {
		os.Exit(4)
	}
	<-ctx.Done()
	return "", nil
}

// daemon makes a shell leave a process outside the group, the session and the
// environment, reports its id, and ends in the given way.
func daemon(ctx context.Context, p string, parent *subprocess.Parent) (string, error) {
	out, err := exec.Command("sh", "-c", "env -i setsid sleep 300 >/dev/null 2>&1 & echo $!").Output()
	if err != nil {
		return "", err
	}
	left := number(strings.TrimSpace(string(out)))
	for group := 0; group != left; { // until it has left the group
		if group, err = syscall.Getpgid(left); err != nil {
			return "", err
		}
	}
	tell(ctx, parent, "%d", left)
	switch p {
	case "exit":
		os.Exit(3)
	case "panic":
		return panicElsewhere(ctx, "", parent)
	case "kill":
		return signalSelf(ctx, "9", parent)
	case "spin":
		return spin(ctx, "", parent)
	}
	return "", nil
}

// orphans makes shells leave processes that end a little later.
func orphans(_ context.Context, p string, _ *subprocess.Parent) (string, error) {
	for range number(p) {
		if err := exec.Command("sh", "-c", "sleep 0.01 >/dev/null 2>&1 & true").Run(); err != nil {
			return "", err
		}
	}
	return "", nil
}

// zombies counts this process's children that have ended.
func zombies(context.Context, string, *subprocess.Parent) (string, error) {
	entries, err := os.ReadDir("/proc")
	n := 0
	for _, e := range entries {
		if state, parent := stat(number(e.Name())); state == 'Z' && parent == os.Getpid() {
			n++
		}
	}
	return strconv.Itoa(n), err
}

// waitLate starts processes in several ways and makes others leave orphans. It waits
// for each long after its end: the exit status must still be available.
func waitLate(ctx context.Context, p string, parent *subprocess.Parent) (string, error) {
	const code = 7
	var mu sync.Mutex
	var waits []func() (int, error)
	add := func(wait func() (int, error)) {
		mu.Lock()
		defer mu.Unlock()
		waits = append(waits, wait)
	}
	start := func() error {
		cmd := exec.Command("sh", "-c", "exit 7")
		if err := cmd.Start(); err != nil {
			return err
		}
		add(func() (int, error) { _ = cmd.Wait(); return cmd.ProcessState.ExitCode(), nil })
		return nil
	}
	fork := func() error {
		pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", "exit 7"}, nil)
		if err != nil {
			return err
		}
		add(func() (int, error) {
			var status syscall.WaitStatus
			_, err := syscall.Wait4(pid, &status, 0, nil)
			return status.ExitStatus(), err
		})
		return nil
	}
	thread := func() error { // whose thread ends with it
		failed := make(chan error)
		go func() {
			runtime.LockOSThread()
			failed <- start()
		}()
		return <-failed
	}
	n, how, _ := strings.Cut(p, " ")
	ways := []func() error{start, fork}
	if how == "threads" {
		ways = []func() error{start, thread}
	}
	for range number(n) {
		for _, f := range ways {
			if err := f(); err != nil {
				return "", err
			}
		}
		if _, err := orphans(ctx, "1", parent); err != nil {
			return "", err
		}
	}
	for late := time.Now().Add(time.Minute); ; {
		n, err := zombies(ctx, "", parent)
		if err != nil || time.Now().After(late) {
			return "", fmt.Errorf("%s zombies of which %d are waited for: %v", n, len(waits), err)
		}
		if number(n) == len(waits) {
			break // the orphans are gone
		}
	}
	for _, wait := range waits {
		if got, err := wait(); err != nil || got != code {
			return "", fmt.Errorf("exit status %d: %v", got, err)
		}
	}
	return strconv.Itoa(len(waits)), nil
}

// descriptors lists the open descriptors of this process.
func descriptors(context.Context, string, *subprocess.Parent) (string, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	var open []string
	for _, e := range entries {
		link, _ := os.Readlink("/proc/self/fd/" + e.Name()) // the one of ReadDir is gone
		open = append(open, e.Name()+"="+link)
	}
	return strings.Join(open, " "), err
}

// leave leaves a process running.
func leave(ctx context.Context, p string, _ *subprocess.Parent) (string, error) {
	cmd := exec.Command("sleep", "300")
	if p != "" { // out of reach, with the descriptors
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	}
	if p == "away with 4" {
		cmd.ExtraFiles = []*os.File{os.NewFile(4, "")}
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	return strconv.Itoa(cmd.Process.Pid), nil
}
