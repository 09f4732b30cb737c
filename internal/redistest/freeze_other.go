//go:build !unix

package redistest

import "syscall"

// There are no such signals here.
const freeze, thaw = syscall.Signal(-1), syscall.Signal(-1)
