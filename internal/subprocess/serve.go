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
	"github.com/taskgen/taskgen/internal/subprocess/orphan"
)

// childVariable marks a process that a pool started.
const childVariable = "TASKGEN_CHILD"

// inChild looks once: afterwards the mark is gone.
var inChild = sync.OnceValue(func() bool {
	text, ok := os.LookupEnv(childVariable)
	if !ok {
		return false
	}
	// Processes started from here are not children of the pool.
	_ = os.Unsetenv(childVariable) // it fails only for an impossible name
	if !inherited() {
		return false
	}
	parseStartInfo(text).apply()
	return true
})

// InChild reports whether this process was started by a [Pool]. The first call
// hides that, and the pipes to the parent, from processes that are started
// later, so it stands first in main. It may be called concurrently.
func InChild() bool { return inChild() }

// Handle executes a run in a child process. Its ctx ends when the run is to
// stop, with a cause. Its panic ends the process; its Goexit fails the run.
// Several runs may be executed on one goroutine, one after the other.
type Handle = func(ctx context.Context, run *broker.TaskRun, parent *Parent) *Response

// Serve executes the runs that the parent sends with handle, one after the
// other, until the parent says that there are no more; then it returns nil and
// the process is to exit. If the parent goes without saying so, Serve kills
// the process and what it started. It returns an error when this is no child
// or the parent's frames make no sense. The contexts of the runs are made from
// ctx. Serve is called once, from main's goroutine, without delay.
//
// With a schema that lacks an entry of the parent's Config.Schema the parent
// ends the process and sends it no runs.
func Serve(ctx context.Context, schema []string, handle Handle) error {
	if !InChild() {
		return errors.New("serve runs: this process was not started by a pool")
	}
	prepareChild()
	orphans := orphan.Start(outliveParent)
	defer orphans.End()
	in, err := openInherited(3)
	if err != nil {
		return fmt.Errorf("serve runs: %w", err)
	}
	out, err := openInherited(4)
	if err != nil {
		return fmt.Errorf("serve runs: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{
		handle: handle,
		derive: func() (context.Context, context.CancelCauseFunc) { return context.WithCancelCause(ctx) },
		frames: newFrameReader(in, maxSetup),
		w:      frameWriter{w: out, max: maxHello},
		ended:  make(chan error, 1),
	}
	asked, release := holdSignals()
	defer release()
	go s.sendStacks(asked) // until release
	s.clock = time.AfterFunc(time.Hour, s.tick)
	defer s.clock.Stop()
	if err = s.handshake(schema); err == nil {
		go s.lead() // this goroutine may be main's, and must not meet a Goexit
		err = <-s.ended
	}
	switch {
	case errors.Is(err, errShutdown):
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		killOwnTree()
	}
	return fmt.Errorf("serve runs: %w", err)
}

// errShutdown is the parent's goodbye.
var errShutdown = errors.New("no more runs")

// server is the child's end. At any time one goroutine leads: it reads the
// parent's frames, and executes a run itself when one comes. That saves a short
// run all switches between goroutines. Meanwhile nobody reads; so when a run
// takes long, or waits for the parent's word, another goroutine is started to
// lead, and the run's own ends with it.
type server struct {
	handle Handle
	derive func() (context.Context, context.CancelCauseFunc)
	frames *frameReader // the leader's
	w      frameWriter
	cap    memoryCap  // the run's that is executed
	ended  chan error // holds what ended the leading

	mu      sync.Mutex
	run     *Parent // the one that is executed
	clock   *time.Timer
	ticking bool    // the clock is set
	seen    *Parent // the run at the last tick
}

// leadFor is how long a run goes on before another goroutine leads, twice that
// at most.
const leadFor = 2 * time.Millisecond

// introduce takes what the parent says first, and answers it.
func (s *server) handshake(schema []string) error {
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
	setup, err := readSetup(r)
	if err != nil {
		return fmt.Errorf("decode setup: %w", err)
	}
	s.frames.max, s.w.max = setup.maxFrame, setup.maxFrame
	h := setup.limits.apply()
	h.missing = firstMissing(setup.schema, fingerprints(schema))
	if err := s.w.write(h.append(nil), nil); err != nil {
		return fmt.Errorf("send hello: %w", err)
	}
	return nil // with something missing the parent says so, and ends this process
}

// lead reads frames until they end or another goroutine leads.
func (s *server) lead() {
	var scratch []byte // for the answers
	for leading := true; leading; {
		body, err := s.frames.next()
		if err == nil {
			leading, err = s.receive(body, &scratch)
		}
		if err != nil {
			s.ended <- err
			return
		}
	}
}

// receive handles one frame and reports whether the caller still leads.
func (s *server) receive(body []byte, scratch *[]byte) (leading bool, err error) {
	kind, seq, r, err := openFrame(body)
	if err != nil {
		return false, err
	}
	if kind == frameRun {
		o, err := readRunMessage(r)
		if err != nil {
			return false, fmt.Errorf("decode run: %w", err)
		}
		return s.execute(seq, o, scratch)
	}
	s.mu.Lock()
	run := s.run
	s.mu.Unlock()
	if run != nil && run.seq != seq {
		run = nil // late word for a run that is over
	}
	switch kind {
	case frameCancel:
		timeout, text := r.Bool(), r.String()
		if err := r.Done(); err != nil {
			return false, fmt.Errorf("decode cancellation: %w", err)
		}
		// A deadline that passed is for the context's own timer to say, so
		// that its Err is the right one.
		if run != nil && !(timeout && run.hasDeadline) {
			run.cancel(cancelCause(timeout, text))
		}
		return true, nil
	case frameReply:
		id, body, callErr, err := readReply(r)
		if err != nil {
			return false, fmt.Errorf("decode reply: %w", err)
		}
		if run != nil {
			run.reply(id, body, callErr)
		}
		return true, nil
	case frameShutdown:
		return false, errShutdown
	}
	return false, fmt.Errorf("frame of unexpected type %d", kind)
}

// execute calls the handler and sends its answer. It reports whether the
// caller still leads.
func (s *server) execute(seq uint64, o runMessage, scratch *[]byte) (leading bool, err error) {
	run := &Parent{server: s, seq: seq, level: slog.Level(o.level), decode: o.decode, hasDeadline: o.hasDeadline, done: make(chan struct{})}
	ctx, cancel := s.derive()
	defer cancel(nil)
	run.cancel = cancel
	if err := s.begin(run); err != nil {
		return false, err
	}
	if o.hasDeadline {
		var release context.CancelFunc
		ctx, release = context.WithTimeout(ctx, o.remaining)
		defer release()
	}
	s.cap.set(o.memory)
	var answer *Response
	defer func() {
		goexit := false
		if answer == nil {
			if v := recover(); v != nil {
				// As Go would end it, but not through a second panic.
				fmt.Fprintf(os.Stderr, "panic: %v\n\n%s", v, debug.Stack())
				os.Exit(2)
			}
			goexit = true // or nil was returned, which is as bad
			answer = &Response{Failure: &broker.Failure{Kind: broker.FailureFailed, Message: "the task called runtime.Goexit"}}
		}
		leading = s.answer(run, answer, scratch)
		if goexit && leading {
			leading = false
			go s.lead() // this goroutine ends
		}
	}()
	answer = s.handle(ctx, o.run, run)
	return // what the deferred function says
}

// begin makes a run the one that is executed.
func (s *server) begin(run *Parent) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != nil {
		return fmt.Errorf("run number %d came while number %d is executed", run.seq, s.run.seq)
	}
	s.run, run.leads = run, true
	if !s.ticking {
		s.ticking = true
		s.clock.Reset(leadFor)
	}
	return nil
}

