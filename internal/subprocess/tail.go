package subprocess

import "strings"

const (
	tailLines = 20
	tailBytes = 8 << 10

	// How much of a stack in a crash report is kept. A function takes two lines.
	stackFirst = 16
	stackLast  = 22
	stackBytes = 2 << 10 // of each of the two parts
	crashLine  = 1 << 10 // of the report's first line
)

// tail keeps the last lines of a stream, and the start of the last Go crash report in
// it. A report can be much longer than the tail, and its end shows other goroutines
// or registers.
type tail struct {
	lines []string
	size  int
	after int // lines since the last crash report began
	crash *crash

	refused bool // the Go runtime reports that it was refused memory or threads
	fault   bool // the Go runtime has crashed, as it can when it is refused memory
	foreign bool // the crash was in C code
}

// crash is the kept part of a crash report: its first line, the stack of its first
// goroutine, which is the one that crashed, and the stack of the goroutine that
// executes the run. A signal can interrupt any goroutine.
type crash struct {
	line  string
	first *stack
	run   *stack
	now   *stack // being read; nil between two stacks
}

// stack is the top and the bottom of one goroutine's stack in a crash report. The
// bottom of the run's stack is where this package called the task.
type stack struct {
	at    int // number of its first line in the report
	n     int // number of its lines
	first []string
	last  []string
	sizes [2]int
	ofRun bool
}

func (s *stack) add(line string) {
	if s.ofRun {
		return // the other frames are this package's
	}
	s.n++
	s.ofRun = strings.Contains(line, "internal/subprocess.(*server).execute(")
	if len(s.last) == 0 && len(s.first) < stackFirst && s.sizes[0]+len(line) < stackBytes {
		s.first, s.sizes[0] = append(s.first, line), s.sizes[0]+len(line)+1
		return
	}
	s.last, s.sizes[1] = append(s.last, line), s.sizes[1]+len(line)+1
	for len(s.last) > stackLast || s.sizes[1] > stackBytes {
		s.sizes[1] -= len(s.last[0]) + 1
		s.last = s.last[1:]
	}
}

// text returns the kept lines of the stack.
func (s *stack) text() []string {
	text := s.first
	if s.n > len(s.first)+len(s.last) {
		text = append(text[:len(text):len(text)], "…")
	}
	return append(text[:len(text):len(text)], s.last...)
}

func (t *tail) add(line string) {
	if len(line) > tailBytes/2 {
		line = line[:tailBytes/2]
	}
	t.after++
	t.detectCause(line)
	if opensCrash(line) {
		t.crash, t.after = &crash{line: line[:min(len(line), crashLine)]}, 0
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

// add adds a line of the report. Lines are numbered from the report's first, which is
// 0.
func (c *crash) add(line string, at int) {
	switch {
	case strings.HasPrefix(line, "goroutine ") && strings.HasSuffix(line, ":"):
		c.end()
		c.now = &stack{at: at}
	case line == "":
		c.end()
	}
	if c.now != nil {
		c.now.add(line)
	}
}

// end keeps the stack that was read if it is one of the two.
func (c *crash) end() {
	switch s := c.now; {
	case s == nil:
	case c.first == nil:
		c.first = s
	case c.run == nil && s.ofRun && !c.first.ofRun:
		c.run = s
	}
	c.now = nil
}

// detectCause recognizes lines of a Go program that ends because it was refused
// memory.
func (t *tail) detectCause(line string) {
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

// String returns the last lines. If the start of a crash report is not among them, it
// comes first.
func (t *tail) String() string {
	if t.crash == nil || t.after < len(t.lines) {
		return strings.Join(t.lines, "\n")
	}
	t.crash.end()
	head := []string{t.crash.line}
	lost := t.after - len(t.lines) // lines of the report that the last lines lack
	covered := 0                   // lines of the report that head has
	for _, s := range []*stack{t.crash.first, t.crash.run} {
		if s == nil || s.at > lost {
			continue
		}
		if s.at > covered+2 { // one missing line is an empty one
			head = append(head, "…")
		}
		head = append(head, s.text()...)
		covered = s.at + s.n - 1
	}
	if covered < lost {
		head = append(head, "…")
	}
	// The report's own lines take two lines and half of the bytes.
	lines, size := t.lines, t.size
	for len(lines) > tailLines-2 || size > tailBytes/2-8 {
		size -= len(lines[0]) + 1
		lines = lines[1:]
	}
	return strings.Join(append(head, lines...), "\n")
}
