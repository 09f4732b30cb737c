//go:build unix

package redistest

import "syscall"

const freeze, thaw = syscall.SIGSTOP, syscall.SIGCONT
