package subprocess

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

// cgroups makes control groups (v2) in a directory that was delegated to this
// process. Nil is that there is none: its methods and those of a nil cgroup do
// nothing.
type cgroups struct {
	dir  string
	last atomic.Int64
}

// openCgroups takes the directory given, which must be fit for it, or with ""
// the parent of this process's own group if that is. A group that processes are
// in cannot have groups under it that limit memory; so the usual layout is one
// with this process in a group of its own beside the children's.
func openCgroups(dir string) (*cgroups, error) {
	if dir != "" {
		if err := checkCgroup(dir); err != nil {
			return nil, fmt.Errorf("field Cgroup: %w", err)
		}
		return &cgroups{dir: dir}, nil
	}
	own := ownCgroup()
	if own == "" || checkCgroup(filepath.Dir(own)) != nil {
		return nil, nil
	}
	return &cgroups{dir: filepath.Dir(own)}, nil
}

func checkCgroup(dir string) error {
	enabled, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return fmt.Errorf("look at control group: %w", err)
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

// ownCgroup is the directory of this process's group, empty if it is in none
// or in the topmost that it can see.
func ownCgroup() string {
	const mount = "/sys/fs/cgroup" // where everything that manages groups has it
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

// cgroup is one child's group.
type cgroup struct {
	dir *os.File
	cap int64
}

// add makes a group.
func (g *cgroups) add() (*cgroup, error) {
	if g == nil {
		return nil, nil
	}
	path := filepath.Join(g.dir, fmt.Sprintf("taskgen-%d-%d", os.Getpid(), g.last.Add(1)))
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, fmt.Errorf("make control group: %w", err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open control group: %w", err), os.Remove(path))
	}
	c := &cgroup{dir: dir}
	_ = c.write("memory.oom.group", "1") // all or none of a child's processes; kernels before 4.19 choose
	return c, nil
}

// put has a process start in the group.
func (c *cgroup) put(attr *syscall.SysProcAttr) {
	if c != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(c.dir.Fd())
	}
}

// limit caps the memory of all in the group, swap not added; 0 is no cap. There
// is room for what the kernel counts besides, such as files that were read, and
// for the watch to come first: it can tell more.
func (c *cgroup) limit(limit int64) error {
	if c == nil || c.cap == limit {
		return nil
	}
	text := "max"
	if limit > 0 {
		text = strconv.FormatInt(limit+limit/4+16<<20, 10)
	}
	if err := c.write("memory.max", text); err != nil {
		return err
	}
	_ = c.write("memory.swap.max", "0") // not there without swap accounting
	c.cap = limit
	return nil
}

// oomKilled reports whether the kernel has killed in the group.
func (c *cgroup) oomKilled() bool {
	if c == nil {
		return false
	}
	return procNumber(filepath.Join(c.dir.Name(), "memory.events"), "oom_kill ") > 0
}

// kill kills all in the group, wherever they moved themselves in the tree of
// processes.
func (c *cgroup) kill() {
	if c != nil {
		_ = c.write("cgroup.kill", "1") // Linux 5.14; before that the tree of processes is all there is
	}
}

// remove removes the group once it is empty, which takes a moment after kill.
func (c *cgroup) remove() {
	if c == nil {
		return
	}
	for end := time.Now().Add(exitDelay); !c.empty() && time.Now().Before(end); {
		pause()
	}
	_ = os.Remove(c.dir.Name()) // what is not empty stays and can be looked at
	_ = c.dir.Close()
}

func (c *cgroup) empty() bool {
	b, err := os.ReadFile(filepath.Join(c.dir.Name(), "cgroup.procs"))
	return err != nil || len(bytes.TrimSpace(b)) == 0
}

// write writes to one of the files that the kernel has made.
func (c *cgroup) write(name, text string) error {
	f, err := os.OpenFile(filepath.Join(c.dir.Name(), name), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return fmt.Errorf("write to control group: %w", err)
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
