package subprocess

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

const (
	prSetPdeathsig      = 1
	prSetChildSubreaper = 36

	sysCloseRange     = 436 // on every architecture
	closeRangeCloexec = 4

	hasOOMScore = true
)

// executable names the running binary, also after its file was replaced.
func executable() (string, error) {
	const self = "/proc/self/exe"
	if _, err := os.Lstat(self); err != nil {
		return os.Executable() // no /proc
	}
	return self, nil
}

// processAttributes gives the child a process group of its own, and has the
// kernel kill it when the thread that starts it ends.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// settle is what a child does before its hello.
//
// What the child starts stays below it in the tree of processes, even if it
// leaves the group and its own parent ends: so it can be found and killed.
func prepareChild() {
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0)
	// What was opened without close-on-exec goes no further. Kernels before 5.11
	// refuse it.
	_, _, _ = syscall.RawSyscall(sysCloseRange, 3, math.MaxUint32, closeRangeCloexec)
	// It was started as /proc/self/exe, and ps would call it exe. A name is
	// no reason to end.
	_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0)
}

// outliveParent is for the first thread of a child. The parent-death signal of its
// start would kill it before it could take its own children along; from here on it
// does that itself at the end of descriptor 3, and the signal only has to wake it
// if it is stopped. The setting is the first thread's own. On another thread it asks
// all of them, which a binary with cgo refuses.
func outliveParent() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if syscall.Gettid() == os.Getpid() {
		_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetPdeathsig, uintptr(syscall.SIGCONT), 0)
		return
	}
	_, _, _ = syscall.AllThreadsSyscall(syscall.SYS_PRCTL, prSetPdeathsig, uintptr(syscall.SIGCONT), 0)
}

func capabilities() []string {
	return []string{"process-group", "process-tree", "parent-death", "memory-watch", "rlimit-data", "gomemlimit", "nice", "oom-score"}
}

// limitData limits the address space that this process can write to, and
// returns how to take that back.
func limitData(size int64) (undo func()) {
	const rlimitData = syscall.RLIMIT_DATA
	var old syscall.Rlimit
	if syscall.Getrlimit(rlimitData, &old) != nil || uint64(size) >= old.Cur {
		return func() {}
	}
	if syscall.Setrlimit(rlimitData, &syscall.Rlimit{Cur: uint64(size), Max: old.Max}) != nil {
		return func() {} // the watch remains
	}
	return func() { _ = syscall.Setrlimit(rlimitData, &old) } // up to what it may
}

// isStopped reports whether a child of this process is stopped by a signal.
func isStopped(pid int) bool {
	var info [32]int32 // a siginfo_t
	_, _, errno := syscall.RawSyscall6(syscall.SYS_WAITID, waitForPID, uintptr(pid), uintptr(unsafe.Pointer(&info)),
		syscall.WSTOPPED|syscall.WNOWAIT|syscall.WNOHANG, 0, 0)
	return errno == 0 && info[0] == int32(syscall.SIGCHLD) // si_signo; 0 when it is not
}

func setOOMScore(score int) error {
	return os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(score)), 0)
}

// descendants returns the processes below one in the tree, those next to it
// first.
func descendants(pid int) []int {
	var all []int
	for todo := []int{pid}; len(todo) > 0; todo = todo[1:] {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", todo[0]))
		for _, file := range tasks {
			b, err := os.ReadFile(file)
			if err != nil {
				continue // it has just ended
			}
			for _, field := range strings.Fields(string(b)) {
				if n, err := strconv.Atoi(field); err == nil && !slices.Contains(all, n) {
					all, todo = append(all, n), append(todo, n)
				}
			}
		}
	}
	return all
}

// rlimitLocks is a limit that Linux has kept without a meaning since 2.4.25.
const rlimitLocks = 10

// setTag tags this process and what it will start, if it may.
func setTag(tag uint64) {
	var old syscall.Rlimit
	if tag > 0 && syscall.Getrlimit(rlimitLocks, &old) == nil && tag < old.Max {
		_ = syscall.Setrlimit(rlimitLocks, &syscall.Rlimit{Cur: tag, Max: old.Max})
	}
}

// hasTag reports whether a process has a tag. One of another user has none.
func hasTag(pid int, tag uint64) bool {
	var limit syscall.Rlimit
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), rlimitLocks, 0, uintptr(unsafe.Pointer(&limit)), 0, 0)
	return errno == 0 && limit.Cur == tag
}

// killTagged kills the processes that have a tag, and returns them. Each round can
// bring to light what a killed one has started meanwhile.
func killTagged(tag uint64) []int {
	var killed []int
	seen := make(map[int]bool)
	for range 16 {
		before := len(killed)
		for _, pid := range processes() {
			if !seen[pid] && hasTag(pid, tag) {
				seen[pid] = true
				killed = append(killed, pid)
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if len(killed) == before {
			break
		}
	}
	return killed
}

// processes are all that there are.
func processes() []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // what could be read
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// killTree kills a process that leads its group, the group, and what is below
// it in the tree, and returns the latter. The caller has not waited for the
// process yet.
func killTree(pid int) []int {
	_ = syscall.Kill(-pid, syscall.SIGSTOP) // so that no more are started
	below := killDescendants(pid)
	killGroup(pid)
	return below
}

// killDescendants kills what is below a process, and returns it. Each round can
// bring to light what a killed one has started meanwhile.
func killDescendants(pid int) []int {
	var killed []int
	for range 8 {
		found := false
		for _, d := range descendants(pid) {
			if !slices.Contains(killed, d) {
				killed, found = append(killed, d), true
				_ = syscall.Kill(d, syscall.SIGKILL)
			}
		}
		if !found {
			break
		}
	}
	return killed
}
