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

// killedSignal is how [ExitError] names SIGKILL.
var killedSignal = syscall.SIGKILL.String()

// readNow reads from a non-blocking descriptor; errAgain is that nothing is
// there, and no bytes without an error its end.
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

// awaitExit blocks until the process has ended, and leaves it to be waited
// for: until then its id is nobody else's, so its group can be killed.
func awaitExit(pid int) {
	var info [128]byte // a siginfo_t, which nobody reads
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, waitForPID, uintptr(pid),
			uintptr(unsafe.Pointer(&info)), syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		if errno != syscall.EINTR {
			return // another error means that somebody else has waited for it
		}
	}
}

// killGroup kills the process and all of its group. The caller has not waited
// for it yet. The error would be that all are gone.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

// askForStacks sends the signal that [server.sendStacks] answers.
func askForStacks(pid int) { _ = syscall.Kill(pid, syscall.SIGQUIT) }

// reap waits for the members of a killed group whose leader is gone and for
// others that it had started, if they have become this process's own children: it
// is then the first of its system, or a subreaper, and nobody else will. Other
// children are not its to wait for: some code in the application does.
func reap(group int, others []int) {
	end := time.Now().Add(exitDelay)
	for _, pid := range append([]int{-group}, others...) {
		for waiting := true; waiting; {
			got, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
			switch {
			case err == syscall.EINTR:
			case err == nil && got > 0:
				waiting = pid < 0 // there may be more of the group
			case time.Now().Before(end) && (err == nil || willBeAdopted(pid)):
				pause() // killed, and not dead yet
			default:
				waiting = false
			}
		}
	}
}

// comesHere reports whether a killed process that is not this one's child will
// be: its own parent is still about to end.
func willBeAdopted(pid int) bool {
	return pid > 0 && orphan.Adopts() && syscall.Kill(pid, 0) == nil
}

// pause waits a moment for the system to have done what it was told.
func pause() {
	timer := time.NewTimer(2 * time.Millisecond)
	defer timer.Stop()
	<-timer.C
}

// killOwnTree ends this process and what it started. It returns only when
// this process does not lead its group, which then is not its to kill.
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

// peakOf is the most bytes of memory that an ended process had, and on Linux
// its parent before it was started.
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

// noCore keeps a crash from writing the task's data to disk.
func noCore() error { return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }

// addNice adds to the nice value of all threads: this process leads a group in
// which nobody else is yet.
func addNice(n int) error { return syscall.Setpriority(syscall.PRIO_PGRP, 0, n) }

// inherited takes the pipes at 3 and 4 from what was inherited, so that
// processes started from here do not get them. It reports whether both are
// pipes.
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

// withoutCloseOnExec are the descriptors above 4 that a process which is started
// from here gets.
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

// pipe is an inherited pipe whose reads and writes hold a thread: a child has
// nothing else to wait for, and this is faster than to be told by the poller.
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

// holdSignals keeps the signals that would end a child from doing so: service
// managers send them to a whole family, and a child ends when its parent says
// so or is gone; and one that prints to a parent that is gone must live to take
// its own children along. They are caught and dropped, not ignored, for
// processes that the child starts would inherit that. What arrives on asked is
// the parent's word; release ends it all.
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
