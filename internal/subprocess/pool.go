package subprocess

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// Config says how a pool works. Its zero value works.
type Config struct {
	// Processes is how many children there may be at once. Defaults to
	// GOMAXPROCS.
	Processes int

	// StartTimeout is how long a started child may take until its hello.
	// Defaults to 10 seconds.
	StartTimeout time.Duration

	// Grace is the time between asking a child to end its run, or itself, and
	// killing it with its group. Defaults to 1 second.
	Grace time.Duration

	// MaxFrame is the size in bytes of the largest frame, and so nearly that
	// of the largest run, result and call. It is at least 1 MiB and at most
	// 1 GiB. Defaults to 16 MiB.
	MaxFrame int

	// Logger gets the children's output, a record a line with the attributes
	// run, task, pid and stream (standard output at Info, standard error at
	// Warn), and the records of Parent.Handler with the attribute pid. A
	// slow one slows the children down. Defaults to slog.Default.
	Logger *slog.Logger

	// Call serves a request that a run makes while it executes; method and
	// body are the caller's own. Its ctx is that of Run and ends with the run,
	// which waits for it. It is called concurrently. Its error crosses as
	// text. Defaults to one that refuses every call.
	Call func(ctx context.Context, run *broker.TaskRun, method string, body []byte) ([]byte, error)
}

// Request is a run to be executed.
type Request struct {
	Run *broker.TaskRun
	// Deadline is when the attempt has to be over. Defaults to ctx's, which
	// holds too when it is earlier.
	Deadline time.Time
	// Memory is the resident size in bytes beyond which the child is killed,
	// where the system tells it (Linux). 0 is no cap.
	Memory int64
}

// Response is what the child's handler said.
type Response struct {
	Result     []byte          // of a success
	Failure    *broker.Failure // nil for a success; its Kind defaults to failed
	Permanent  bool            // trying again would not help
	RetryAfter time.Duration   // the earliest time to try again, 0 when it does not say
	PID        int             // of the child; set by the pool
}

// Pool is up to Config.Processes warm child processes. Its methods may be
// called concurrently. It needs a Close.
type Pool struct {
	cfg Config

	slots   chan struct{} // holds one element for each child in use
	starts  chan startRequest
	closing chan struct{} // closed by the first Close
	closed  chan struct{} // closed when nothing is left
	work    sync.WaitGroup

	mu       sync.Mutex
	idle     []*child // the last used at the end: it is the warmest
	children map[*child]struct{}
	killed   int // children killed because Close's ctx ended; -1 while it has not
}

type startRequest struct {
	argv  []string
	attr  *os.ProcAttr
	reply chan<- startReply
}

type startReply struct {
	proc *os.Process
	err  error
}

// NewPool returns a pool without children; they are started on demand.
func NewPool(cfg Config) (*Pool, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("make pool of child processes: %w", err)
	}
	p := &Pool{
		cfg:      cfg,
		slots:    make(chan struct{}, cfg.Processes),
		starts:   make(chan startRequest),
		closing:  make(chan struct{}),
		closed:   make(chan struct{}),
		children: make(map[*child]struct{}),
		killed:   -1,
	}
	p.work.Go(p.startProcesses)
	return p, nil
}

