//go:build linux || darwin

package subprocess

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"github.com/taskgen/taskgen/internal/subprocess/orphan"
)

var errAgain error = syscall.EAGAIN

// killedSignal is SIGKILL in the words of [ExitError].
var killedSignal = syscall.SIGKILL.String()

// readNow reads from a non-blocking descriptor. It returns errAgain if nothing is
// there, and 0 without an error at the end.
func readNow(fd uintptr, b []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), b)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// waitForPID is P_PID of waitid(2).
const waitForPID = 1

// awaitExit blocks until the process has ended, but does not wait for it: until then
// its pid is not reused, so its group can be killed.
func awaitExit(pid int) {
	var info [128]byte // a siginfo_t, unread
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, waitForPID, uintptr(pid),
			uintptr(unsafe.Pointer(&info)), syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		if errno != syscall.EINTR {
			return // any other error means that it was waited for already
		}
	}
}

// killGroup kills the process and its whole group. The process must not have been
// waited for. An error would mean that all are gone.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

// askForStacks sends the signal that [server.sendStacks] answers.
func askForStacks(pid int) { _ = syscall.Kill(pid, syscall.SIGQUIT) }

// reap waits for the members of a killed group whose leader is gone, and for others
// that the leader had started, if they have become children of this process. It
// leaves other children alone, which the application waits for.
func reap(group int, others []int) {
	end := time.Now().Add(exitDelay)
	for _, pid := range append([]int{-group}, others...) {
		for waiting := true; waiting; {
			got, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
			switch {
			case err == syscall.EINTR:
			case err == nil && got > 0:
				waiting = pid < 0 // the group may have more
			case time.Now().Before(end) && (err == nil || willBeAdopted(pid)):
				pause() // killed, but not dead yet
			default:
				waiting = false
			}
		}
	}
}

// willBeAdopted reports whether a killed process, not a child of this one, will
// become one when its own parent ends.
func willBeAdopted(pid int) bool {
	return pid > 0 && orphan.Adopts() && syscall.Kill(pid, 0) == nil
}

// pause gives the system a moment to finish a kill.
func pause() {
	timer := time.NewTimer(2 * time.Millisecond)
	defer timer.Stop()
	<-timer.C
}

// killOwnTree kills this process and everything that it started. It returns only if
// this process does not lead its process group, which then belongs to others.
func killOwnTree() {
	killDescendants(os.Getpid())
	if syscall.Getpgrp() == os.Getpid() {
		_ = syscall.Kill(0, syscall.SIGKILL)
	}
}

func signalOf(state *os.ProcessState) string {
	if s, ok := state.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return s.Signal().String()
	}
	return ""
}

// peakOf returns the peak memory of an ended process in bytes. On Linux it includes
// that of its parent before the start.
func peakOf(state *os.ProcessState) int64 {
	usage, ok := state.SysUsage().(*syscall.Rusage)
	switch {
	case !ok:
		return 0
	case runtime.GOOS == "darwin":
		return int64(usage.Maxrss) // 32 bits on some
	}
	return int64(usage.Maxrss) << 10
}

// noCore disables core dumps, which would write the task's data to disk.
func noCore() error { return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }

// addNice adds to the nice value of all threads. This process leads a group in which
// it is still alone.
func addNice(n int) error { return syscall.Setpriority(syscall.PRIO_PGRP, 0, n) }

// inherited marks the pipes at 3 and 4 close-on-exec, so that processes started from
// here do not inherit them. It reports whether both are pipes.
func inherited() bool {
	for _, fd := range []int{3, 4} {
		var st syscall.Stat_t
		if err := syscall.Fstat(fd, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFIFO {
			return false
		}
	}
	syscall.CloseOnExec(3)
	syscall.CloseOnExec(4)
	return true
}

// withoutCloseOnExec returns the descriptors above 4 that processes started from here
// would inherit.
func withoutCloseOnExec() []int {
	dir, err := os.Open("/dev/fd")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // what could be read
	var open []int
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd <= 4 {
			continue
		}
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
		if errno == 0 && flags&syscall.FD_CLOEXEC == 0 {
			open = append(open, fd)
		}
	}
	return open
}

func closeDescriptor(fd int) { _ = syscall.Close(fd) } // it was only inherited

// pipe is an inherited pipe whose reads and writes block a thread. That is faster
// than the netpoller, and a child has nothing else to wait for.
type pipe int

func openInherited(fd int) (io.ReadWriter, error) {
	if err := syscall.SetNonblock(fd, false); err != nil {
		return nil, fmt.Errorf("open descriptor %d: %w", fd, err)
	}
	return pipe(fd), nil
}

func (p pipe) Read(b []byte) (int, error) {
	n, err := readNow(uintptr(p), b)
	if n == 0 && err == nil && len(b) > 0 {
		err = io.EOF
	}
	return n, err
}

func (p pipe) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		n, err := syscall.Write(int(p), b[written:])
		if n > 0 {
			written += n
		}
		if err != nil && err != syscall.EINTR {
			return written, fmt.Errorf("write to descriptor %d: %w", int(p), err)
		}
	}
	return written, nil
}

// holdSignals catches and drops the signals that would end a child: service managers
// send them to all processes, but a child ends when its parent asks so or is gone.
// SIGPIPE is dropped so that a child whose parent is gone lives to kill its own
// children. The signals are not ignored, because processes that the child starts
// would inherit that. The parent's SIGQUIT arrives on asked. Release undoes all of
// it.
func holdSignals() (asked <-chan os.Signal, release func()) {
	dropped, quit := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(dropped, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	signal.Notify(quit, syscall.SIGQUIT)
	return quit, func() {
		signal.Stop(dropped)
		signal.Stop(quit)
		close(quit)
	}
}
