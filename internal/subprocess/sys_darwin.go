package subprocess

import (
	"os"
	"syscall"
)

const hasOOMScore = false

func executable() (string, error) { return os.Executable() }

func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func prepareChild() {}

func outliveParent() {}

func capabilities() []string { return []string{"process-group", "gomemlimit", "nice"} }

// limitData does nothing: macOS does not apply RLIMIT_DATA to the memory of Go.
func limitData(int64) (undo func()) { return func() {} }

func setOOMScore(int) error { return nil }

func killTree(pid int) []int {
	killGroup(pid)
	return nil
}

func killDescendants(int) []int { return nil }

func setTag(uint64) {}

func killTagged(uint64) []int { return nil }

func isStopped(int) bool { return false }
