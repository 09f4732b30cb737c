package subprocess

import (
	"bytes"
	"os"
	"runtime"
	"slices"
)

const (
	dumpRead = 1 << 20  // bytes of stacks that are read
	dumpSend = 32 << 10 // bytes of stacks that are sent
)

// sendStacks answers each request for the stacks of this process's goroutines while a
// run executes.
func (s *server) sendStacks(asked <-chan os.Signal) {
	for range asked {
		s.mu.Lock()
		run := s.run
		s.mu.Unlock()
		if run == nil {
			continue
		}
		frame := newFrame(nil, frameStack, run.seq)
		frame = appendText(frame, string(stacks()), dumpSend)
		_ = run.send(frame) // fails if the run has ended or the parent is gone
	}
}

// stacks returns the stacks of this process's goroutines except the calling one.
// Running goroutines come first: one of them keeps the process from stopping.
func stacks() []byte {
	buf := make([]byte, dumpRead)
	parts := bytes.Split(buf[:runtime.Stack(buf, true)], []byte("\n\n"))[1:]
	slices.SortStableFunc(parts, func(a, b []byte) int { return rank(a) - rank(b) })
	return bytes.Join(parts, []byte("\n\n"))
}

// rank orders goroutines: busy ones first, and last this package's own and the one that has
// received the signal.
func rank(stack []byte) int {
	head, _, _ := bytes.Cut(stack, []byte("\n"))
	switch {
	case bytes.Contains(stack, []byte("os/signal.loop(")): // it runs because it has just received the signal
		return 2
	case bytes.Contains(head, []byte("[run")): // running, runnable
		return 0
	case bytes.Contains(stack, []byte("internal/subprocess.(*server).")) && !bytes.Contains(stack, []byte(".execute(")):
		return 2
	}
	return 1
}
