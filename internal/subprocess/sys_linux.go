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

// executable returns a path of the running binary that holds even if its file was
// replaced.
func executable() (string, error) {
	const self = "/proc/self/exe"
	if _, err := os.Lstat(self); err != nil {
		return os.Executable() // no /proc
	}
	return self, nil
}

// processAttributes gives the child its own process group. The kernel kills the child
// when the thread that started it ends.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// prepareChild prepares a child's process before its hello.
//
// Processes below the child stay in its tree even if they leave its process group and
// lose their parent, so that they can be found and killed.
func prepareChild() {
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0)
	// Descriptors that were opened without close-on-exec are not inherited further.
	// Kernels before 5.11 refuse this.
	_, _, _ = syscall.RawSyscall(sysCloseRange, 3, math.MaxUint32, closeRangeCloexec)
	// Restore the program's name: the child was started as /proc/self/exe, and ps
	// would show exe. A failure does not matter.
	_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0)
}

// outliveParent weakens the parent-death signal of a child; it is called on the first
// thread. The SIGKILL that was set at the start would leave the child no time to kill
// its own children. From here on the child does that at the end of descriptor 3, and
// the signal only continues it if it is stopped. The setting belongs to the first
// thread. Called on another thread, it changes all threads, which fails in a binary
// with cgo.
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

// limitData limits the writable address space of this process. Undo restores the
// limit.
func limitData(size int64) (undo func()) {
	const rlimitData = syscall.RLIMIT_DATA
	var old syscall.Rlimit
	if syscall.Getrlimit(rlimitData, &old) != nil || uint64(size) >= old.Cur {
		return func() {}
	}
	if syscall.Setrlimit(rlimitData, &syscall.Rlimit{Cur: uint64(size), Max: old.Max}) != nil {
		return func() {} // the memory watch remains
	}
	return func() { _ = syscall.Setrlimit(rlimitData, &old) } // up to the hard limit
}

// isStopped reports whether a child of this process is stopped by a signal.
func isStopped(pid int) bool {
	var info [32]int32 // a siginfo_t
	_, _, errno := syscall.RawSyscall6(syscall.SYS_WAITID, waitForPID, uintptr(pid), uintptr(unsafe.Pointer(&info)),
		syscall.WSTOPPED|syscall.WNOWAIT|syscall.WNOHANG, 0, 0)
	return errno == 0 && info[0] == int32(syscall.SIGCHLD) // si_signo; 0 if it is not
}

func setOOMScore(score int) error {
	return os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(score)), 0)
}

// descendants returns all processes below one, its children first.
func descendants(pid int) []int {
	var all []int
	for todo := []int{pid}; len(todo) > 0; todo = todo[1:] {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", todo[0]))
		for _, file := range tasks {
			b, err := os.ReadFile(file)
			if err != nil {
				continue // the process has just ended
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

// rlimitLocks is RLIMIT_LOCKS, which Linux has kept but not enforced since 2.4.25.
const rlimitLocks = 10

// setTag tags this process, and so all that it starts, if the limit can be set.
func setTag(tag uint64) {
	var old syscall.Rlimit
	if tag > 0 && syscall.Getrlimit(rlimitLocks, &old) == nil && tag < old.Max {
		_ = syscall.Setrlimit(rlimitLocks, &syscall.Rlimit{Cur: tag, Max: old.Max})
	}
}

// hasTag reports whether a process has the tag. It is false for processes of other
// users.
func hasTag(pid int, tag uint64) bool {
	var limit syscall.Rlimit
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), rlimitLocks, 0, uintptr(unsafe.Pointer(&limit)), 0, 0)
	return errno == 0 && limit.Cur == tag
}

// killTagged kills the processes that have the tag and returns them. It repeats,
// because a process may have started another before it was killed.
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

// processes returns all processes.
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

// killTree kills a process that leads its process group, the group, and everything
// below the process, which it returns. The process must not have been waited for.
func killTree(pid int) []int {
	_ = syscall.Kill(-pid, syscall.SIGSTOP) // so that they start no more processes
	below := killDescendants(pid)
	killGroup(pid)
	return below
}

// killDescendants kills everything below a process and returns it. It repeats,
// because a process may have started another before it was killed.
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
