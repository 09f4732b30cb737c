package subprocess

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"
)

// executable names the running binary, also after its file was replaced.
func executable() (string, error) { return "/proc/self/exe", nil }

// processAttributes gives the child a process group of its own, and has the
// kernel kill it when the thread that starts it ends.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// awaitExit blocks until the process has ended, and leaves it to be waited
// for: until then its id is nobody else's, so its group can be killed.
func awaitExit(pid int, _ <-chan struct{}) {
	const (
		pPID    = 1
		wExited = 0x4
		wNoWait = 0x1000000
	)
	var info [128]byte // a siginfo_t, which nobody reads
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(pid),
			uintptr(unsafe.Pointer(&info)), wExited|wNoWait, 0, 0)
		if errno != syscall.EINTR {
			return // another error means that somebody else has waited for it
		}
	}
}

// settle is what a child does before its hello. The parent-death signal of its
// start would kill it before it could take its own children along; from here
// on it does that itself at the end of descriptor 3, and the signal only has
// to wake it if it is stopped. The setting is the main thread's own: on
// another thread it stays as it was, and then only the child dies.
func settle() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if syscall.Gettid() == os.Getpid() {
		const prSetPdeathsig = 1
		_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetPdeathsig, uintptr(syscall.SIGCONT), 0)
	}
	// It was started as /proc/self/exe, and ps would call it exe. A name is
	// no reason to end.
	_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0)
}
