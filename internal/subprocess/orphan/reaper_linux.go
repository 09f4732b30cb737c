package orphan

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

const (
	prGetChildSubreaper = 37

	wNoThread = 0x20000000 // __WNOTHREAD: only children of the calling thread
	allIDs    = 0          // P_ALL
	oneID     = 1          // P_PID

	reapAge       = 2 * time.Second // also the interval of polling, in case the application resets SIGCHLD
	maxNewThreads = 4               // how many new threads are tried to get the first one
)

// Adopts reports whether this process adopts orphans: it is a subreaper, or the first
// process of its namespace.
func Adopts() bool {
	var set int32
	_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prGetChildSubreaper, uintptr(unsafe.Pointer(&set)), 0)
	return os.Getpid() == 1 || errno == 0 && set != 0
}

// Reaper waits for the processes that this one adopts, and never for a process that
// the application has started, which the application waits for.
//
// Two facts tell them apart. The kernel gives orphans to the first thread of a
// process, and a new process to the thread that starts it. The reaper keeps the first
// thread, so no other code runs there, and the children of that thread are orphans.
// The exceptions are left alone:
//
//   - children of threads that have ended, for which package os holds a pidfd;
//   - children that the first thread has when the reaper starts.
//
// The facts do not suffice if other code keeps the first thread, as os/signal does if
// it was used first. Nor do they once a thread has ended, because a process that was
// started without package os then looks like an orphan. In both cases a child must
// also have been dead, and not waited for, for reapAge.
type Reaper struct {
	signals chan os.Signal
	stop    chan struct{}
	done    chan struct{}
	first   bool              // it runs on the first thread
	threads map[string]bool   // last seen
	unsure  bool              // it is not on the first thread, or a thread has ended
	own     map[int]string    // children that were there first, and their start times
	dead    map[int]time.Time // if unsure: since when they are dead
}

// Start returns a running reaper. The caller ends it. Start calls begun once: on the
// first thread, or on the caller's if other code keeps the first. That code may be
// the caller.
func Start(begun func()) *Reaper {
	r := &Reaper{
		signals: make(chan os.Signal, 1),
		stop:    make(chan struct{}),
		done:    make(chan struct{}),
		own:     make(map[int]string),
		dead:    make(map[int]time.Time),
	}
	for _, pid := range firstChildren() {
		r.own[pid] = startTime(pid)
	}
	if !onFirstThread(r.loop, func() { r.first = true; begun() }) {
		begun()
		go r.loop() // until end
	}
	return r
}

// End stops the reaper and waits for it.
func (r *Reaper) End() {
	if r != nil {
		close(r.stop)
		<-r.done
	}
}

// loop reaps until End.
func (r *Reaper) loop() {
	defer close(r.done)
	signal.Notify(r.signals, syscall.SIGCHLD)
	defer signal.Stop(r.signals)
	r.unsure, r.threads = !r.first, threads()
	ticker := time.NewTicker(reapAge)
	defer ticker.Stop()
	for {
		r.reap()
		select {
		case <-r.stop:
			r.reap()
			return
		case <-r.signals:
		case <-ticker.C:
		}
	}
}

// reap waits for the orphans that have ended.
func (r *Reaper) reap() {
	for r.hasEnded(allIDs, 0) {
		waited := 0
		var pidfds map[int]bool
		for _, pid := range firstChildren() {
			if !r.hasEnded(oneID, pid) || r.own[pid] != "" && r.own[pid] == startTime(pid) {
				continue
			}
			if pidfds == nil {
				pidfds = withPidfd()
			}
			if pidfds[pid] || r.isUnsure() && !r.deadLongEnough(pid) {
				continue
			}
			if got, err := syscall.Wait4(pid, nil, syscall.WNOHANG|r.threadOnly(), nil); err == nil && got == pid {
				delete(r.dead, pid)
				waited++
			}
		}
		if waited == 0 {
			return // the others are not for the reaper
		}
	}
	clear(r.dead)
}

