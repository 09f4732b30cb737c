package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/text"
	"github.com/taskgen/taskgen/internal/ulid"
)

// ClientConfig tunes a client; its zero value works.
type ClientConfig struct {
	// MaxPayload is the size in bytes beyond which a run's encoded parameters
	// are refused with ErrPayloadTooLarge. It cannot be negative. Defaults to 1 MiB. What one call queues
	// is at most broker.MaxRuns, 100,000 runs, and broker.MaxBatch, 64 MiB, together.
	MaxPayload int
	// Middleware wraps the queueing of runs, the first outermost. A consumer's
	// tasks queue through it too when the client is in the context of its Run.
	Middleware []QueueMiddleware
}

// QueueHandler queues runs: those of one call of a generated function, or the
// members of a [Group] and after them the run that gathers them. Behind these come
// the runs that are to follow them, see [Then].
type QueueHandler func(ctx context.Context, runs ...*broker.TaskRun) error

// QueueMiddleware wraps the queueing of runs. It may change their headers, and
// refuse them by an error.
type QueueMiddleware func(next QueueHandler) QueueHandler

const defaultMaxPayload = 1 << 20

// Client queues runs. It may be used concurrently.
type Client struct {
	broker     queuer
	policies   broker.Policy // that it keeps
	maxPayload int
	middleware []QueueMiddleware
	invalid    error // of its config
	closed     atomic.Bool
	spare      sync.Pool // of *broker.TaskRun
	slabs      sync.Pool // of *slab
}

// queuer is what a client needs of a broker. It finds more by assertion, one method
// or few at a time: the parent of a child process can be asked for some of what a
// broker does.
type queuer interface {
	QueueTasks(ctx context.Context, runs ...*broker.TaskRun) error
}

// recorder is a [queuer] that knows what became of runs.
type recorder interface {
	Record(ctx context.Context, queue, id string) (*broker.Record, error)
	WaitRecord(ctx context.Context, queue, id string) (*broker.Record, error)
}

// groupQueuer is a [queuer] that queues groups.
type groupQueuer interface {
	QueueGroup(ctx context.Context, then *broker.TaskRun, members ...*broker.TaskRun) error
}

// scheduleKeeper is a [queuer] that keeps schedules made at run time.
type scheduleKeeper interface {
	PutSchedule(ctx context.Context, schedule *broker.Schedule) error
	DeleteSchedule(ctx context.Context, queue, id string) error
	Schedules(ctx context.Context, queues ...string) ([]*broker.Schedule, error)
}

// NewClient returns a client that queues on b. If cfg is invalid each call through the
// client returns an error that says so.
func NewClient(b broker.Broker, cfg ClientConfig) *Client {
	return newClient(b, policiesOf(b), cfg)
}

func newClient(b queuer, policies broker.Policy, cfg ClientConfig) *Client {
	c := &Client{broker: b, policies: policies, maxPayload: cfg.MaxPayload, middleware: cfg.Middleware}
	if c.maxPayload == 0 {
		c.maxPayload = defaultMaxPayload
	}
	if c.maxPayload < 0 {
		c.invalid = fmt.Errorf("the client's config: field MaxPayload is %d, it cannot be negative", c.maxPayload)
	}
	return c
}

// usable returns why calls through the client fail, nil if they do not.
func (c *Client) usable() error {
	if c.closed.Load() {
		return fmt.Errorf("the client is closed: %w", broker.ErrClosed)
	}
	return c.invalid
}

// Close makes later calls through the client fail. The broker stays open: it
// belongs to whoever opened it.
func (c *Client) Close(context.Context) error {
	c.closed.Store(true)
	return nil
}

type clientKey struct{}

// WithClient returns a context that makes the stubs called with it queue
// through c.
func WithClient(ctx context.Context, c *Client) context.Context {
	return context.WithValue(ctx, clientKey{}, c)
}

// defaultClient is the process's one piece of mutable state, as slog has its
// default logger.
var defaultClient atomic.Pointer[Client]

// SetDefault makes c the client of stubs whose context has none. Nil takes the
// default away.
func SetDefault(c *Client) { defaultClient.Store(c) }

func clientOf(ctx context.Context) (*Client, error) {
	if c, ok := ctx.Value(clientKey{}).(*Client); ok && c != nil {
		return c, nil
	}
	if c := defaultClient.Load(); c != nil {
		return c, nil
	}
	return nil, ErrNoClient
}

