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
	maxDrain = 1 << 20  // bytes read at a run's end: more than a pipe holds
)

// capture logs a child's standard output or error line by line, and keeps the last
// lines.
//
// The output of a run is in the pipe before its answer is, but may still be unread.
// So end reads the rest itself, under the lock of the reading goroutine: a line is
// never logged for the next run.
type capture struct {
	file   *os.File
	conn   syscall.RawConn
	logger *slog.Logger
	level  slog.Level
	stream string
	pid    int

	mu        sync.Mutex
	run, task string          // empty between runs
	ctx       context.Context // of the run's lines
	hider     Hider           // of the child's runs so far; may be nil
	buf       []byte
	line      []byte
	dropped   int // bytes of the line beyond maxLine
	budget    Budget
	closed    bool // the child has closed the stream
	tail      tail
}

func newCapture(file *os.File, logger *slog.Logger, stream string, pid int) (*capture, error) {
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &capture{
		file: file, conn: conn, logger: logger, stream: stream, pid: pid,
		ctx: context.Background(), level: slog.LevelInfo, buf: make([]byte, 8<<10),
	}
	if stream == "stderr" {
		c.level = slog.LevelWarn
	}
	return c, nil
}

// read logs lines until the stream ends or the read deadline passes.
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

// begin attributes the lines that follow to a run.
func (c *capture) begin(ctx context.Context, run, task string, hider Hider) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flush()
	c.reportCut()
	c.ctx, c.run, c.task, c.hider = ctx, run, task, hider
	c.tail = tail{}
}

// end logs the rest of the run's output, including a last line without a newline.
func (c *capture) end() {
	// The only error is that of a closed file: the child is gone, and read has read
	// all.
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
	c.ctx, c.run, c.task = context.Background(), "", ""
}

// reportCut logs how much was cut, and starts a new budget.
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

// stopReadingAt ends read at t, even if a process still holds the other end.
func (c *capture) stopReadingAt(t time.Time) { _ = c.file.SetReadDeadline(t) }

// memoryRefused reports whether the lines show that the process ended because it was
// refused memory. Capped means that it had a limit of its own.
func (c *capture) memoryRefused(capped bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tail.refused || capped && c.tail.fault && !c.tail.foreign
}

// take reads without blocking; it returns errAgain if nothing is there.
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
	if !c.logger.Enabled(c.ctx, c.level) {
		return
	}
	attrs := make([]slog.Attr, 0, 6)
	if c.run != "" {
		attrs = append(attrs, slog.String("run", c.run), slog.String("task", c.task))
	}
	attrs = append(attrs, slog.Int("pid", c.pid), slog.String("stream", c.stream))
	c.logger.LogAttrs(c.ctx, c.level, line, append(attrs, more...)...)
}

const (
	maxOutput = 16 << 20 // bytes of a run's lines or records that are logged
	perLine   = 128      // extra bytes for each, since a logged line has attributes
)

// TooManyRecords is the message logged for a run that exceeded its budget of records.
const TooManyRecords = "the run logged more records than are kept"

// Budget bounds what one run may log through one channel. Its zero value is unused.
type Budget struct {
	used     int // bytes, including perLine for each line or record
	cut      int // lines or records beyond maxOutput
	cutBytes int // their bytes
}

// Take reports whether a line or record of size bytes may be logged. After the first
// that may not, none may.
func (b *Budget) Take(size int) bool {
	if b.cut == 0 && b.used+size+perLine <= maxOutput {
		b.used += size + perLine
		return true
	}
	b.cut++
	b.cutBytes += size
	return false
}

// Cut returns the number of lines or records that were cut, and their size in bytes.
func (b *Budget) Cut() (n, size int) { return b.cut, b.cutBytes }
