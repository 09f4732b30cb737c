package subprocess

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/subprocess/cgroup"
)

// exitDelay is how long the pipes may stay open after the process has ended:
// processes that have left its group can hold them.
const exitDelay = 500 * time.Millisecond

// errNotSent marks a run that the child cannot have received.
var errNotSent = errors.New("run not sent")

// child is one child process as seen by its parent. The goroutine that took it from
// the pool talks to it: Run's own goroutine writes the run and reads frames until the
// answer, so that a run costs no switch of goroutines.
//
// The child has goroutines of its own: the readers of its output, handshake, which
// ends with the hello, and wait, which ends last.
type child struct {
	pool *Pool
	info startInfo
	proc *os.Process
	pid  int

	in             *os.File // to the child
	out            *os.File // from the child
	outConn        syscall.RawConn
	w              frameWriter
	frames         *frameReader // of handshake, then of the run
	stdout, stderr *capture
	group          *cgroup.Group // nil if there are none
	seq            uint64        // of the last run
	frame          []byte        // of the last run, for reuse
	hider          Hider         // of the runs so far; nil if they have no secrets

	born          time.Time
	oomKills      int64     // the system's count at the start
	parentPeak    int64     // the parent's peak memory at the start, in bytes
	runs          int       // sent to it
	failures      int       // failures in a row
	idleSince     time.Time // under the pool's lock
	sizeCheckedAt time.Time // when its size was read last
	replaced      bool      // it has a successor; under the pool's lock

	ready   chan struct{} // closed after its hello
	exited  chan struct{} // closed when the process has ended
	gone    chan struct{} // closed when its process, goroutines and files are gone
	readers sync.WaitGroup

	mu     sync.Mutex
	run    *activeRun
	killed bool
	kind   broker.FailureKind // why it was killed
	cause  error
	peak   int64            // peak memory in bytes, if it was killed
	below  []int            // processes below it that were killed with it
	reaped bool             // it was waited for, so its pid may be reused
	state  *os.ProcessState // once it has ended; nil if unknown
}

// activeRun is the run that a child executes.
type activeRun struct {
	seq    uint64
	run    *broker.TaskRun
	ctx    context.Context // that of Run for what is logged of the run; it does not end
	calls  calls
	answer *Response // owned by Run's goroutine, and readable once over is closed
	stack  string    // as answer
	logged Budget    // owned by Run's goroutine

	dumped chan struct{} // closed when stack is set
	over   chan struct{} // closed when nobody reads frames of the run any more
}

// execute sends a run to the child and returns its outcome.
func (c *child) execute(ctx context.Context, req *Request, deadline time.Time) (*Response, error) {
	c.seq++
	r := &activeRun{seq: c.seq, run: req.Run, ctx: context.WithoutCancel(ctx), dumped: make(chan struct{}), over: make(chan struct{})}
	r.calls.derive = func() (context.Context, context.CancelFunc) { return context.WithCancel(ctx) }
	frame, err := c.encode(ctx, req, deadline)
	if err != nil {
		return nil, fmt.Errorf("send run to child process: %w", err)
	}
	if req.Hide != nil {
		c.hider = req.Hide(c.hider)
	}
	if err := c.begin(r); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotSent, err)
	}
	defer c.finish(r)
	if err := c.group.Limit(req.Memory); err != nil {
		c.pool.cfg.Logger.Warn("cannot set a cap on the memory of a child's control group", "pid", c.pid, "error", err)
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		c.interrupt(ctx, r)
	})
	sendErr := c.w.write(frame, nil)
	if sendErr != nil && ctx.Err() != nil {
		c.kill(endOf(ctx))
	} else if sendErr != nil {
		c.kill(Protocol, fmt.Errorf("send run: %w", sendErr))
	}
	if req.Memory > 0 {
		defer c.watchMemory(req.Memory)()
	}
	if err := c.readUntilAnswer(r); err != nil {
		c.killForBadFrame(err)
	}
	close(r.over)
	if r.answer == nil {
		<-c.gone
	}
	if !stop() {
		<-interrupted
	}
	return c.outcome(r, req, sendErr)
}

// encode returns the frame of a run. It reuses the last frame's memory if that
// suffices.
func (c *child) encode(ctx context.Context, req *Request, deadline time.Time) ([]byte, error) {
	o := runMessage{run: req.Run, level: int(lowestLevel(ctx, c.pool.cfg.Logger)), memory: req.Memory, decode: req.DecodeMemory}
	if !deadline.IsZero() {
		o.hasDeadline, o.remaining = true, time.Until(deadline)
	}
	frame, err := o.append(c.frame, c.seq)
	if err != nil {
		return nil, err
	}
	if cap(frame) <= keepBuffer {
		c.frame = frame
	}
	return frame, c.w.check(frame)
}