// Queue queues one run of a task: what a generated stub calls. The handle is
// also returned with [ErrDuplicate], for the run that is there already, and with
// [ErrNotReplicated].
func Queue[P, R any](ctx context.Context, d *Definition[P, R], p *P, opts ...QueueOption) (*Handle[R], error) {
	c, err := clientOf(ctx)
	if err != nil {
		return nil, fmt.Errorf("queue task %s: %w", d.Spec.Name, err)
	}
	run := c.spareRun()
	if err = d.fillRun(ctx, c, run, p, opts); err == nil {
		err = c.queue(ctx, run)
	}
	if err != nil {
		return notQueued(c, d, run, err)
	}
	handle := newHandle(c, d, run)
	c.reuse(ctx, run)
	return handle, nil
}

// notQueued makes what Queue returns of an error.
func notQueued[P, R any](c *Client, d *Definition[P, R], run *broker.TaskRun, err error) (*Handle[R], error) {
	var duplicates *DuplicateError
	if errors.As(err, &duplicates) && len(duplicates.Runs) > 0 {
		run.ID = duplicates.Runs[0].ID
	}
	if errors.Is(err, ErrDuplicate) || errors.Is(err, ErrNotReplicated) {
		return newHandle(c, d, run), fmt.Errorf("queue task %s as %s: %w", d.Spec.Name, run.ID, advise(err))
	}
	return nil, fmt.Errorf("queue task %s: %w", d.Spec.Name, err)
}

// spareRun returns an empty run, with room for a payload if it was used before.
func (c *Client) spareRun() *broker.TaskRun {
	if run, ok := c.spare.Get().(*broker.TaskRun); ok {
		return run
	}
	return new(broker.TaskRun)
}

// maxSpare is the size in bytes of the largest payload whose memory is used
// again.
const maxSpare = 16 << 10

// reuse keeps a run that was queued for the next call.
func (c *Client) reuse(ctx context.Context, run *broker.TaskRun) {
	if c.mine(ctx) && cap(run.Payload) <= maxSpare {
		*run = broker.TaskRun{Payload: run.Payload[:0]}
		c.spare.Put(run)
	}
}

// mine reports whether nobody has a run any more that was queued. A plan and a
// middleware may still have it, or have given it memory; a broker has not, by its
// contract, but of one of three methods that somebody wrote in a minute that is not
// relied upon.
func (c *Client) mine(ctx context.Context) bool {
	return c.policies == broker.AllPolicies && len(c.middleware) == 0 && ctx.Value(planKey{}) == nil
}

// slab is the runs of a batch.
type slab struct {
	runs    []*broker.TaskRun
	made    []broker.TaskRun // what they are, all zero
	payload []byte           // of all
}

const maxSlab = 1000 // runs of the largest batch whose memory is used again

func (c *Client) spareSlab(n int) *slab {
	if s, ok := c.slabs.Get().(*slab); ok && cap(s.made) >= n {
		s.runs, s.made = s.runs[:n], s.made[:n]
		return s
	}
	return &slab{runs: make([]*broker.TaskRun, n), made: make([]broker.TaskRun, n)}
}

func (c *Client) reuseSlab(ctx context.Context, s *slab) {
	if c.mine(ctx) && cap(s.made) <= maxSlab && cap(s.payload) <= maxSlab*maxSpare/16 {
		clear(s.made)
		s.payload = s.payload[:0]
		c.slabs.Put(s)
	}
}

