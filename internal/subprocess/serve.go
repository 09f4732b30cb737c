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

// childVariable is set in a process that a pool started.
const childVariable = "TASKGEN_CHILD"

// inChild reads the variable once and unsets it.
var inChild = sync.OnceValue(func() bool {
	text, ok := os.LookupEnv(childVariable)
	if !ok {
		return false
	}
	// Processes that this one starts are not children of the pool.
	_ = os.Unsetenv(childVariable) // fails only for an impossible name
	if !inherited() {
		return false
	}
	parseStartInfo(text).apply()
	return true
})

// InChild reports whether this process was started by a [Pool]. The first call hides
// the variable and the pipes from processes that are started later, so main calls it
// first. It may be called concurrently.
func InChild() bool { return inChild() }

// Handle executes a run in a child process. When the run must stop, ctx ends with a
// cause. A panic ends the process; runtime.Goexit fails the run. One goroutine may
// execute several runs, one after the other.
type Handle = func(ctx context.Context, run *broker.TaskRun, parent *Parent) *Response

// Serve executes the parent's runs with handle, one after the other. It blocks until
// the parent sends no more, and returns nil; then the process must exit. If the
// parent vanishes, Serve kills this process and everything that it started.
//
// Serve returns an error if this process is no child or a frame of the parent is
// malformed. The contexts of the runs derive from ctx. Serve must be called once,
// from main's goroutine, without delay.
//
// If schema lacks an entry of the parent's Config.Schema, the parent sends no runs
// and kills the process.
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
		go s.lead() // not on this goroutine, which may be main's: a task may call Goexit
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

// errShutdown means that the parent sends no more runs.
var errShutdown = errors.New("no more runs")

// server is the child's end. One goroutine at a time leads (the leader/followers
// pattern): it reads the parent's frames, and executes a run itself when one comes.
// So a short run needs no switch of goroutines.
//
// Nobody reads while the leader executes a run. So if the run takes long or waits for
// the parent, a new goroutine starts to lead, and the run's goroutine ends with the
// run.
type server struct {
	handle Handle
	derive func() (context.Context, context.CancelCauseFunc)
	frames *frameReader // the leader's
	w      frameWriter
	cap    memoryCap  // of the executing run
	ended  chan error // the error that ended reading

	mu      sync.Mutex
	run     *Parent // the executing run
	clock   *time.Timer
	ticking bool    // the clock is running
	seen    *Parent // the run at the last tick
}

// leadFor is how long a run executes before another goroutine leads, at most twice.
const leadFor = 2 * time.Millisecond

// handshake reads the parent's setup and sends the hello.
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
	return nil // if a task is missing, the parent reports it and kills this process
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
		run = nil // a late frame of an ended run
	}
	switch kind {
	case frameCancel:
		timeout, text := r.Bool(), r.String()
		if err := r.Done(); err != nil {
			return false, fmt.Errorf("decode cancellation: %w", err)
		}
		// A passed deadline is left to the context's own timer, so that its Err is
		// DeadlineExceeded.
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

// execute calls the handler and sends its answer. It reports whether the caller still
// leads.
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
				// Print the panic as Go would; panicking again would add a second
				// one.
				fmt.Fprintf(os.Stderr, "panic: %v\n\n%s", v, debug.Stack())
				os.Exit(2)
			}
			goexit = true // or the handler returned nil, which is as bad
			answer = &Response{Failure: &broker.Failure{Kind: broker.FailureFailed, Message: "the task called runtime.Goexit"}}
		}
		leading = s.answer(run, answer, scratch)
		if goexit && leading {
			leading = false
			go s.lead() // this goroutine ends
		}
	}()
	answer = s.handle(ctx, o.run, run)
	return // the deferred function sets the results
}

// begin makes run the executing one.
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

// tick starts another leader if the executing run was already leading at the tick
// before. Not every run sets the clock, because setting it costs time.
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

// handOver starts another leader if the run's goroutine leads. The caller holds the
// lock.
func (s *server) handOver(run *Parent) {
	if run.leads && s.run == run {
		run.leads = false
		go s.lead() // ends with the process
	}
}

// answer sends a run's last frame, and reports whether the run's goroutine leads.
// Later frames of the run are dropped before they are written.
func (s *server) answer(run *Parent, a *Response, scratch *[]byte) (leading bool) {
	frame := a.append(*scratch, run.seq)
	if err := s.w.check(frame); err != nil {
		a = &Response{Permanent: true, Failure: &broker.Failure{
			Kind: broker.FailureFailed, Message: fmt.Sprintf("send what the task returned: %v", err)}}
		frame = a.append(nil, run.seq)
	}
	if cap(frame) <= keepBuffer {
		*scratch = frame
	}
	s.mu.Lock()
	s.run = nil // before the frame is written, because the next run may follow at once
	leading = run.leads
	s.mu.Unlock()
	// If the parent is gone, the reader finds out too.
	_ = s.w.write(frame, func() bool {
		run.over = true
		return true
	})
	close(run.done)
	return leading
}

// cancelCause returns the cause of a handler's cancelled context.
func cancelCause(timeout bool, text string) error {
	kind := context.Canceled
	if timeout {
		kind = context.DeadlineExceeded
	}
	return &cause{text: text, kind: kind}
}

// cause carries the text of the parent's cause and the kind of the end.
type cause struct {
	text string
	kind error
}

func (c *cause) Error() string { return c.text }
func (c *cause) Unwrap() error { return c.kind }
