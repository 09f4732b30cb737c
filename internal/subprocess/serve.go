package subprocess

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// childVariable marks a process that a pool started.
const childVariable = "TASKGEN_CHILD"

// inChild looks once: afterwards the mark is gone.
var inChild = sync.OnceValue(func() bool {
	if _, ok := os.LookupEnv(childVariable); !ok {
		return false
	}
	// Processes started from here are not children of the pool.
	_ = os.Unsetenv(childVariable) // it fails only for an impossible name
	return inherited()
})

// InChild reports whether this process was started by a [Pool]. The first call
// hides that, and the pipes to the parent, from processes that are started
// later, so it stands first in main. It may be called concurrently.
func InChild() bool { return inChild() }

// Handle executes a run in a child process. Its ctx ends when the run is to
// stop, with a cause. Its panic ends the process.
type Handle = func(ctx context.Context, run *broker.TaskRun, parent *Parent) *Response

// Serve executes the runs that the parent sends with handle, one after the
// other, until the parent says that there are no more; then it returns nil and
// the process is to exit. If the parent goes without saying so, Serve kills
// the process and its group. It also returns when ctx ends, once the handler
// has returned, and with an error when this is no child or the parent's frames
// make no sense. It is called once, from main's goroutine, without delay.
func Serve(ctx context.Context, handle Handle) error {
	if !InChild() {
		return errors.New("serve runs: this process was not started by a pool")
	}
	settle()
	defer holdSignals()()
	in, err := openInherited(3, "from parent")
	if err != nil {
		return fmt.Errorf("serve runs: %w", err)
	}
	out, err := openInherited(4, "to parent")
	if err != nil {
		return fmt.Errorf("serve runs: %w", err)
	}
	s := &server{handle: handle, frames: newFrameReader(in), w: frameWriter{w: out, max: maxHandshake}}
	ctx, cancel := context.WithCancel(ctx)
	defer s.work.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = in.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	err = s.serve(ctx)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("serve runs: %w", context.Cause(ctx))
	case errors.Is(err, errBye):
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		killOwnGroup()
	}
	return fmt.Errorf("serve runs: %w", err)
}

// errBye is the parent's goodbye.
var errBye = errors.New("no more runs")

// server is the child's end. The goroutine that reads frames owns it; a run is
// executed on another.
type server struct {
	handle Handle
	frames *frameReader
	w      frameWriter
	work   sync.WaitGroup

	mu  sync.Mutex
	run *Parent // the one that is executed
}

func (s *server) serve(ctx context.Context) error {
	body, err := s.frames.next()
	if err != nil {
		return err
	}
	kind, _, r, err := openFrame(body)
	if err == nil && kind != frameSetup {
		err = fmt.Errorf("frame of type %d where a setup was expected", kind)
	}
	if err != nil {
		return err
	}
	limit, err := readSetup(r)
	if err != nil {
		return fmt.Errorf("decode setup: %w", err)
	}
	s.frames.max, s.w.max = limit, limit
	if err := s.w.write(appendHello(nil), nil); err != nil {
		return fmt.Errorf("send hello: %w", err)
	}
	for {
		body, err := s.frames.next()
		if err == nil {
			err = s.receive(ctx, body)
		}
		if err != nil {
			return err
		}
	}
}

func (s *server) receive(ctx context.Context, body []byte) error {
	kind, seq, r, err := openFrame(body)
	if err != nil {
		return err
	}
	s.mu.Lock()
	run := s.run
	s.mu.Unlock()
	if run != nil && run.seq != seq {
		run = nil // late word for a run that is over
	}
	switch kind {
	case frameRun:
		o, err := readOrder(r)
		if err != nil {
			return fmt.Errorf("decode run: %w", err)
		}
		return s.begin(ctx, seq, o)
	case frameCancel:
		timeout, text := r.Bool(), r.String()
		if err := r.Done(); err != nil {
			return fmt.Errorf("decode cancellation: %w", err)
		}
		// A deadline that passed is for the context's own timer to say, so
		// that its Err is the right one.
		if run != nil && !(timeout && run.limited) {
			run.cancel(cancelCause(timeout, text))
		}
		return nil
	case frameReply:
		id, body, callErr, err := readReply(r)
		if err != nil {
			return fmt.Errorf("decode reply: %w", err)
		}
		if run != nil {
			run.reply(id, body, callErr)
		}
		return nil
	case frameBye:
		return errBye
	}
	return fmt.Errorf("frame of unexpected type %d", kind)
}

