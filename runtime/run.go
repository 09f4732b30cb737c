package runtime

import (
	"context"
	"log/slog"
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/secret"
	"github.com/taskgen/taskgen/internal/text"
)

// Run is a run as its task and middleware see it, see [CurrentRun].
type Run struct {
	ID       string
	Task     string
	Queue    string
	Attempt  int       // from 1
	Delivery int       // from 1; more than Attempt after a crash
	Deadline time.Time // of this attempt
	QueuedAt time.Time
	ParentID string // the run that queued this one, or the one that this one continues under its id; empty: none did
	RootID   string // the first run of that chain; this one if it has no parent
	Trace    Trace  // of the task

	// Headers are those of the run, and of the task's own: what a [Middleware] changes in
	// them, the task finds there, also in a child process, and no later attempt.
	Headers map[string]string
	// NextHeaders is for a [Middleware]: if the run succeeds, the runs that follow it, by
	// [Then], get these headers in place of their own of the same keys, and so do the
	// members of a group that follows. A header for which a run has no room is dropped.
	NextHeaders map[string]string
}

// Handler executes a run. Its error counts as the task's.
type Handler func(ctx context.Context, run *Run) error

// Middleware wraps the execution of every run of a consumer. For CPU-bound tasks it runs in
// the consumer's process, around the child's work, or in the child: see [ChildConfig]. A
// middleware that does not call next decides the run's outcome by its error. If the task has
// a result, it must return an error. It may be called concurrently.
type Middleware func(next Handler) Handler

// wrap puts middleware around a handler, the first outermost.
func wrap(middleware []Middleware, handler Handler) Handler {
	for i := len(middleware) - 1; i >= 0; i-- {
		handler = middleware[i](handler)
	}
	return handler
}

// newRun returns what is known of a run that is about to start.
func newRun(run *broker.TaskRun) *Run {
	return &Run{
		ID:       run.ID,
		Task:     run.Task,
		Queue:    run.Queue,
		Attempt:  run.Attempt + 1,
		Delivery: run.Deliveries,
		QueuedAt: run.QueuedAt,
		ParentID: run.ParentID,
		RootID:   rootID(run),
		Headers:  maps.Clone(run.Headers), // the stored ones are not a task's to change
	}
}

// withHeaders returns a copy of a run that a child process gets, with the headers as
// middleware has changed them.
func withHeaders(run *broker.TaskRun, headers map[string]string) *broker.TaskRun {
	c := *run
	c.Headers = headers
	return &c
}

func rootID(run *broker.TaskRun) string {
	if run.RootID == "" {
		return run.ID
	}
	return run.RootID
}

type runKey struct{}
type loggerKey struct{}
type progressKey struct{}

// runContext is the context of a task. It ends with its session's or at the run's deadline,
// and carries the run, the client and the logger. Few tasks wait for its end, or ask for their
// run, so the timer and the channel for the one, and the [Run] for the other, are made when
// they are first asked for.
type runContext struct {
	base     context.Context // the session's
	deadline time.Time       // zero: only the base's
	offers   *offers

	stored   *broker.TaskRun     // the run; what changes in it is below, as at the start
	attempt  int32               // from 1
	delivery int32               // from 1
	trace    Trace               // of the task
	info     atomic.Pointer[Run] // nil: not asked for; see asked

	execution *execution             // nil: in a child process
	secrets   *secret.Run            // nil: the task has none
	log       atomic.Pointer[runLog] // nil: it has not logged

	progress atomic.Pointer[broker.Progress] // what the run reported last; nil: nothing

	mu     sync.Mutex
	ended  bool
	called bool         // the task itself was reached; the goroutine of a consumer sets it
	lazy   *lazyContext // to end; nil: not asked for
}

// offers is what a session's tasks, or a child process's, may ask their contexts for.
type offers struct {
	client     *Client
	broker     any // that the runs are from; nil: unknown
	logger     *slog.Logger
	bounded    bool   // what a run logs is bounded here, and not by another process
	progressed func() // called when a run reported its progress; may be nil
}

// lazyContext is the machinery with which a context ends.
type lazyContext struct {
	context.Context // ends as the one does
	cancel          context.CancelCauseFunc
	release         context.CancelFunc // of the deadline's timer
}

func newRunContext(base context.Context, run *broker.TaskRun, deadline time.Time, client *Client, logger *slog.Logger) *runContext {
	c := &runContext{base: base, deadline: deadline, offers: &offers{client: client, broker: client.broker, logger: logger}}
	c.setRun(run)
	return c
}

// setRun sets the run that is about to start.
func (c *runContext) setRun(run *broker.TaskRun) {
	c.stored, c.attempt, c.delivery = run, int32(min(run.Attempt, math.MaxInt32-1)+1), int32(min(run.Deliveries, math.MaxInt32))
}