// begin assigns the run to the child. It returns an error if the child is gone or has
// sent an unexpected frame.
func (c *child) begin(r *activeRun) error {
	if err := c.checkIdle(); err != nil {
		c.kill(Protocol, err)
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return errors.New("the child process has ended")
	}
	c.run = r
	c.runs++
	c.stdout.begin(r.ctx, r.run.ID, r.run.Task, c.hider)
	c.stderr.begin(r.ctx, r.run.ID, r.run.Task, c.hider)
	return nil
}

// checkIdle returns an error if an idle child has ended, is stopped by a signal, or
// has sent something: the next run would be blamed for it.
func (c *child) checkIdle() error {
	if isStopped(c.pid) {
		return errors.New("the child process is stopped")
	}
	var n int
	var readErr error
	var b [1]byte
	if err := c.outConn.Control(func(fd uintptr) { n, readErr = readNow(fd, b[:]) }); err != nil {
		return fmt.Errorf("read descriptor 4: %w", err)
	}
	switch {
	case errors.Is(readErr, errAgain):
		return nil
	case readErr != nil:
		return fmt.Errorf("read descriptor 4: %w", readErr)
	case n == 0:
		return errors.New("descriptor 4 was closed")
	}
	return errors.New("the child process sent something outside of a run")
}

// outcome returns the answer of a run, or an error once the child is gone.
func (c *child) outcome(r *activeRun, req *Request, sendErr error) (*Response, error) {
	if r.answer != nil {
		r.answer.PID = c.pid
		return r.answer, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if sendErr != nil && c.kind != Timeout && c.kind != Cancelled {
		return nil, fmt.Errorf("%w: %w", errNotSent, sendErr)
	}
	e := c.exitError()
	e.Stack = r.stack
	e.detectOOM(c, req.Memory)
	return nil, e
}

// finish ends the calls and the output of a run.
func (c *child) finish(r *activeRun) {
	r.calls.end()
	c.stdout.end()
	c.stderr.end()
	if cut, size := r.logged.Cut(); cut > 0 {
		c.pool.cfg.Logger.WarnContext(r.ctx, TooManyRecords,
			"run", r.run.ID, "task", r.run.Task, "pid", c.pid, "records_cut", cut, "bytes_cut", size)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.run = nil
}

// readUntilAnswer serves the child's frames until the run's answer. It returns an
// error if no answer can come.
func (c *child) readUntilAnswer(r *activeRun) error {
	for r.answer == nil {
		body, err := c.frames.next()
		if err == nil {
			err = c.serve(r, body)
		}
		if err != nil {
			return err
		}
	}
	if c.frames.more() > 0 {
		return errors.New("the child process sent something after its answer")
	}
	return nil
}

// serve handles one frame. An error means that the child must be killed.
func (c *child) serve(run *activeRun, body []byte) error {
	kind, seq, r, err := openFrame(body)
	if err != nil {
		return err
	}
	if run.seq != seq {
		return fmt.Errorf("frame of type %d for run number %d, which is not being executed", kind, seq)
	}
	switch kind {
	case frameAnswer:
		answer, err := readAnswer(r)
		if err != nil {
			return fmt.Errorf("decode answer: %w", err)
		}
		run.answer = answer
		return nil
	case frameCall:
		id, method, body := r.Uint64(), r.String(), r.Bytes()
		if err := r.Done(); err != nil {
			return fmt.Errorf("decode call: %w", err)
		}
		return c.serveCall(run, id, method, body)
	case frameCancelCall:
		id := r.Uint64()
		if err := r.Done(); err != nil {
			return fmt.Errorf("decode end of call: %w", err)
		}
		run.calls.cancel(id)
		return nil
	case frameLog:
		return c.log(run, len(body), r)
	case frameStack:
		return run.readStack(r)
	}
	return fmt.Errorf("frame of unexpected type %d", kind)
}

func (r *activeRun) readStack(b *codec.Reader) error {
	text := b.String()
	if err := b.Done(); err != nil {
		return fmt.Errorf("decode stack: %w", err)
	}
	r.stack = text
	select {
	case <-r.dumped: // another process asked for it too
	default:
		close(r.dumped)
	}
	return nil
}

// killForBadFrame kills a child whose frames ended or were malformed.
func (c *child) killForBadFrame(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		// Usually the process has ended, and wait finds out why.
		timer := time.NewTimer(exitDelay)
		defer timer.Stop()
		select {
		case <-c.exited:
			return
		case <-timer.C:
			err = errors.New("descriptor 4 was closed")
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) { // the deadline that wait sets for the last frames of an ended child
		c.kill(Protocol, err)
	}
}

// handshake waits for the child's hello. It reads the first frame.
func (c *child) handshake() {
	h, err := c.readHello()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.kill(Timeout, startTimeoutError(c.pool.cfg.StartTimeout))
	case err != nil:
		c.killForBadFrame(err)
	case h.missing > 0:
		c.kill(Protocol, fmt.Errorf("the child process does not know %s: pass the same tasks to taskrt.ServeChild as to taskrt.NewConsumer",
			schemaName(c.pool.cfg.Schema, h.missing)))
	default:
		c.pool.handshakeDone(h)
		level, attrs := slog.LevelDebug, []any{"pid", c.pid, "limits", h.active}
		if h.failed != "" {
			level, attrs = slog.LevelWarn, append(attrs, "failed", h.failed)
		}
		c.pool.cfg.Logger.Log(context.Background(), level, "child process started", attrs...)
		close(c.ready)
	}
}

func (c *child) readHello() (h hello, err error) {
	_ = c.out.SetReadDeadline(time.Now().Add(c.pool.cfg.StartTimeout))
	body, err := c.frames.next()
	if err != nil {
		return h, err
	}
	kind, _, r, err := openFrame(body)
	if err == nil && kind != frameHello {
		err = fmt.Errorf("frame of type %d where a hello was expected", kind)
	}
	if err == nil {
		h, err = readHello(r)
	}
	if err != nil {
		return h, err
	}
	if c.frames.more() > 0 {
		return h, errors.New("the child process sent something after its hello")
	}
	c.frames.max = c.pool.cfg.MaxFrame
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		_ = c.out.SetReadDeadline(time.Time{})
	}
	return h, nil
}