// tick has another goroutine lead when the run that executes did so at the
// tick before. The clock is set by runs and not by each of them: setting it is
// not for nothing.
func (s *server) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	run := s.run
	if run == nil || !run.leads {
		s.ticking, s.seen = false, nil
		return
	}
	if run == s.seen {
		s.ticking, s.seen = false, nil
		s.handOver(run)
		return
	}
	s.seen = run
	s.clock.Reset(leadFor)
}

// handOver has another goroutine lead than the run's. The caller holds the
// lock.
func (s *server) handOver(run *Parent) {
	if run.leads && s.run == run {
		run.leads = false
		go s.lead() // the process ends with the last that leads
	}
}

// answer sends a run's last frame, and reports whether the run's goroutine
// leads. What comes of the run later is dropped before it is written, so the
// parent never sees it.
func (s *server) answer(run *Parent, a *Response, scratch *[]byte) (leading bool) {
	frame := a.append(*scratch, run.seq)
	if err := s.w.check(frame); err != nil {
		a = &Response{Permanent: true, Failure: &broker.Failure{
			Kind: broker.FailureFailed, Message: fmt.Sprintf("send result: %v", err)}}
		frame = a.append(nil, run.seq)
	}
	if cap(frame) <= keepBuffer {
		*scratch = frame
	}
	s.mu.Lock()
	s.run = nil // before the frame: the next run may follow it at once
	leading = run.leads
	s.mu.Unlock()
	// Without a parent nobody is to be told; the reader sees its end too.
	_ = s.w.write(frame, func() bool {
		run.over = true
		return true
	})
	close(run.done)
	return leading
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
