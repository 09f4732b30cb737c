package runtime

import (
	"os"
	"os/signal"
	"syscall"
)

// outliveReaders keeps this process from ending when it writes to standard
// output or error and nobody reads there any more, such as a log shipper that was
// restarted: Go ends a program then that has not asked for SIGPIPE. The signal is
// caught and dropped, not ignored, for processes that are started from here
// would inherit that. The function it returns takes it back.
func outliveReaders() (restore func()) {
	dropped := make(chan os.Signal, 1)
	signal.Notify(dropped, syscall.SIGPIPE)
	return func() { signal.Stop(dropped) }
}