// isUnsure reports whether a child could be one that an ended thread has left.
func (r *Reaper) isUnsure() bool {
	if r.unsure {
		return true
	}
	now := threads()
	for id := range r.threads {
		r.unsure = r.unsure || !now[id]
	}
	r.threads = now
	return r.unsure
}

// threads returns the ids of this process's threads.
func threads() map[string]bool {
	ids := make(map[string]bool)
	entries, _ := os.ReadDir("/proc/self/task") // what could be read
	for _, e := range entries {
		ids[e.Name()] = true
	}
	return ids
}

// deadLongEnough reports whether a child has been dead for reapAge.
func (r *Reaper) deadLongEnough(pid int) bool {
	since, ok := r.dead[pid]
	if !ok {
		r.dead[pid] = time.Now()
	}
	return ok && time.Since(since) >= reapAge
}

// threadOnly returns the option that restricts waiting to the first thread's
// children.
func (r *Reaper) threadOnly() int {
	if r.first {
		return wNoThread
	}
	return 0
}

// hasEnded reports whether a child, or the given one, has ended and was not waited
// for. It does not wait for it.
func (r *Reaper) hasEnded(idType, pid int) bool {
	var info [32]int32 // a siginfo_t
	options := syscall.WEXITED | syscall.WNOWAIT | syscall.WNOHANG | r.threadOnly()
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, uintptr(idType), uintptr(pid), uintptr(unsafe.Pointer(&info)),
			uintptr(options), 0, 0)
		if errno != syscall.EINTR {
			return errno == 0 && info[0] == int32(syscall.SIGCHLD) // si_signo; 0 when there is none
		}
	}
}

// firstChildren returns the children of this process's first thread.
func firstChildren() []int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	if err != nil {
		return nil
	}
	var pids []int
	for _, field := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// startTime returns the start time of a process in the kernel's units, or "" if it is
// gone.
func startTime(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	const fromState = 19 // starttime is field 22, the state field 3
	if fields := strings.Fields(rest); len(fields) > fromState {
		return fields[fromState]
	}
	return ""
}

// withPidfd returns the processes for which this process has a pidfd.
func withPidfd() map[int]bool {
	pidfds := make(map[int]bool)
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return pidfds
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // what could be read
	for _, name := range names {
		link, err := os.Readlink("/proc/self/fd/" + name)
		if err != nil || !strings.Contains(link, "pidfd") {
			continue
		}
		b, err := os.ReadFile("/proc/self/fdinfo/" + name)
		if err != nil {
			continue
		}
		for line := range bytes.Lines(b) {
			if rest, ok := bytes.CutPrefix(line, []byte("Pid:")); ok {
				pid, _ := strconv.Atoi(strings.TrimSpace(string(rest)))
				pidfds[pid] = true
			}
		}
	}
	return pidfds
}

// onFirstThread runs work on the process's first thread, and locks the thread to it
// until work returns. It calls begun there first. It returns once begun has returned,
// or false if other code keeps the first thread.
//
// It starts goroutines one after the other that keep their threads, so that each gets
// another one, until one has the first thread.
func onFirstThread(work, begun func()) bool {
	known := threads()
	release := make(chan struct{})
	defer close(release)
	for fresh := 0; fresh < maxNewThreads; {
		got := make(chan int)
		go func() { // ends with work or at release
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			tid := syscall.Gettid()
			if tid == os.Getpid() {
				begun()
				got <- tid
				work()
				return
			}
			got <- tid
			<-release
		}()
		tid := <-got
		if tid == os.Getpid() {
			return true
		}
		if !known[strconv.Itoa(tid)] {
			fresh++
		}
	}
	return false
}

// OffFirstThread runs work locked to a thread that is not the first, and waits for
// it.
func OffFirstThread(work func()) {
	runtime.LockOSThread()
	if syscall.Gettid() != os.Getpid() {
		defer runtime.UnlockOSThread()
		work()
		return
	}
	locked, done := make(chan struct{}), make(chan struct{})
	go func() { // cannot get this thread while it is locked here
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		close(locked)
		work()
	}()
	<-locked
	runtime.UnlockOSThread()
	<-done
}