// asked returns the run as its task and middleware see it.
func (c *runContext) asked() *Run {
	if run := c.info.Load(); run != nil {
		return run
	}
	run := newRun(c.stored)
	run.Attempt, run.Delivery, run.Deadline, run.Trace = int(c.attempt), int(c.delivery), c.deadline, c.trace
	c.info.CompareAndSwap(nil, run) // others may ask at the same time
	return c.info.Load()
}

// headers returns the headers of the run, as middleware has changed them.
func (c *runContext) headers() map[string]string {
	if run := c.info.Load(); run != nil {
		return run.Headers
	}
	return c.stored.Headers
}

// nextHeaders returns what middleware has set as the headers of the runs that follow.
func (c *runContext) nextHeaders() map[string]string {
	if run := c.info.Load(); run != nil {
		return run.NextHeaders
	}
	return nil
}

// end ends the context for what outlives the task.
func (c *runContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.lazy != nil {
		c.lazy.release()
	}
}

// stop cancels the context while the task runs.
func (c *runContext) stop(cause error) {
	c.makeLazy().cancel(cause)
}

// makeLazy makes the machinery, once.
func (c *runContext) makeLazy() *lazyContext {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lazy != nil {
		return c.lazy
	}
	w := new(lazyContext)
	var limited context.Context
	if c.deadline.IsZero() || c.ended { // ended before the deadline
		limited, w.release = context.WithCancel(c.base)
	} else {
		limited, w.release = context.WithDeadline(c.base, c.deadline)
	}
	w.Context, w.cancel = context.WithCancelCause(limited)
	if c.ended {
		w.release()
	}
	c.lazy = w
	return w
}

func (c *runContext) Deadline() (time.Time, bool) {
	if c.deadline.IsZero() {
		return c.base.Deadline()
	}
	return c.deadline, true
}

func (c *runContext) Done() <-chan struct{} { return c.makeLazy().Done() }

func (c *runContext) Err() error {
	c.mu.Lock()
	asked, ended := c.lazy != nil, c.ended
	c.mu.Unlock()
	if !asked && !ended && c.base.Err() == nil && (c.deadline.IsZero() || time.Now().Before(c.deadline)) {
		return nil
	}
	return c.makeLazy().Err()
}

func (c *runContext) Value(key any) any {
	switch key.(type) {
	case runKey:
		return c.asked()
	case clientKey:
		return c.offers.client
	case loggerKey:
		return c.offers.logger
	case progressKey:
		return c
	case serverKey:
		return c.offers.broker
	}
	c.mu.Lock()
	lazy := c.lazy
	c.mu.Unlock()
	if lazy == nil {
		return c.base.Value(key)
	}
	// Not the base: package context finds by its own key what ends.
	return lazy.Value(key)
}

// CurrentRun returns the run that ctx belongs to, and false outside of a task. The run is
// shared: do not change it.
func CurrentRun(ctx context.Context) (*Run, bool) {
	run, ok := ctx.Value(runKey{}).(*Run)
	return run, ok
}

// Progress reports the progress of the run that ctx belongs to: done of total, which is 0
// if it is unknown, and a note, of which 1,024 bytes are kept. [Handle.Status] returns the
// last report, a few times a second anew, if the run has a record. Progress does not block
// and may be called often and concurrently, also in a child process. Outside of a task it
// does nothing.
func Progress(ctx context.Context, done, total int64, note string) {
	if c, ok := ctx.Value(progressKey{}).(*runContext); ok {
		note = text.Truncate(c.secrets.Hide(note), maxNote)
		c.progress.Store(&broker.Progress{Done: done, Total: total, Note: note})
		if c.offers.progressed != nil {
			c.offers.progressed()
		}
	}
}

// maxNote is how many bytes of a note of progress are kept.
const maxNote = 1024

// Logger returns the consumer's logger with the attributes task, run and attempt of the run
// that ctx belongs to. In a child process its records go to the consumer's log. Of one run
// at most 16 MiB of records are logged, counting 128 bytes extra for each. A record that is
// logged without a context, as by Info, comes with ctx. Outside of a task Logger returns
// slog's default logger.
func Logger(ctx context.Context) *slog.Logger {
	logger, ok := ctx.Value(loggerKey{}).(*slog.Logger)
	if !ok {
		return slog.Default()
	}
	if c, ok := ctx.Value(progressKey{}).(*runContext); ok && c.offers.bounded {
		c.log.CompareAndSwap(nil, new(runLog))
		logger = slog.New(&boundedHandler{Handler: logger.Handler(), log: c.log.Load()})
	}
	logger = slog.New(&contextHandler{logger.Handler(), context.WithoutCancel(ctx)})
	if run, ok := CurrentRun(ctx); ok {
		return logger.With("task", run.Task, "run", run.ID, "attempt", run.Attempt)
	}
	return logger
}