// awaitHello blocks until the child is ready for runs. If it returns an error, the
// child is gone.
func (c *child) awaitHello() error {
	select {
	case <-c.ready:
		return nil
	case <-c.exited:
	}
	c.awaitGone()
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.cause
	if !c.killed {
		err = fmt.Errorf("child process ended before it reached taskapp.Main or taskrt.ServeChild (%s): %s",
			c.exitError().status(), startHint)
	}
	return &StartError{Stderr: c.stderr.last(), Err: err}
}

// usable reports whether the child can take another run.
func (c *child) usable() bool {
	select {
	case <-c.exited:
		return false
	default:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.killed
}

func (c *child) awaitGone() { <-c.gone }

// wait waits for the end of the process, however that comes, kills everything that it
// started, and cleans up.
func (c *child) wait() {
	awaitExit(c.pid)
	close(c.exited)
	c.mu.Lock()
	// The process is still a zombie, so the group id cannot belong to another group.
	killGroup(c.pid)
	state, err := c.proc.Wait()
	if err == nil {
		c.state = state
	}
	c.reaped = true
	run, below := c.run, c.below
	c.mu.Unlock()
	c.group.Kill()
	reap(c.pid, append(below, killTagged(c.info.tag)...))

	_ = c.in.Close() // ends a blocked write
	until := time.Now().Add(exitDelay)
	_ = c.out.SetReadDeadline(until)
	c.stdout.stopReadingAt(until)
	c.stderr.stopReadingAt(until)
	c.readers.Wait()
	if run != nil {
		<-run.over
	}
	for _, f := range []io.Closer{c.out, c.stdout.file, c.stderr.file} {
		_ = f.Close()
	}
	c.group.Remove()
	c.pool.remove(c)
	close(c.gone)
}

// log passes a record of the run to the logger if the run's budget allows it.
func (c *child) log(run *activeRun, size int, r *codec.Reader) error {
	if !run.logged.Take(size) {
		return nil
	}
	rec, err := readRecord(r)
	if err != nil {
		return fmt.Errorf("decode log record: %w", err)
	}
	rec.AddAttrs(slog.Int("pid", c.pid))
	if h := c.pool.cfg.Logger.Handler(); h.Enabled(run.ctx, rec.Level) {
		_ = h.Handle(run.ctx, rec) // slog drops this error too
	}
	return nil
}
