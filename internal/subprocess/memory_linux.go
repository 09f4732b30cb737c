package subprocess

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// residentSize is how many bytes of memory a process has now, 0 if that cannot
// be told, as of one that is gone.
func residentSize(pid int) int64 {
	resident, _ := sizes(fmt.Sprintf("/proc/%d/statm", pid))
	return resident
}

// ownSize is how many bytes of memory this process has, and how many of address
// space that it may write to.
func ownSize() (resident, data int64) { return sizes("/proc/self/statm") }

func sizes(path string) (resident, data int64) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, 0
	}
	fields := strings.Fields(string(b)) // size resident shared text lib data dt
	if len(fields) < 6 {
		return 0, 0
	}
	pages := func(text string) int64 {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0
		}
		return n * int64(os.Getpagesize())
	}
	return pages(fields[1]), pages(fields[5])
}

// peakSize is the most bytes of memory that a process had so far, 0 if that
// cannot be told.
func peakSize(pid int) int64 {
	return procNumber(fmt.Sprintf("/proc/%d/status", pid), "VmHWM:") << 10
}

// oomKills is how often the system has killed a process for want of memory.
func oomKills() int64 { return procNumber("/proc/vmstat", "oom_kill ") }

// procNumber reads the number after a line's beginning from a file.
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
