package subprocess

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	maxLine  = 64 << 10 // bytes of a captured line; the rest of it is dropped
	maxDrain = 1 << 20  // bytes taken at a run's end: more than a pipe holds
)

// capture logs what a child writes to standard output or error by line, and
// remembers the last lines.
//
// What a run wrote is in the pipe before its answer is, but nobody may have
// read it yet. So end takes what is there itself, under the lock that the
// reading goroutine takes too: a line is never logged under the next run.
type capture struct {
	file   *os.File
	conn   syscall.RawConn
	logger *slog.Logger
	level  slog.Level
	stream string
	pid    int

	mu        sync.Mutex
	run, task string // empty between runs
	hider     Hider  // of the child's runs so far; may be nil
	buf       []byte
	line      []byte
	dropped   int // bytes of the line beyond maxLine
	budget    Budget
	closed    bool // by the child, which has nothing to write to any more
	tail      tail
}

func newCapture(file *os.File, logger *slog.Logger, stream string, pid int) (*capture, error) {
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &capture{
		file: file, conn: conn, logger: logger, stream: stream, pid: pid,
		level: slog.LevelInfo, buf: make([]byte, 8<<10),
	}
	if stream == "stderr" {
		c.level = slog.LevelWarn
	}
	return c, nil
}

// read logs lines until the stream ends or the file's read deadline passes.
func (c *capture) read() {
	for {
		var err error
		waitErr := c.conn.Read(func(fd uintptr) bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			_, err = c.take(fd)
			return err != errAgain
		})
		if waitErr != nil || err != nil {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flush()
}

// begin says whose lines follow.
func (c *capture) begin(run, task string, hider Hider) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flush()
	c.reportCut()
	c.run, c.task, c.hider = run, task, hider
	c.tail = tail{}
}

// end logs what the run has written, its last line also without a newline.
func (c *capture) end() {
	// The error is that of a closed file: the child is gone, and read took all.
	_ = c.conn.Control(func(fd uintptr) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for total := 0; total < maxDrain; {
			n, err := c.take(fd)
			if err != nil {
				break
			}
			total += n
		}
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flush()
	c.reportCut()
	c.run, c.task = "", ""
}

// reportCut logs how much was not logged, and starts to count anew.
func (c *capture) reportCut() {
	if lines, size := c.budget.Cut(); lines > 0 {
		c.log("the run wrote more than is logged", slog.Int("lines_cut", lines), slog.Int("bytes_cut", size))
	}
	c.budget = Budget{}
}

// ended reports whether the child has closed the stream.
func (c *capture) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// last returns the last lines.
func (c *capture) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tail.String()
}

// expect makes read end at t, whoever still holds the other end.
func (c *capture) stopReadingAt(t time.Time) { _ = c.file.SetReadDeadline(t) }

// starved reports whether the lines say that the process ended because it was
// refused memory. Capped tells that it could have been by its own limit.
func (c *capture) memoryRefused(capped bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tail.refused || capped && c.tail.fault && !c.tail.foreign
}

// take reads what is there without waiting; errAgain is nothing.
func (c *capture) take(fd uintptr) (int, error) {
	n, err := readNow(fd, c.buf)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		c.closed = true
		return 0, io.EOF
	}
	c.feed(c.buf[:n])
	return n, nil
}

func (c *capture) feed(b []byte) {
	for len(b) > 0 {
		part, rest, whole := bytes.Cut(b, []byte{'\n'})
		room := min(len(part), maxLine-len(c.line))
		c.line = append(c.line, part[:room]...)
		c.dropped += len(part) - room
		if whole {
			c.emit()
		}
		b = rest
	}
}

func (c *capture) flush() {
	if len(c.line) > 0 {
		c.emit()
	}
}

func (c *capture) emit() {
	line := strings.TrimSuffix(string(c.line), "\r")
	dropped := c.dropped
	c.line, c.dropped = c.line[:0], 0
	if c.hider != nil {
		line = c.hider.Hide(line, dropped > 0)
	}
	c.tail.add(line)
	if !c.budget.Take(len(line)) {
		c.budget.cutBytes += dropped
		return
	}
	if dropped > 0 {
		c.log(line, slog.Int("bytes_cut", dropped))
		return
	}
	c.log(line)
}

func (c *capture) log(line string, more ...slog.Attr) {
	ctx := context.Background() // a line belongs to no call
	if !c.logger.Enabled(ctx, c.level) {
		return
	}
	attrs := make([]slog.Attr, 0, 6)
	if c.run != "" {
		attrs = append(attrs, slog.String("run", c.run), slog.String("task", c.task))
	}
	attrs = append(attrs, slog.Int("pid", c.pid), slog.String("stream", c.stream))
	c.logger.LogAttrs(ctx, c.level, line, append(attrs, more...)...)
}

const (
	maxOutput = 16 << 20 // bytes of a run's lines or records that are logged
	perLine   = 128      // bytes that each counts for besides its text: a logged one has attributes
)

// TooManyRecords is logged of a run that has logged more records than its budget.
const TooManyRecords = "the run logged more records than are kept"

// Budget bounds what one run may have logged through one channel. Its zero value is
// that of a run that has logged nothing.
type Budget struct {
	used     int // bytes, with perLine for each line or record
	cut      int // lines or records beyond maxOutput
	cutBytes int // their bytes
}

// Take reports whether a line or a record of a size may be logged. After one that
// may not there are no more.
func (b *Budget) Take(size int) bool {
	if b.cut == 0 && b.used+size+perLine <= maxOutput {
		b.used += size + perLine
		return true
	}
	b.cut++
	b.cutBytes += size
	return false
}

// Cut returns how many lines or records were beyond the budget, and their bytes.
func (b *Budget) Cut() (n, size int) { return b.cut, b.cutBytes }
