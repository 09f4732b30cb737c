//go:build !linux && !darwin

package subprocess

import (
	"errors"
	"io"
	"os"
	"syscall"
)

var (
	errAgain       = errors.New("nothing to read")
	errUnsupported = errors.New("child processes are not supported on this system yet: run without CPU-bound tasks")
)

const (
	hasOOMScore  = false
	killedSignal = "killed"
)

func executable() (string, error) { return "", errUnsupported }

func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

func capabilities() []string { return nil }

func awaitExit(int) {}

func prepareChild() {}

func outliveParent() {}

func limitData(int64) (undo func()) { return func() {} }

func setOOMScore(int) error { return errUnsupported }

func noCore() error { return errUnsupported }

func addNice(int) error { return errUnsupported }

func readNow(uintptr, []byte) (int, error) { return 0, errUnsupported }

func killTree(int) []int { return nil }

func killGroup(int) {}

func setTag(uint64) {}

func killTagged(uint64) []int { return nil }

func withoutCloseOnExec() []int { return nil }

func closeDescriptor(int) {}

func reap(int, []int) {}

func killOwnTree() {}

func askForStacks(int) {}

func signalOf(*os.ProcessState) string { return "" }

func peakOf(*os.ProcessState) int64 { return 0 }

func inherited() bool { return false }

func openInherited(int) (io.ReadWriter, error) { return nil, errUnsupported }

func holdSignals() (asked <-chan os.Signal, release func()) {
	none := make(chan os.Signal)
	return none, func() { close(none) }
}

func isStopped(int) bool { return false }
