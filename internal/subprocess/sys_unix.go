//go:build unix

package subprocess

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

var errAgain error = syscall.EAGAIN

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

// killGroup kills the process and all of its group. The caller has not waited
// for it yet. The error would be that all are gone.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

// killOwnGroup ends this process and what it started. It returns only when
// this process does not lead its group, which then is not its to kill.
func killOwnGroup() {
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

// openInherited returns an inherited descriptor as a file whose reads and
// writes do not hold a thread.
func openInherited(fd int, name string) (*os.File, error) {
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("open descriptor %d: %w", fd, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// holdSignals keeps the signals that would end a child from doing so: service
// managers send them to a whole family, and a child ends when its parent says
// so or is gone. They are caught and dropped, not ignored, for processes that
// the child starts would inherit that.
func holdSignals() (stop func()) {
	dropped := make(chan os.Signal, 1)
	signal.Notify(dropped, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	return func() { signal.Stop(dropped) }
}
