//go:build !unix

package redistest

import "syscall"

// No signal does that here: these are none.
const freeze, thaw = syscall.Signal(-1), syscall.Signal(-1)