// QueueBatch queues one run for each of params, all of them or none: what a
// generated batch stub calls. The option ID fits no batch of several. Options
// that cannot be meant are refused of an empty one too, which queues nothing. More than
// 100,000 runs, [broker.MaxRuns], or 64 MiB of parameters, [broker.MaxBatch], are
// [ErrPayloadTooLarge]: queue them in parts, each whole or not at all. The handles are also returned with
// [ErrNotReplicated].
func QueueBatch[P, R any](ctx context.Context, d *Definition[P, R], params []P, opts ...QueueOption) ([]*Handle[R], error) {
	c, err := clientOf(ctx)
	if err != nil {
		return nil, fmt.Errorf("queue %s of task %s: %w", text.Count(len(params), "run"), d.Spec.Name, err)
	}
	if len(params) == 0 {
		if err := c.checkOptions(&d.Spec, opts); err != nil {
			return nil, fmt.Errorf("queue no runs of task %s: %w", d.Spec.Name, err)
		}
		return nil, nil
	}
	// One piece of memory for each kind of thing, not one for each thing.
	var (
		handles   = make([]*Handle[R], len(params))
		shown     = make([]Handle[R], len(params))
		slab      = c.spareSlab(len(params))
		made      = slab.made
		payload   = slab.payload
		now       = time.Now()
		ids       = ulid.NewBatch(now, len(params))
		schema    = d.Spec.schema()
		parent, _ = CurrentRun(ctx)
	)
	for i := range params {
		if made[0].OwnID && i > 0 {
			return nil, fmt.Errorf("queue %s of task %s: the option ID names one run; queue them one by one, each with its own", text.Count(len(params), "run"), d.Spec.Name)
		}
		from := len(payload)
		if payload, err = d.AppendParams(&params[i], payload); err != nil {
			err = encodeError(err, d.Spec.Secrets)
		}
		if err == nil {
			made[i].ID, made[i].Schema = ids[i*ulid.Size:(i+1)*ulid.Size], schema
			made[i].Payload = payload[from:len(payload):len(payload)]
			d.applyPolicies(&params[i], &made[i])
			err = c.fill(&made[i], &d.Spec, now, parent, opts)
		}
		if err == nil && len(payload) > broker.MaxBatch {
			err = fmt.Errorf("%w: the parameters of the batch take more than %d bytes by here; queue it in parts", ErrPayloadTooLarge, broker.MaxBatch)
		}
		if err != nil {
			return nil, fmt.Errorf("queue run %d of %d of task %s: %w", i+1, len(params), d.Spec.Name, err)
		}
		slab.runs[i], handles[i] = &made[i], &shown[i]
		setHandle(&shown[i], c, d, &made[i])
	}
	slab.payload = payload
	err = c.queue(ctx, slab.runs...)
	if errors.Is(err, ErrNotReplicated) {
		return handles, fmt.Errorf("queue %s of task %s: %w", text.Count(len(params), "run"), d.Spec.Name, advise(err))
	}
	if err != nil {
		return nil, fmt.Errorf("queue %s of task %s: %w", text.Count(len(params), "run"), d.Spec.Name, err)
	}
	c.reuseSlab(ctx, slab)
	return handles, nil
}

// checkOptions refuses options that no run of a task can have.
func (c *Client) checkOptions(spec *Spec, opts []QueueOption) error {
	run := new(broker.TaskRun)
	if err := c.fill(run, spec, time.Now(), nil, opts); err != nil {
		return err
	}
	return refuseSkipFailed(run)
}

func (c *Client) queue(ctx context.Context, runs ...*broker.TaskRun) error {
	if added, err := addToPlan(ctx, c, step{runs: runs}); added {
		return err
	}
	if err := c.check(runs); err != nil {
		return err
	}
	if len(c.middleware) == 0 {
		return c.broker.QueueTasks(ctx, runs...) // the usual case, without the function value
	}
	return c.wrap(c.broker.QueueTasks, runs)(ctx)
}

// check refuses runs that cannot be queued by way of this client.
func (c *Client) check(runs []*broker.TaskRun) error {
	if err := c.usable(); err != nil {
		return err
	}
	for _, run := range runs {
		if err := refuseSkipFailed(run); err != nil {
			return err
		}
	}
	if err := broker.CheckBatch(runs); err != nil {
		return fmt.Errorf("%w: %w", ErrPayloadTooLarge, err)
	}
	if c.policies == broker.AllPolicies {
		return nil
	}
	for _, run := range runs {
		if err := refusePolicies(run, c.policies); err != nil {
			return err
		}
		// Without leases the consumer itself queues what follows.
		_, leased := c.broker.(broker.Leaser)
		if leased && c.policies&broker.PolicyNext == 0 && len(run.Links.OrZero().Then) > 0 {
			return fmt.Errorf("task %s is followed by another, which this broker does not keep; "+
				"use one that has broker.Policies, such as the embedded one or Redis", run.Task)
		}
	}
	return nil
}

// wrap puts the middleware around the queueing of runs. It sees those that follow
// them, which are queued inside them.
func (c *Client) wrap(queue QueueHandler, runs []*broker.TaskRun) func(ctx context.Context) error {
	if len(c.middleware) == 0 {
		return func(ctx context.Context) error { return queue(ctx, runs...) }
	}
	all := runs[:len(runs):len(runs)]
	for _, run := range runs {
		all = appendFollowing(all, run)
	}
	handler := queue
	if len(all) > len(runs) {
		handler = func(ctx context.Context, given ...*broker.TaskRun) error {
			if !slices.Equal(given, all) {
				return errors.New("a middleware added, left out or replaced runs that follow each other; it may change their headers, or refuse them all by an error")
			}
			return queue(ctx, runs...)
		}
	}
	for i := len(c.middleware) - 1; i >= 0; i-- {
		handler = c.middleware[i](handler)
	}
	return func(ctx context.Context) error { return handler(ctx, all...) }
}

