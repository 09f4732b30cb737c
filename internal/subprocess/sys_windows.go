package subprocess

import (
	"errors"
	"os"
	"syscall"
)

var (
	errAgain       = errors.New("nothing to read")
	errUnsupported = errors.New("child processes are not supported on Windows yet: run without CPU-bound tasks")
)

func executable() (string, error) { return "", errUnsupported }

func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

func awaitExit(_ int, eof <-chan struct{}) { <-eof }

func settle() {}

func readNow(uintptr, []byte) (int, error) { return 0, errUnsupported }

func killGroup(int) {}

func killOwnGroup() {}

func signalOf(*os.ProcessState) string { return "" }

func inherited() bool { return false }

func openInherited(int, string) (*os.File, error) { return nil, errUnsupported }

func holdSignals() (stop func()) { return func() {} }
