// Package sigpipe keeps a process alive that writes to a pipe without a reader.
package sigpipe

import (
	"os"
	"os/signal"
	"syscall"
)

// Drop keeps this process from ending when it writes to standard output or error and
// nobody reads there any more, such as a log shipper that was restarted: Go ends a
// program then that has not asked for SIGPIPE. Drop catches the signal and does not
// ignore it, for a process that is started from here would inherit that. restore takes
// it back.
func Drop() (restore func()) {
	dropped := make(chan os.Signal, 1)
	signal.Notify(dropped, syscall.SIGPIPE)
	return func() { signal.Stop(dropped) }
}