// begin starts executing a run.
func (s *server) begin(ctx context.Context, seq uint64, o order) error {
	run := &Parent{server: s, seq: seq, level: slog.Level(o.level), limited: o.limited, done: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != nil {
		return fmt.Errorf("run number %d came while number %d is executed", seq, s.run.seq)
	}
	ctx, run.cancel = context.WithCancelCause(ctx)
	release := context.CancelFunc(func() {})
	if o.limited {
		ctx, release = context.WithTimeout(ctx, o.left)
	}
	s.run = run
	s.work.Go(func() {
		defer run.cancel(nil)
		defer release()
		s.execute(ctx, run, o.run)
	})
	return nil
}

// execute calls the handler and sends its answer.
func (s *server) execute(ctx context.Context, run *Parent, task *broker.TaskRun) {
	var answer *Response
	defer func() {
		if answer == nil {
			if v := recover(); v != nil {
				// As Go would end it, but not through a second panic.
				fmt.Fprintf(os.Stderr, "panic: %v\n\n%s", v, debug.Stack())
				os.Exit(2)
			}
			answer = &Response{Failure: &broker.Failure{Kind: "failed", Message: "the handler ended without an answer"}}
		}
		s.answer(run, answer)
	}()
	answer = s.handle(ctx, task, run)
}

// answer sends a run's last frame. What comes of the run later is dropped
// before it is written, so the parent never sees it.
func (s *server) answer(run *Parent, a *Response) {
	frame := a.append(nil, run.seq)
	if err := s.w.check(frame); err != nil {
		a = &Response{Permanent: true, Failure: &broker.Failure{
			Kind: "failed", Message: fmt.Sprintf("send result: %v", err)}}
		frame = a.append(nil, run.seq)
	}
	s.mu.Lock()
	s.run = nil // before the frame: the next run may follow it at once
	s.mu.Unlock()
	// Without a parent nobody is to be told; the reader sees its end too.
	_ = s.w.write(frame, func() bool {
		run.over = true
		return true
	})
	close(run.done)
}

// cancelCause is the cause that a handler's context ends with.
func cancelCause(timeout bool, text string) error {
	kind := context.Canceled
	if timeout {
		kind = context.DeadlineExceeded
	}
	return &cause{text: text, kind: kind}
}

// cause carries the text of the parent's cause, and is what ended it.
type cause struct {
	text string
	kind error
}

func (c *cause) Error() string { return c.text }
func (c *cause) Unwrap() error { return c.kind }

// Parent is the parent process as one run sees it. Its methods may be called
// concurrently, and return errors once the run is over.
type Parent struct {
	server  *server
	seq     uint64
	level   slog.Level
	limited bool // the handler's context has a deadline
	cancel  context.CancelCauseFunc
	done    chan struct{} // closed when the run is over
	over    bool          // no more frames of it; under the writer's lock

	mu    sync.Mutex
	last  uint64
	calls map[uint64]chan<- callResult
}

type callResult struct {
	body []byte
	err  error
}

// Call asks the parent's Config.Call and returns its reply. It returns an
// error when ctx or the run ends first, when body or reply is larger than a
// frame may be, and the text of the error that Config.Call returned.
func (p *Parent) Call(ctx context.Context, method string, body []byte) ([]byte, error) {
	result := make(chan callResult, 1)
	p.mu.Lock()
	if p.calls == nil {
		p.calls = make(map[uint64]chan<- callResult)
	}
	p.last++
	id := p.last
	p.calls[id] = result
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.calls, id)
	}()
	if err := p.send(appendCall(p.seq, id, method, body)); err != nil {
		return nil, fmt.Errorf("call parent process: %s: %w", method, err)
	}
	err := errRunOver
	select {
	case r := <-result:
		if r.err == nil {
			return r.body, nil
		}
		err = r.err
	case <-ctx.Done():
		_ = p.send(appendForget(p.seq, id)) // if the run is over, so is the call
		err = context.Cause(ctx)
	case <-p.done:
	}
	return nil, fmt.Errorf("call parent process: %s: %w", method, err)
}

// send writes a frame of the run unless it is over.
func (p *Parent) send(frame []byte) error {
	return p.server.w.write(frame, func() bool { return !p.over })
}

func (p *Parent) reply(id uint64, body []byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if result, ok := p.calls[id]; ok {
		result <- callResult{body, err} // has room for the one reply
		delete(p.calls, id)
	}
}
