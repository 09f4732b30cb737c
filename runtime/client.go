package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/taskgen/taskgen/broker"
)

// ClientConfig tunes a client. Its zero value works.
type ClientConfig struct {
	// MaxPayload is the size in bytes beyond which a run's encoded parameters are
	// refused with ErrPayloadTooLarge. It cannot be negative. Defaults to 1 MiB.
	//
	// One call queues at most 100,000 runs (broker.MaxRuns) and 64 MiB
	// (broker.MaxBatch).
	MaxPayload int
	// Middleware wraps the queueing of runs, the first outermost. If the client is in the
	// context of a consumer's Run, the runs that the consumer's tasks queue pass it too.
	// Defaults to none.
	Middleware []QueueMiddleware
}

// QueueHandler queues the runs of one call: those of a generated function, or the members
// of a [Group] and the run that gathers them. Behind these come the runs that are within each:
// those that follow it, see [Then], and the members of groups that it gathers.
type QueueHandler func(ctx context.Context, runs ...*broker.TaskRun) error

// QueueMiddleware wraps the queueing of runs. It may change their headers, and refuse all
// of them by returning an error. It may be called concurrently.
//
// The runs of a call that a task returns pass the middleware of the consumer's client when
// the task has returned. There, next returns nil once they are accepted: they are queued
// when the success of the run is recorded.
type QueueMiddleware func(next QueueHandler) QueueHandler

// Client queues runs, and reads and cancels them. Its methods may be called concurrently.
//
// The queueing is in queue.go and enqueue.go.
type Client struct {
	broker     queuer
	policies   broker.PolicySet // those that the broker enforces
	maxPayload int
	middleware []QueueMiddleware
	invalid    error // of its config
	closed     atomic.Bool
	runPool    sync.Pool // of *broker.TaskRun
	bufferPool sync.Pool // of *batchBuffer
}

// queuer is what a client needs of a broker. A child process's broker has only some
// methods, so each feature asserts its own.
type queuer interface {
	QueueTasks(ctx context.Context, runs ...*broker.TaskRun) error
}

// recorder is a [queuer] that keeps records of runs.
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

// NewClient returns a client that queues on b. If cfg is invalid, each call through the
// client returns an error that names the field. NewClient itself returns none, unlike
// [NewConsumer] and [NewScheduler], so that it can be an argument of [SetDefault] and
// [WithClient]; the only field that can be invalid is a negative MaxPayload.
func NewClient(b broker.Broker, cfg ClientConfig) *Client {
	return newClient(b, policiesOf(b), cfg)
}

func newClient(b queuer, policies broker.PolicySet, cfg ClientConfig) *Client {
	c := &Client{broker: b, policies: policies, maxPayload: cfg.MaxPayload, middleware: cfg.Middleware}
	if c.maxPayload == 0 {
		c.maxPayload = defaultMaxPayload
	}
	if c.maxPayload < 0 {
		c.invalid = fmt.Errorf("the client's config: field MaxPayload is %d, it cannot be negative", c.maxPayload)
	}
	return c
}

// checkUsable returns the error of all calls through the client, nil if it works.
func (c *Client) checkUsable() error {
	if c.closed.Load() {
		return fmt.Errorf("the client is closed: %w", broker.ErrClosed)
	}
	return c.invalid
}

// Close makes later calls through the client return an error that wraps broker.ErrClosed.
// It does not block, does not close the broker, and returns nil.
func (c *Client) Close(context.Context) error {
	c.closed.Store(true)
	return nil
}

type clientKey struct{}

// WithClient returns a context with which generated functions queue through c.
func WithClient(ctx context.Context, c *Client) context.Context {
	return context.WithValue(ctx, clientKey{}, c)
}

// defaultClient is the client of contexts without one.
var defaultClient atomic.Pointer[Client]

// SetDefault makes c the client of generated functions whose context has none. Nil removes
// the default. It may be called concurrently.
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

// Cancel cancels a run by its queue and its id, as [Handle.Cancel] does. It returns
// [ErrNoRecord] if no live run of the queue has the id, and an error if the broker cannot
// cancel.
func (c *Client) Cancel(ctx context.Context, queue, id string) error {
	if err := c.cancel(ctx, queue, id); err != nil {
		return fmt.Errorf("cancel run %s: %w", id, err)
	}
	return nil
}

func (c *Client) cancel(ctx context.Context, queue, id string) error {
	controls, ok := c.broker.(interface {
		Cancel(ctx context.Context, queue, id string, failure broker.Failure) error
	})
	if !ok {
		return errors.New("this broker has no broker.Controls, so it cannot cancel")
	}
	return controls.Cancel(ctx, queue, id, broker.Failure{Kind: Cancelled, Message: onRequest})
}

// onRequest is the message of a failure of kind [Cancelled]. It follows the kind in
// messages: "cancelled on request".
const onRequest = "on request"
