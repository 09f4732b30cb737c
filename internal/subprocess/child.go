package subprocess

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// exitDelay is how long the end of a child's process and that of its pipes may
// lie apart: pipes can be held open by processes that left its group.
const exitDelay = 500 * time.Millisecond

// errNotSent marks a run that its child cannot have received.
var errNotSent = errors.New("run not sent")

// child is one child process as its parent sees it. Four goroutines belong to
// it: the readers of its three pipes, and wait, which ends after them.
type child struct {
	pool *Pool
	proc *os.Process
	pid  int

	in             *os.File // to the child
	out            *os.File // from the child
	w              frameWriter
	stdout, stderr *capture
	seq            uint64 // of the last run
	frame          []byte // of the last run, to be used again

	ready   chan struct{} // closed by its hello
	eof     chan struct{} // closed when out has ended
	exited  chan struct{} // closed when the process has ended
	gone    chan struct{} // closed when nothing is left of it
	readers sync.WaitGroup

	mu     sync.Mutex
	run    *activeRun
	doomed bool
	kind   string // why it was doomed
	cause  error
	reaped bool             // it was waited for: its id may be another's
	state  *os.ProcessState // once it is gone; nil when nobody could tell
}

// activeRun is the run that a child executes.
type activeRun struct {
	seq      uint64
	run      *broker.TaskRun
	calls    calls
	answer   *Response // once answered is closed
	answered chan struct{}
}

// start starts a process and its goroutines. It does not wait for its hello.
func (p *Pool) start() (*child, error) {
	c := &child{
		pool:   p,
		ready:  make(chan struct{}),
		eof:    make(chan struct{}),
		exited: make(chan struct{}),
		gone:   make(chan struct{}),
	}
	var pipes pipes
	defer pipes.closeTheirs()
	var stdout, stderr *os.File
	err := pipes.open(&c.in, &c.out, &stdout, &stderr)
	if err == nil {
		c.proc, err = p.startProcess(pipes.theirs)
	}
	if err != nil {
		pipes.closeOurs()
		return nil, err
	}
	c.pid = c.proc.Pid
	// SyscallConn of an open file has no error.
	c.stdout, _ = newCapture(stdout, p.cfg.Logger, "stdout", c.pid)
	c.stderr, _ = newCapture(stderr, p.cfg.Logger, "stderr", c.pid)
	c.w = frameWriter{w: c.in, max: p.cfg.MaxFrame}

	c.readers.Go(c.stdout.read)
	c.readers.Go(c.stderr.read)
	c.readers.Go(c.readFrames)
	p.work.Go(c.wait)
	p.adopt(c)
	// The pipe is empty and holds it; an error shows as a missing hello.
	_ = c.w.write(appendSetup(nil, p.cfg.MaxFrame), nil)
	return c, nil
}

// startProcess has the pool's starting thread start the binary.
func (p *Pool) startProcess(files []*os.File) (*os.Process, error) {
	reply := make(chan startReply, 1)
	p.starts <- startRequest{
		argv:  []string{os.Args[0]},
		attr:  &os.ProcAttr{Files: files, Env: childEnvironment(), Sys: processAttributes()},
		reply: reply,
	}
	r := <-reply
	return r.proc, r.err
}

func startProcess(argv []string, attr *os.ProcAttr) (*os.Process, error) {
	path, err := executable()
	if err != nil {
		return nil, fmt.Errorf("find own binary: %w", err)
	}
	return os.StartProcess(path, argv, attr)
}

// childEnvironment is what a child finds in its environment.
func childEnvironment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, childVariable+"=") {
			env = append(env, v)
		}
	}
	return append(env, childVariable+"=1")
}

// pipes are a child's standard streams and descriptors 3 and 4.
type pipes struct{ ours, theirs []*os.File }

func (p *pipes) open(in, out, stdout, stderr **os.File) error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("open standard input: %w", err)
	}
	p.theirs = []*os.File{null}
	for _, ours := range []**os.File{stdout, stderr, in, out} {
		r, w, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("open pipe: %w", err)
		}
		if ours == in {
			r, w = w, r
		}
		*ours = r
		p.ours, p.theirs = append(p.ours, r), append(p.theirs, w)
	}
	return nil
}

