package subprocess

import "strings"

const (
	tailLines = 20
	tailBytes = 8 << 10

	headLines = 24 // of a stack that is kept of a crash report: twelve functions
	headBytes = 3 << 10
	headLine  = 1 << 10 // of a crash report's first line
)

// tail is the last lines of a stream, and of a Go program's crash report the
// beginning too: it can be much longer than the tail, and its end names other
// goroutines, or registers.
type tail struct {
	lines []string
	size  int
	after int // lines since the last crash report began
	crash *crash

	refused bool // the Go runtime says that it gets no more memory, or threads
	fault   bool // the Go runtime itself has crashed, as it can when it is refused memory
	foreign bool // or rather, C code has
}

// crash is the beginning of a crash report: its first line, the stack of the
// first goroutine in it, which is the one that crashed, and that of the
// goroutine that executes the run: a signal can find any goroutine at work.
type crash struct {
	line  string
	first stack
	run   stack
	now   stack // the one that is being read
	in    bool  // a stack is being read
	ofRun bool  // which is the run's
}

// stack is the beginning of one goroutine's stack in a crash report.
type stack struct {
	lines []string
	size  int
	after int // lines of the report before it
}

func (t *tail) add(line string) {
	if len(line) > tailBytes/2 {
		line = line[:tailBytes/2]
	}
	t.after++
	t.look(line)
	if opensCrash(line) {
		t.crash, t.after = &crash{line: line[:min(len(line), headLine)]}, 0
	} else if t.crash != nil {
		t.crash.add(line, t.after)
	}
	t.lines = append(t.lines, line)
	t.size += len(line) + 1
	for len(t.lines) > tailLines || t.size > tailBytes {
		t.size -= len(t.lines[0]) + 1
		t.lines = t.lines[1:]
	}
}

func opensCrash(line string) bool {
	for _, p := range []string{"panic: ", "fatal error: ", "SIG"} {
		if strings.HasPrefix(line, p) {
			return true
		}
	}
	return false
}

// add takes a line of the report, which is the after'th of it.
func (c *crash) add(line string, after int) {
	switch {
	case strings.HasPrefix(line, "goroutine ") && strings.HasSuffix(line, ":"):
		c.end()
		c.in, c.ofRun, c.now = true, false, stack{after: after}
	case line == "":
		c.end()
	}
	if !c.in {
		return
	}
	if strings.Contains(line, "internal/subprocess.(*server).execute(") {
		c.ofRun = true
	}
	if s := &c.now; len(s.lines) < headLines && s.size+len(line) < headBytes {
		s.lines, s.size = append(s.lines, line), s.size+len(line)+1
	}
}

// end takes the stack that was read for what it is.
func (c *crash) end() {
	if !c.in {
		return
	}
	c.in = false
	if c.first.lines == nil {
		c.first = c.now
	} else if c.ofRun && c.run.lines == nil {
		c.run = c.now
	}
}

// look recognises how a Go program ends that is refused memory.
func (t *tail) look(line string) {
	switch {
	case strings.HasPrefix(line, "fatal error: "):
		t.refused = t.refused || strings.Contains(line, "out of memory") || strings.Contains(line, "cannot allocate memory")
	case strings.Contains(line, "ThreadSanitizer failed to allocate"), // under the race detector
		strings.HasPrefix(line, "runtime: failed to create new OS thread"),
		strings.HasPrefix(line, "runtime/cgo: pthread_create failed"):
		t.refused = true
	case strings.HasPrefix(line, "SIGSEGV: "):
		t.fault = true
	case strings.HasPrefix(line, "signal arrived during cgo execution"):
		t.foreign = true
	}
}

// String returns the last lines, behind the beginning of a crash report if they
// have lost that.
func (t *tail) String() string {
	if t.crash == nil || t.after < len(t.lines) {
		return strings.Join(t.lines, "\n")
	}
	t.crash.end()
	head := []string{t.crash.line}
	end := t.after - len(t.lines) // lines of the report before the last ones
	covered := 0                  // lines of the report that stand already
	for _, s := range []stack{t.crash.first, t.crash.run} {
		if s.lines == nil || s.after > end {
			continue
		}
		if s.after > covered+2 { // an empty line is not missed
			head = append(head, "…")
		}
		head = append(head, s.lines...)
		covered = s.after + len(s.lines) - 1
	}
	if covered < end {
		head = append(head, "…")
	}
	// Two lines and half the bytes make room for the report's own.
	lines, size := t.lines, t.size
	for len(lines) > tailLines-2 || size > tailBytes/2-8 {
		size -= len(lines[0]) + 1
		lines = lines[1:]
	}
	return strings.Join(append(head, lines...), "\n")
}
