package subprocess

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/subprocess/cgroup"
	"github.com/taskgen/taskgen/internal/subprocess/orphan"
)

// Request is a run to be executed.
type Request struct {
	Run *broker.TaskRun
	// Deadline is when the attempt has to be over. Defaults to ctx's, which
	// holds too when it is earlier.
	Deadline time.Time
	// Memory is the cap in bytes on what the child may have, with the processes
	// that it starts. Its garbage collector works harder from nine tenths on;
	// where the system tells sizes (Linux), it is killed when it stays beyond
	// the cap, and refused address space from twice the cap or the cap and 256
	// MiB on. Both end as OOM. 0 is no cap.
	Memory int64
	// DecodeMemory is for [Parent.DecodeMemory].
	DecodeMemory int
	// Hide, unless it is nil, returns what hides in lines of the child's output what
	// this run keeps secret, and what earlier runs do, which may have left something
	// running that writes: before is what the last of them returned, nil at first.
	Hide func(before Hider) Hider
}

// Hider hides what is secret in lines of a child's output. Its method may be called
// concurrently.
type Hider interface {
	// Hide returns a line, whose end may have been cut, as it may be shown.
	Hide(line string, cut bool) string
}

// Response is what the child's handler said.
type Response struct {
	Result     []byte          // of a success
	Failure    *broker.Failure // nil for a success; its Kind defaults to failed
	Permanent  bool            // trying again would not help
	RetryAfter time.Duration   // the earliest time to try again, 0 when it does not say
	Snooze     time.Duration   // until the run is to start again, which has not failed; 0 if it ended
	PID        int             // of the child; set by the pool
}

// Pool is up to Config.Processes warm child processes. Its methods may be
// called concurrently. It needs a Close.
type Pool struct {
	cfg    Config
	groups *cgroup.Root // nil if there are none

	slots   chan struct{} // holds one element for each child in use
	starts  chan startRequest
	closing chan struct{} // closed by the first Close
	closed  chan struct{} // closed when nothing is left
	work    sync.WaitGroup

	successors sync.WaitGroup // being started

	mu            sync.Mutex
	idle          []*child // the last used at the end: it is the warmest; those whose last run failed in front
	children      map[*child]struct{}
	replacing     bool // a successor is being started
	breaker       breaker
	limits        []string       // that the last child said it has
	orphans       *orphan.Reaper // nil without
	failureLimit  atomic.Int64   // how many runs of a child may fail in a row now
	killedAtClose int            // children killed because Close's ctx ended; -1 while it has not
}

// NewPool returns a pool without children; they are started on demand.
func NewPool(cfg Config) (*Pool, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("make pool of child processes: %w", err)
	}
	p := &Pool{
		cfg:           cfg,
		slots:         make(chan struct{}, cfg.Processes),
		starts:        make(chan startRequest),
		closing:       make(chan struct{}),
		closed:        make(chan struct{}),
		children:      make(map[*child]struct{}),
		killedAtClose: -1,
	}
	p.failureLimit.Store(int64(cfg.MaxFailures))
	if p.groups, err = cgroup.Open(cfg.Cgroup); err != nil {
		return nil, fmt.Errorf("make pool of child processes: field Cgroup: %w", err)
	}
	if !InTest() { // whose goroutine of os/signal could be in a bubble of synctest for ever
		p.startReaper()
	}
	p.work.Go(p.startProcesses)
	if cfg.Idle > 0 || cfg.MaxAge > 0 {
		p.work.Go(p.retireIdle)
	}
	return p, nil
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
		resp, err := c.execute(ctx, req, deadline)
		if !errors.Is(err, errNotSent) {
			p.release(c, p.tooManyFailures(c, resp, errors.Is(ctx.Err(), context.Canceled)))
			return resp, err
		}
		if attempts > p.cfg.Processes {
			p.release(c, false)
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
	c, err := p.startChecked()
	if err != nil {
		<-p.slots
		return nil, err
	}
	select {
	case <-ctx.Done():
		// A short deadline must not kill each child before it is warm: this
		// one becomes idle once it is, and keeps the slot until then.
		p.work.Go(func() {
			if p.awaitHandshake(c) != nil {
				<-p.slots
				return
			}
			p.release(c, false)
		})
		return nil, fmt.Errorf("wait for a child process: %w", context.Cause(ctx))
	case <-c.ready:
	case <-c.exited:
	}
	if err := p.awaitHandshake(c); err != nil {
		<-p.slots
		return nil, err
	}
	return c, nil
}

// release makes a child idle, or ends it, and frees its slot once it is idle or
// gone.
func (p *Pool) release(c *child, stop bool) {
	if (stop || p.cfg.Fresh && c.runs > 0) && c.usable() {
		p.work.Go(func() { // the run's answer does not wait for it
			defer func() { <-p.slots }()
			c.stop()
		})
		return
	}
	defer func() { <-p.slots }()
	if !c.usable() {
		c.awaitGone()
		return
	}
	now := time.Now()
	expired := c.expired(now)
	p.mu.Lock()
	if c.replaced || c.outputClosed() {
		p.mu.Unlock()
		c.stop()
		return
	}
	c.idleSince = now
	if c.failures > 0 {
		p.idle = slices.Insert(p.idle, 0, c)
	} else {
		p.idle = append(p.idle, c)
	}
	if expired {
		p.replace(c)
	}
	p.mu.Unlock()
}

// forget is told by a child that has ended.
func (p *Pool) remove(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.children, c)
	p.idle = slices.DeleteFunc(p.idle, func(i *child) bool { return i == c })
}

// adopt counts a started child as one of the pool's.
func (p *Pool) add(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.children[c] = struct{}{}
	if p.killedAtClose >= 0 && c.kill(Cancelled, ErrClosed) {
		p.killedAtClose++
	}
}
