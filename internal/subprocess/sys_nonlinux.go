//go:build unix && !linux

package subprocess

import (
	"os"
	"syscall"
)

func executable() (string, error) { return os.Executable() }

func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// awaitExit blocks until the child's descriptor 4 has ended: there is no way
// to wait for a process and leave it. A child that closed it is as good as
// ended, for the caller kills it next.
func awaitExit(_ int, eof <-chan struct{}) { <-eof }

func settle() {}