// appendFollowing appends the runs that are to follow a run.
func appendFollowing(runs []*broker.TaskRun, run *broker.TaskRun) []*broker.TaskRun {
	for _, c := range run.Links.OrZero().Then {
		runs = appendFollowing(append(runs, c.Run), c.Run)
	}
	return runs
}

// advise adds to the error of an enqueue what to do about it, where that is not
// what one would do at first.
func advise(err error) error {
	if !errors.Is(err, ErrNotReplicated) {
		return err
	}
	return fmt.Errorf("%w; it runs unless the server loses it, so queue it again only if it may run twice", err)
}

func (c *Client) checkPayload(payload []byte) error {
	if len(payload) > c.maxPayload {
		return fmt.Errorf("%w: the parameters take %d bytes, at most %d are allowed", ErrPayloadTooLarge, len(payload), c.maxPayload)
	}
	return nil
}

// newRun makes the run that a call of a stub queues.
func (d *Definition[P, R]) newRun(ctx context.Context, c *Client, p *P, opts []QueueOption) (*broker.TaskRun, error) {
	run := new(broker.TaskRun)
	return run, d.fillRun(ctx, c, run, p, opts)
}

// fillRun makes an empty run the one that a call of a stub queues.
func (d *Definition[P, R]) fillRun(ctx context.Context, c *Client, run *broker.TaskRun, p *P, opts []QueueOption) (err error) {
	if run.Payload, err = d.AppendParams(p, run.Payload); err != nil {
		return encodeError(err, d.Spec.Secrets)
	}
	d.applyPolicies(p, run)
	parent, _ := CurrentRun(ctx)
	return c.fill(run, &d.Spec, time.Now(), parent, opts)
}

// QueueTask queues one run of a task whose parameters are encoded, see
// [Task.EncodeParams]: it is for a program that gets to know its tasks at run time, such
// as a command line. It returns the run that it queued, and beside an error the run
// that it tried to queue, if it got so far. Its errors are those of a generated stub.
func (c *Client) QueueTask(ctx context.Context, t Task, payload []byte, opts ...QueueOption) (*broker.TaskRun, error) {
	run, err := c.newRun(ctx, &t, payload, opts)
	if err == nil {
		err = c.queue(ctx, run)
	}
	if err == nil {
		return run, nil
	}
	what := t.spec.Name
	if run.OwnID || errors.Is(err, ErrNotReplicated) || errors.Is(err, ErrOutcomeUnknown) {
		what += " as " + run.ID
	}
	return run, fmt.Errorf("queue task %s: %w", what, advise(err))
}

// newRun makes a run of a task whose parameters are encoded.
func (c *Client) newRun(ctx context.Context, t *Task, payload []byte, opts []QueueOption) (*broker.TaskRun, error) {
	run := &broker.TaskRun{Payload: payload}
	if err := t.applyPolicies(run); err != nil {
		return run, err
	}
	parent, _ := CurrentRun(ctx)
	return run, c.fill(run, &t.spec, time.Now(), parent, opts)
}

// fill makes a run with a payload and policies complete.
func (c *Client) fill(run *broker.TaskRun, spec *Spec, now time.Time, parent *Run, opts []QueueOption) error {
	if c.invalid != nil {
		return c.invalid
	}
	if err := c.checkPayload(run.Payload); err != nil {
		return err
	}
	spec.fill(run, now)
	if parent != nil {
		run.ParentID, run.RootID = parent.ID, parent.RootID
	}
	for i, opt := range opts {
		if opt == nil {
			return fmt.Errorf("option %d is nil", i+1)
		}
		if err := opt.apply(run); err != nil {
			return err
		}
	}
	if run.ID == "" && !run.OwnID {
		run.ID = ulid.New(now)
	}
	if len(opts) == 0 && parent == nil {
		return nil // what is in it is the task's; the broker looks at all
	}
	return run.Validate()
}

// newRun makes a run as the task's directives say, without an id or a payload.
func (s *Spec) newRun(now time.Time) *broker.TaskRun {
	run := new(broker.TaskRun)
	s.fill(run, now)
	return run
}

// fill sets what the task's directives say of its runs.
func (s *Spec) fill(run *broker.TaskRun, now time.Time) {
	run.Task, run.Queue, run.Kind, run.Priority = s.Name, s.Queue, s.Kind, s.Priority
	if run.Queue == "" {
		run.Queue = DefaultQueue
	}
	run.QueuedAt, run.Expire, run.Keep = now, s.Expire, s.Keep
	if run.Schema == 0 {
		run.Schema = s.schema()
	}
}
