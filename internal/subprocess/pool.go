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

// Request is a run to execute.
type Request struct {
	Run *broker.TaskRun
	// Deadline is when the attempt must have ended. The deadline of Run's ctx holds
	// too, and is the default.
	Deadline time.Time
	// Memory caps the memory of the child and of the processes that it starts, in
	// bytes; 0 is no cap. The child's garbage collector works harder from nine tenths
	// on. On Linux, the child is killed when it stays beyond the cap, and is refused
	// address space beyond twice the cap, or beyond the cap and 256 MiB if that is
	// more. Both end as OOM.
	Memory int64
	// DecodeMemory is what [Parent.DecodeMemory] returns.
	DecodeMemory int
	// Hide, if set, returns a Hider for the secrets of this run and of the earlier
	// ones, because an earlier run may have left something that still writes. Before
	// is what the last Hide returned for this child, nil at first.
	Hide func(before Hider) Hider
}

// Hider hides secrets in lines of a child's output. Its method may be called
// concurrently.
type Hider interface {
	// Hide returns line with its secrets hidden. If cut, the end of line is missing.
	Hide(line string, cut bool) string
}

// Response is the outcome of a handler.
type Response struct {
	Result     []byte          // if it succeeded
	Call       []byte          // if it succeeded with a call: the stored form of its first run, the others within it
	Failure    *broker.Failure // nil if it succeeded; its Kind defaults to failed
	Permanent  bool            // a further attempt would not help
	RetryAfter time.Duration   // the earliest time of the next attempt; 0 leaves it to the caller
	Snooze     time.Duration   // not a failure: the run is to start again after this; 0 if it ended
	PID        int             // of the child; set by the pool
}

// Pool runs tasks in up to Config.Processes warm child processes. Its methods may be
// called concurrently. The caller closes it.
type Pool struct {
	cfg    Config
	groups *cgroup.Root // nil if there are none

	slots   chan struct{} // has one element for each child in use
	starts  chan startRequest
	closing chan struct{} // closed by the first Close
	closed  chan struct{} // closed when every process and goroutine has ended
	work    sync.WaitGroup

	successors sync.WaitGroup // being started

	mu            sync.Mutex
	idle          []*child // the last used comes last, since it is the warmest; those whose last run failed come first
	children      map[*child]struct{}
	replacing     bool // a successor is being started
	breaker       breaker
	limits        []string       // that the last started child has set
	orphans       *orphan.Reaper // nil if this process adopts none
	failureLimit  atomic.Int64   // how many runs of a child may fail in a row now
	killedAtClose int            // children killed because the ctx of Close ended; -1 before that
}

// NewPool returns a pool without children; they are started on demand. It returns an
// error that names the wrong field of cfg.
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
	if !InTest() { // os/signal would leave a goroutine in a synctest bubble
		p.startReaper()
	}
	p.work.Go(p.startProcesses)
	if cfg.Idle > 0 || cfg.MaxAge > 0 {
		p.work.Go(p.retireIdle)
	}
	return p, nil
}

// Run executes a run in a child process. It blocks until a child is free and the run
// has ended. It starts a child if none is idle.
//
// When ctx ends or the deadline passes, the handler's context is cancelled in the
// child. If the child answers within Config.Grace, Run returns that answer and the
// child stays warm. If not, Run kills its process group.
//
// Run returns an [*ExitError] if the child was killed, crashed or broke the protocol.
// Its kind is Timeout if the deadline ended the run, and Cancelled if ctx did. The
// process is gone then.
//
// If the run never started, Run returns a [*StartError] if no child could be started,
// the cause of ctx if it ended before a child was free, or an error that wraps
// [ErrTooLarge] or [ErrClosed].
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
	// An idle child may have ended unnoticed. Then its end of the pipe is closed, so
	// the run cannot have started, and another child can have it.
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

// acquire takes a slot. It blocks until one is free.
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

// take returns an idle child or a new one. The caller has a slot, which take frees if
// it returns an error.
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
		// Keep starting the child: otherwise a short deadline would kill each child
		// before it is warm. It becomes idle when it is ready, and keeps the slot
		// until then.
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

// release makes a child idle, or stops it, and frees its slot once the child is idle
// or gone.
func (p *Pool) release(c *child, stop bool) {
	if (stop || p.cfg.Fresh && c.runs > 0) && c.usable() {
		p.work.Go(func() { // do not delay the run's answer
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

// remove removes a child that has ended.
func (p *Pool) remove(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.children, c)
	p.idle = slices.DeleteFunc(p.idle, func(i *child) bool { return i == c })
}

// add adds a started child.
func (p *Pool) add(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.children[c] = struct{}{}
	if p.killedAtClose >= 0 && c.kill(Cancelled, ErrClosed) {
		p.killedAtClose++
	}
}
