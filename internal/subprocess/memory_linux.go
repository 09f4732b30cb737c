package subprocess

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// residentSize returns the resident memory of a process in bytes, or 0 if it is
// unknown or the process is gone.
func residentSize(pid int) int64 {
	resident, _ := sizes(fmt.Sprintf("/proc/%d/statm", pid))
	return resident
}

// sizeBelow returns the memory of the processes below one in bytes, without files and
// shared memory.
func sizeBelow(pid int) int64 {
	var total int64
	for _, d := range descendants(pid) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", d))
		if err == nil { // the process may just have ended
			total += pagesOf(b, 1) - pagesOf(b, 2)
		}
	}
	return total
}

// ownSize returns the resident memory of this process and its writable address space,
// in bytes.
func ownSize() (resident, data int64) { return sizes("/proc/self/statm") }

func sizes(path string) (resident, data int64) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, 0
	}
	return pagesOf(b, 1), pagesOf(b, 5)
}

// pagesOf returns a field of a statm file (size resident shared text lib data dt) in
// bytes, or 0 if it is missing.
func pagesOf(statm []byte, field int) int64 {
	fields := strings.Fields(string(statm))
	if len(fields) <= field {
		return 0
	}
	n, err := strconv.ParseInt(fields[field], 10, 64)
	if err != nil {
		return 0
	}
	return n * int64(os.Getpagesize())
}

// peakSize returns the peak memory of a process in bytes, or 0 if it is unknown.
func peakSize(pid int) int64 {
	return procNumber(fmt.Sprintf("/proc/%d/status", pid), "VmHWM:") << 10
}

// oomKills returns how often the system has killed a process for lack of memory.
func oomKills() int64 { return procNumber("/proc/vmstat", "oom_kill ") }

// procNumber returns the number that follows prefix at the start of a line in a file.
func procNumber(path, prefix string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte(prefix)); ok {
			n, _ := strconv.ParseInt(strings.Fields(string(rest) + " 0")[0], 10, 64)
			return n
		}
	}
	return 0
}

// nearFileLimit reports whether a process has opened four fifths of the files that it
// may.
func nearFileLimit(pid int) bool {
	var limit syscall.Rlimit
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), syscall.RLIMIT_NOFILE, 0, uintptr(unsafe.Pointer(&limit)), 0, 0)
	if errno != 0 {
		return false
	}
	dir, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return false
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // what could be read
	return uint64(len(names)) >= limit.Cur/5*4
}
