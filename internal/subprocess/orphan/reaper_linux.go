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

	reapAge = 2 * time.Second // also how often it looks in case SIGCHLD is lost: the application can reset signals
	newMost = 4               // new threads that are tried for the first one
)

// Adopts reports whether processes become this one's children whose own parents
// have ended: it is the first of its system, or a subreaper.
func Adopts() bool {
	var set int32
	_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prGetChildSubreaper, uintptr(unsafe.Pointer(&set)), 0)
	return os.Getpid() == 1 || errno == 0 && set != 0
}

// Reaper waits for the processes that this one adopts, and never for one that
// this process has started itself: whoever did that waits for it.
//
// They are told apart by two facts. The kernel gives orphans to the first thread
// of a process, and a process that is started to the thread that starts it. The
// reaper keeps the first thread, so that no other code runs there; so the
// children of that thread are orphans. The exception are those of threads that
// have ended: for them the package os holds a pidfd, and these are left alone.
// Children that the thread has when the reaper starts are left alone too.
//
// The facts are not enough where other code keeps the first thread, as os/signal
// does if it was used first, and once a thread has ended: what it started without
// the package os looks like an orphan then. So there a child must also have been
// seen to be dead, and not waited for, all of reapAge.
type Reaper struct {
	signals chan os.Signal
	stop    chan struct{}
	done    chan struct{}
	first   bool              // it has the first thread
	threads map[string]bool   // that were seen last
	unsure  bool              // it lacks the first thread, or a thread has ended
	own     map[int]string    // children that were there first, with their start times
	dead    map[int]time.Time // where it is unsure: since when they are seen so
}

// Start returns a running reaper. It needs a call of end. It calls begun on the
// first thread, or on the caller's if other code keeps that one: it may be the caller.
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

// End stops the reaper and waits for that.
func (r *Reaper) End() {
	if r != nil {
		close(r.stop)
		<-r.done
	}
}

// loop reaps until end.
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
		var held map[int]bool
		for _, pid := range firstChildren() {
			if !r.hasEnded(oneID, pid) || r.own[pid] != "" && r.own[pid] == startTime(pid) {
				continue
			}
			if held == nil {
				held = heldProcesses()
			}
			if held[pid] || r.isUnsure() && !r.aged(pid) {
				continue
			}
			if got, err := syscall.Wait4(pid, nil, syscall.WNOHANG|r.threadOnly(), nil); err == nil && got == pid {
				delete(r.dead, pid)
				waited++
			}
		}
		if waited == 0 {
			return // the rest is not this one's
		}
	}
	clear(r.dead)
}

// isUnsure reports whether one of the children can be what a thread has left.
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

// threads are the ids of this process's threads.
func threads() map[string]bool {
	ids := make(map[string]bool)
	entries, _ := os.ReadDir("/proc/self/task") // what could be read
	for _, e := range entries {
		ids[e.Name()] = true
	}
	return ids
}

// aged reports whether a child was seen to be dead for long enough.
func (r *Reaper) aged(pid int) bool {
	since, ok := r.dead[pid]
	if !ok {
		r.dead[pid] = time.Now()
	}
	return ok && time.Since(since) >= reapAge
}

// threadOnly is the option that waits for the first thread's children alone.
func (r *Reaper) threadOnly() int {
	if r.first {
		return wNoThread
	}
	return 0
}

// hasEnded reports whether one of the children, or the one given, has ended and
// was not waited for. It leaves it so.
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

// firstChildren are the children of this process's first thread.
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

// startTime is when a process started, as the kernel counts; empty if it is gone.
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

// heldProcesses are those for which this process has a pidfd.
func heldProcesses() map[int]bool {
	held := make(map[int]bool)
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return held
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
				held[pid] = true
			}
		}
	}
	return held
}

// onFirstThread has work run on the process's first thread, which is locked to it
// until it returns; begun is called there first. It is false if other code keeps
// that thread.
//
// Goroutines are started one after the other and keep their threads, so that each
// gets another one, until one has got the first.
func onFirstThread(work, begun func()) bool {
	known := threads()
	release := make(chan struct{})
	defer close(release)
	for fresh := 0; fresh < newMost; {
		got := make(chan int)
		go func() { // ends with work, or at release
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

// OffFirstThread has work run locked to a thread that is not the first.
func OffFirstThread(work func()) {
	runtime.LockOSThread()
	if syscall.Gettid() != os.Getpid() {
		defer runtime.UnlockOSThread()
		work()
		return
	}
	locked, done := make(chan struct{}), make(chan struct{})
	go func() { // which cannot get this thread while it is locked here
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
