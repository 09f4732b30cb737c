package subprocess

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// residentSize is how many bytes of memory a process has now, 0 if that cannot
// be told, as of one that is gone.
func residentSize(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