func (p *pipes) closeOurs() {
	for _, f := range p.ours {
		_ = f.Close() // a pipe's end has nothing to lose
	}
}

func (p *pipes) closeTheirs() {
	for _, f := range p.theirs {
		_ = f.Close()
	}
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
	if !c.doomed {
		e := newExitError(c.pid, c.state, Crashed, nil, "")
		err = fmt.Errorf("child process ended before it reached taskrt.Main or taskrt.ServeChild (%s): %s",
			e.status(), startHint)
	}
	return &StartError{Stderr: c.stderr.last(), Err: err}
}

// execute gives the child a run and returns what became of it.
func (c *child) execute(ctx context.Context, run *broker.TaskRun, deadline time.Time, memory int64) (*Response, error) {
	c.seq++
	r := &activeRun{seq: c.seq, run: run, answered: make(chan struct{})}
	r.calls.derive = func() (context.Context, context.CancelFunc) { return context.WithCancel(ctx) }
	o := order{run: run, level: int(lowestLevel(ctx, c.pool.cfg.Logger))}
	if !deadline.IsZero() {
		o.limited, o.left = true, time.Until(deadline)
	}
	frame, err := o.append(c.frame, r.seq)
	if err == nil {
		err = c.w.check(frame)
	}
	if err != nil {
		return nil, fmt.Errorf("send run to child process: %w", err)
	}
	if cap(frame) <= keepBuffer {
		c.frame = frame
	}
	c.stdout.begin(run.ID, run.Task)
	c.stderr.begin(run.ID, run.Task)
	c.mu.Lock()
	c.run = r
	c.mu.Unlock()
	defer c.finish(r)

	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		c.interrupt(ctx, r)
	})
	sendErr := c.w.write(frame, nil)
	if sendErr != nil && ctx.Err() != nil {
		c.doom(endOf(ctx))
	} else if sendErr != nil {
		c.doom(Protocol, fmt.Errorf("send run: %w", sendErr))
	}
	if memory > 0 {
		defer c.watchMemory(memory)()
	}
	select {
	case <-r.answered:
	case <-c.gone:
	}
	if !stop() {
		<-interrupted
	}
	return c.outcome(r, sendErr)
}

// outcome is what became of a run that was answered, or whose child is gone.
func (c *child) outcome(r *activeRun, sendErr error) (*Response, error) {
	select {
	case <-r.answered:
		r.answer.PID = c.pid
		return r.answer, nil
	default:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if sendErr != nil && c.kind != Timeout && c.kind != Cancelled {
		return nil, fmt.Errorf("%w: %w", errNotSent, sendErr)
	}
	return nil, newExitError(c.pid, c.state, c.kind, c.cause, c.stderr.last())
}

// finish ends what belongs to a run besides its answer.
func (c *child) finish(r *activeRun) {
	r.calls.end()
	c.stdout.end()
	c.stderr.end()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.run = nil
}

// interrupt cancels the handler's context in the child, and kills the child
// if it does not answer within the grace. It returns when the run is over.
func (c *child) interrupt(ctx context.Context, r *activeRun) {
	kind, cause := endOf(ctx)
	grace := time.NewTimer(c.pool.cfg.Grace)
	defer grace.Stop()
	// A stopped child leaves the pipe full, and then the frame of the run or
	// this one waits for it; not longer than the grace.
	_ = c.in.SetWriteDeadline(time.Now().Add(c.pool.cfg.Grace))
	err := c.w.write(appendCancel(nil, r.seq, kind == Timeout, cause), nil)
	select {
	case <-r.answered:
		if err != nil { // the next frame might follow half of this one
			c.doom(Protocol, fmt.Errorf("send cancellation: %w", err))
		}
		_ = c.in.SetWriteDeadline(time.Time{})
	case <-c.gone:
	case <-grace.C:
		c.doom(kind, cause)
	}
}

// endOf says why a context has ended.
func endOf(ctx context.Context) (kind string, cause error) {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return Timeout, context.Cause(ctx)
	}
	return Cancelled, context.Cause(ctx)
}

