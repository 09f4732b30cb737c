package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Root is a control group that was delegated to this process: it may make groups in
// it. Its methods may be called concurrently.
type Root struct {
	dir  string
	last atomic.Int64
}

// Open returns the control group at dir. With "" it returns the parent of this
// process's own group if that was delegated, and nil if not.
//
// A group that has processes of its own cannot limit the memory of groups in it. So
// the usual layout has this process in one group, and the children's beside it.
func Open(dir string) (*Root, error) {
	if dir != "" {
		if err := check(dir); err != nil {
			return nil, err
		}
		return &Root{dir: dir}, nil
	}
	own := ownGroup()
	if own == "" || check(filepath.Dir(own)) != nil {
		return nil, nil
	}
	return &Root{dir: filepath.Dir(own)}, nil
}

func check(dir string) error {
	enabled, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return fmt.Errorf("read control group: %w", err)
	}
	if !slices.Contains(strings.Fields(string(enabled)), "memory") {
		return fmt.Errorf("control group %s has no memory controller for groups in it", dir)
	}
	const mayWrite = 2
	if err := syscall.Access(dir, mayWrite); err != nil {
		return fmt.Errorf("make groups in control group %s: %w", dir, err)
	}
	return nil
}

// ownGroup returns the directory of this process's group, or "" if there is none or
// if it is the topmost that this process can see.
func ownGroup() string {
	const mount = "/sys/fs/cgroup" // where systemd and container runtimes mount it
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok && path != "/" && !strings.HasPrefix(path, "/..") {
			return filepath.Join(mount, path)
		}
	}
	return ""
}

// Group is the control group of one child.
type Group struct {
	dir *os.File
	cap int64
}

// Add makes a group. The caller removes it.
func (r *Root) Add() (*Group, error) {
	if r == nil {
		return nil, nil
	}
	path := filepath.Join(r.dir, fmt.Sprintf("taskgen-%d-%d", os.Getpid(), r.last.Add(1)))
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, fmt.Errorf("make control group: %w", err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open control group: %w", err), os.Remove(path))
	}
	g := &Group{dir: dir}
	_ = g.write("memory.oom.group", "1") // kill all of a child's processes or none; Linux 4.19
	return g, nil
}

// StartIn makes attr start a process in the group.
func (g *Group) StartIn(attr *syscall.SysProcAttr) {
	if g != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(g.dir.Fd())
	}
}

// Limit caps the memory of all processes in the group together; 0 is no cap. They get
// no swap.
//
// The kernel's cap is a quarter and 16 MiB above limit. The kernel counts more than
// processes do, such as cached files, and the pool's own watch, which can report more
// about the run, should act first.
func (g *Group) Limit(limit int64) error {
	if g == nil || g.cap == limit {
		return nil
	}
	text := "max"
	if limit > 0 {
		text = strconv.FormatInt(limit+limit/4+16<<20, 10)
	}
	if err := g.write("memory.max", text); err != nil {
		return err
	}
	_ = g.write("memory.swap.max", "0") // the file is missing without swap accounting
	g.cap = limit
	return nil
}

// OOMKilled reports whether the kernel has killed a process of the group because the
// group was out of memory.
func (g *Group) OOMKilled() bool {
	if g == nil {
		return false
	}
	events, err := os.ReadFile(filepath.Join(g.dir.Name(), "memory.events"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(events)) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
			return strings.TrimSpace(n) != "0"
		}
	}
	return false
}

// Kill kills all processes of the group, whatever their parents and process groups
// are now. Before Linux 5.14 it does nothing.
func (g *Group) Kill() {
	if g != nil {
		_ = g.write("cgroup.kill", "1")
	}
}

// removeWait is how long Remove waits until killed processes have left the group.
const removeWait = 500 * time.Millisecond

// Remove removes the group once it is empty. It blocks for at most half a second; a
// group that is not empty then stays, so that it can be inspected.
func (g *Group) Remove() {
	if g == nil {
		return
	}
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(removeWait); !g.empty() && time.Now().Before(end); {
		<-poll.C
	}
	_ = os.Remove(g.dir.Name())
	_ = g.dir.Close()
}

func (g *Group) empty() bool {
	b, err := os.ReadFile(filepath.Join(g.dir.Name(), "cgroup.procs"))
	return err != nil || len(bytes.TrimSpace(b)) == 0
}

// write writes to one of the files that the kernel has made.
func (g *Group) write(name, text string) error {
	f, err := os.OpenFile(filepath.Join(g.dir.Name(), name), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return fmt.Errorf("write to control group: %w", err)
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