func (c Config) withDefaults() (Config, error) {
	if c.Processes == 0 {
		c.Processes = runtime.GOMAXPROCS(0)
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = 10 * time.Second
	}
	if c.Grace == 0 {
		c.Grace = time.Second
	}
	if c.MaxFrame == 0 {
		c.MaxFrame = 16 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Call == nil {
		c.Call = func(context.Context, *broker.TaskRun, string, []byte) ([]byte, error) {
			return nil, errors.New("no calls are served")
		}
	}
	switch {
	case c.Processes < 0:
		return c, fmt.Errorf("field Processes is %d, negative", c.Processes)
	case c.StartTimeout < 0:
		return c, fmt.Errorf("field StartTimeout is %v, negative", c.StartTimeout)
	case c.Grace < 0:
		return c, fmt.Errorf("field Grace is %v, negative", c.Grace)
	case c.MaxFrame < 1<<20 || c.MaxFrame > 1<<30:
		return c, fmt.Errorf("field MaxFrame is %d, outside 1 MiB to 1 GiB", c.MaxFrame)
	}
	return c, nil
}

// Run executes a run in a child process. It waits until one is free and starts
// one if none is idle.
//
// When ctx ends, or the deadline passes, the handler's context is cancelled in
// the child. If it then answers within Config.Grace, Run returns that answer
// and the child stays warm; otherwise its process group is killed and Run
// returns an [*ExitError] of kind Timeout if a deadline ended it, Cancelled if
// not. An ExitError is also what a child's crash and nonsense end with; the
// process is gone then, and the next run gets another.
//
// A run that never started returns another error: a [*StartError] when no
// child could be started, one that wraps [ErrTooLarge], [ErrClosed], or ctx's
// cause when ctx ended before a child was free.
func (p *Pool) Run(ctx context.Context, req *Request) (*Response, error) {
	deadline := req.Deadline
	if d, ok := ctx.Deadline(); ok && (deadline.IsZero() || d.Before(deadline)) {
		deadline = d
	} else if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	if err := p.acquire(ctx); err != nil {
		return nil, err
	}
	// An idle child may have died unseen. Its end of the pipe is closed then,
	// so the run certainly did not start, and another child can have it.
	for attempts := 0; ; attempts++ {
		c, err := p.take(ctx)
		if err != nil {
			return nil, err
		}
		resp, err := c.execute(ctx, req.Run, deadline, req.Memory)
		if !errors.Is(err, errNotSent) {
			p.release(c)
			return resp, err
		}
		if attempts > p.cfg.Processes {
			p.release(c)
			return nil, &StartError{Stderr: c.stderr.last(), Err: err}
		}
	}
}

// acquire takes a slot.
func (p *Pool) acquire(ctx context.Context) error {
	select {
	case <-p.closing:
		return ErrClosed
	default:
	}
	if ctx.Err() == nil {
		select {
		case p.slots <- struct{}{}:
			return nil
		case <-p.closing:
			return ErrClosed
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("wait for a child process: %w", context.Cause(ctx))
}

// take returns an idle child or a new one. The caller has a slot, which an
// error frees.
func (p *Pool) take(ctx context.Context) (*child, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return c, nil
	}
	p.mu.Unlock()
	c, err := p.start()
	if err != nil {
		<-p.slots
		return nil, &StartError{Err: err}
	}
	select {
	case <-ctx.Done():
		// A short deadline must not kill each child before it is warm: this
		// one becomes idle once it is, and keeps the slot until then.
		p.work.Go(func() {
			if err := c.awaitHello(); err != nil {
				<-p.slots
				return
			}
			p.release(c)
		})
		return nil, fmt.Errorf("wait for a child process: %w", context.Cause(ctx))
	case <-c.ready:
	case <-c.exited:
	}
	if err := c.awaitHello(); err != nil {
		<-p.slots
		return nil, err
	}
	return c, nil
}

// release makes a child idle, or waits until it is gone, and frees its slot.
func (p *Pool) release(c *child) {
	defer func() { <-p.slots }()
	p.mu.Lock()
	if c.usable() {
		p.idle = append(p.idle, c)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	c.awaitGone()
}

// forget is told by a child that has ended.
func (p *Pool) forget(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.children, c)
	p.idle = slices.DeleteFunc(p.idle, func(i *child) bool { return i == c })
}

// adopt counts a started child as one of the pool's.
func (p *Pool) adopt(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.children[c] = struct{}{}
	if p.killed >= 0 && c.doom(Cancelled, ErrClosed) {
		p.killed++
	}
}

// startProcesses starts all of the pool's processes from one thread, which
// lives as long as they do: the kernel sends the parent-death signal when the
// thread that started a process ends, not when the parent does.
func (p *Pool) startProcesses() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for r := range p.starts {
		proc, err := startProcess(r.argv, r.attr)
		r.reply <- startReply{proc, err}
	}
}

// Close refuses new runs, lets those that execute end until ctx does, then
// kills their children, and waits until every process and goroutine of the
// pool has ended. It returns an error when it had to kill. Further calls wait
// for the first.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	first := true
	select {
	case <-p.closing:
		first = false
	default:
		close(p.closing)
	}
	p.mu.Unlock()

	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		p.killAll()
	})
	if first {
		p.shutdown()
		close(p.closed)
	}
	<-p.closed
	if !stop() {
		<-done
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killed > 0 {
		return fmt.Errorf("close pool of child processes: killed %d of them", p.killed)
	}
	return nil
}

// shutdown waits for the runs, then ends the children and the starter.
func (p *Pool) shutdown() {
	for range cap(p.slots) {
		p.slots <- struct{}{} // no run can take one any more
	}
	p.mu.Lock()
	idle := slices.Clone(p.idle)
	p.mu.Unlock()
	var ends sync.WaitGroup
	for _, c := range idle {
		ends.Go(func() { c.dismiss(p.cfg.Grace) })
	}
	ends.Wait()
	p.awaitChildren()
	close(p.starts)
	p.work.Wait()
}

// awaitChildren waits for children that ended by themselves just now.
func (p *Pool) awaitChildren() {
	p.mu.Lock()
	rest := make([]*child, 0, len(p.children))
	for c := range p.children {
		rest = append(rest, c)
	}
	p.mu.Unlock()
	for _, c := range rest {
		c.awaitGone()
	}
}

func (p *Pool) killAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.closed:
		return
	default:
	}
	p.killed = max(p.killed, 0)
	for c := range p.children {
		if c.doom(Cancelled, ErrClosed) {
			p.killed++
		}
	}
}