// dismiss ends an idle child, by force if it does not end within the grace.
func (c *child) dismiss(grace time.Duration) {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	_ = c.in.SetWriteDeadline(time.Now().Add(grace))
	_ = c.w.write(newFrame(nil, frameBye, 0), nil) // unread, it ends by the timer
	select {
	case <-c.exited:
	case <-timer.C:
		c.doom(Cancelled, ErrClosed)
	}
	c.awaitGone()
}

// doom kills the child and its group, and says why. Only the first reason
// counts. It reports whether the child was alive and not doomed.
func (c *child) doom(kind string, cause error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.doomed || c.reaped {
		return false
	}
	c.doomed, c.kind, c.cause = true, kind, cause
	killGroup(c.pid)
	return true
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
	return !c.doomed
}

func (c *child) awaitGone() { <-c.gone }

// wait waits for the process, takes the rest of its group along and cleans up.
func (c *child) wait() {
	awaitExit(c.pid, c.eof)
	close(c.exited)
	c.mu.Lock()
	// It is not waited for yet, so the group is still its own.
	killGroup(c.pid)
	state, err := c.proc.Wait()
	if err == nil {
		c.state = state
	}
	c.reaped = true
	c.mu.Unlock()

	_ = c.in.Close() // ends a write that waits
	until := time.Now().Add(exitDelay)
	_ = c.out.SetReadDeadline(until)
	c.stdout.expect(until)
	c.stderr.expect(until)
	c.readers.Wait()
	for _, f := range []io.Closer{c.out, c.stdout.file, c.stderr.file} {
		_ = f.Close()
	}
	c.pool.forget(c)
	close(c.gone)
}

// readFrames serves the child's frames until they end.
func (c *child) readFrames() {
	err := c.receive()
	close(c.eof)
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
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// It is the hello's, or that of an ended child's last words.
		c.doom(Timeout, startTimeoutError(c.pool.cfg.StartTimeout))
		return
	}
	c.doom(Protocol, err)
}

func (c *child) receive() error {
	frames := newFrameReader(c.out)
	_ = c.out.SetReadDeadline(time.Now().Add(c.pool.cfg.StartTimeout))
	body, err := frames.next()
	if err != nil {
		return err
	}
	kind, _, r, err := openFrame(body)
	if err == nil && kind != frameHello {
		err = fmt.Errorf("frame of type %d where a hello was expected", kind)
	}
	if err == nil {
		err = readHello(r)
	}
	if err != nil {
		return err
	}
	frames.max = c.pool.cfg.MaxFrame
	c.mu.Lock()
	if !c.reaped {
		_ = c.out.SetReadDeadline(time.Time{})
	}
	c.mu.Unlock()
	close(c.ready)
	for {
		body, err := frames.next()
		if err == nil {
			err = c.serve(body)
		}
		if err != nil {
			return err
		}
	}
}

// serve handles one frame. An error means that the child is not to be trusted.
func (c *child) serve(body []byte) error {
	kind, seq, r, err := openFrame(body)
	if err != nil {
		return err
	}
	c.mu.Lock()
	run := c.run
	c.mu.Unlock()
	if run == nil || run.seq != seq || run.answer != nil {
		return fmt.Errorf("frame of type %d for run number %d, which is not being executed", kind, seq)
	}
	switch kind {
	case frameAnswer:
		answer, err := readAnswer(r)
		if err != nil {
			return fmt.Errorf("decode answer: %w", err)
		}
		run.answer = answer
		close(run.answered)
		return nil
	case frameCall:
		id, method, body := r.Uint64(), r.String(), r.Bytes()
		if err := r.Done(); err != nil {
			return fmt.Errorf("decode call: %w", err)
		}
		return c.serveCall(run, id, method, body)
	case frameForget:
		id := r.Uint64()
		if err := r.Done(); err != nil {
			return fmt.Errorf("decode end of call: %w", err)
		}
		run.calls.forget(id)
		return nil
	case frameLog:
		return c.log(r)
	}
	return fmt.Errorf("frame of unexpected type %d", kind)
}
