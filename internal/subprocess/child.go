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

// exitDelay is how long the end of a child's process and that of its pipes may
// lie apart: pipes can be held open by processes that left its group.
const exitDelay = 500 * time.Millisecond

// errNotSent marks a run that its child cannot have received.
var errNotSent = errors.New("run not sent")

// child is one child process as its parent sees it. Whoever has it from the
// pool talks with it: Run's own goroutine writes a run and reads what comes
// until the answer, so that a run costs no switch of goroutines. Those that
// belong to the child itself are the readers of its output, greet, which ends
// with its hello, and wait, which ends after all others.
type child struct {
	pool *Pool
	info startInfo
	proc *os.Process
	pid  int

	in             *os.File // to the child
	out            *os.File // from the child
	outConn        syscall.RawConn
	w              frameWriter
	frames         *frameReader // of greet, then of the run
	stdout, stderr *capture
	group          *cgroup.Group // nil if there are none
	seq            uint64        // of the last run
	frame          []byte        // of the last run, to be used again
	hider          Hider         // of the runs so far, nil: they have no secrets

	born          time.Time
	oomKills      int64     // of the system when it was started
	parentPeak    int64     // bytes of memory that the parent had had by then
	runs          int       // that it was given
	failures      int       // the last of them that failed in a row
	idleSince     time.Time // under the pool's lock
	sizeCheckedAt time.Time // when its resident size was read last
	replaced      bool      // under the pool's lock: it has a successor

	ready   chan struct{} // closed by its hello
	exited  chan struct{} // closed when the process has ended
	gone    chan struct{} // closed when nothing is left of it
	readers sync.WaitGroup

	mu     sync.Mutex
	run    *activeRun
	killed bool
	kind   broker.FailureKind // why it was doomed
	cause  error
	peak   int64            // bytes of memory it ever had, if it was doomed
	below  []int            // processes in the tree below it that were killed with it
	reaped bool             // it was waited for: its id may be another's
	state  *os.ProcessState // once it is gone; nil when nobody could tell
}

// activeRun is the run that a child executes.
type activeRun struct {
	seq    uint64
	run    *broker.TaskRun
	calls  calls
	answer *Response // the goroutine's of Run, and others' once over is closed
	stack  string    // likewise
	logged Budget    // the goroutine's of Run

	dumped chan struct{} // closed when stack is there
	over   chan struct{} // closed when nobody reads for the run any more
}

// execute gives the child a run and returns what became of it.
func (c *child) execute(ctx context.Context, req *Request, deadline time.Time) (*Response, error) {
	c.seq++
	r := &activeRun{seq: c.seq, run: req.Run, dumped: make(chan struct{}), over: make(chan struct{})}
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

// encode makes the frame of a run, in the last one's place if it can.
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

// begin makes the run the child's, unless the child is gone or has spoken out
// of turn.
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
	c.stdout.begin(r.run.ID, r.run.Task, c.hider)
	c.stderr.begin(r.run.ID, r.run.Task, c.hider)
	return nil
}

// silent returns an error when an idle child has ended, is stopped, or has sent
// what nobody asked for: the next run would be blamed for it.
func (c *child) checkIdle() error {
	if isStopped(c.pid) {
		return errors.New("the child process is stopped")
	}
	var n int
	var readErr error
	var b [1]byte
	if err := c.outConn.Control(func(fd uintptr) { n, readErr = readNow(fd, b[:]) }); err != nil {
		return fmt.Errorf("look at descriptor 4: %w", err)
	}
	switch {
	case errors.Is(readErr, errAgain):
		return nil
	case readErr != nil:
		return fmt.Errorf("look at descriptor 4: %w", readErr)
	case n == 0:
		return errors.New("descriptor 4 was closed")
	}
	return errors.New("the child process sent something outside of a run")
}

// outcome is what became of a run that was answered, or whose child is gone.
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

// finish ends what belongs to a run besides its answer.
func (c *child) finish(r *activeRun) {
	r.calls.end()
	c.stdout.end()
	c.stderr.end()
	if cut, size := r.logged.Cut(); cut > 0 {
		c.pool.cfg.Logger.Warn(TooManyRecords,
			"run", r.run.ID, "task", r.run.Task, "pid", c.pid, "records_cut", cut, "bytes_cut", size)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.run = nil
}

// converse serves the child's frames until the run's answer. An error means
// that none will come.
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

// serve handles one frame. An error means that the child is not to be trusted.
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
	case <-r.dumped: // somebody else has asked for it too
	default:
		close(r.dumped)
	}
	return nil
}

// distrust ends a child whose frames ended or made no sense.
func (c *child) killForBadFrame(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		// The usual end is that of the process, which is told apart by wait.
		timer := time.NewTimer(exitDelay)
		defer timer.Stop()
		select {
		case <-c.exited:
			return
		case <-timer.C:
			err = errors.New("descriptor 4 was closed")
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) { // which is that of an ended child's last words
		c.kill(Protocol, err)
	}
}

// greet waits for the child's hello. It is the first to read.
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

// awaitHello waits until the child is ready for runs. An error means that it
// is gone.
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
		err = fmt.Errorf("child process ended before it reached taskrt.Main or taskrt.ServeChild (%s): %s",
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

// wait waits for the process, takes along what it has started, however it ended,
// and cleans up.
func (c *child) wait() {
	awaitExit(c.pid)
	close(c.exited)
	c.mu.Lock()
	// It is not waited for yet, so the group is still its own.
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

	_ = c.in.Close() // ends a write that waits
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

// log hands a record of the run to the logger, unless the run has logged enough.
func (c *child) log(run *activeRun, size int, r *codec.Reader) error {
	if !run.logged.Take(size) {
		return nil
	}
	rec, err := readRecord(r)
	if err != nil {
		return fmt.Errorf("decode log record: %w", err)
	}
	rec.AddAttrs(slog.Int("pid", c.pid))
	ctx := context.Background() // a record belongs to no call
	if h := c.pool.cfg.Logger.Handler(); h.Enabled(ctx, rec.Level) {
		_ = h.Handle(ctx, rec) // as slog does: nobody is there to be told
	}
	return nil
}
