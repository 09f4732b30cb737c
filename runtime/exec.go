package runtime

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/secret"
	"github.com/taskgen/taskgen/internal/subprocess"
)

// ExecResult is the end of an attempt by [Exec].
type ExecResult struct {
	ID      string          // of the run
	Result  []byte          // of a success, encoded; see [Task.DecodeResult]
	Failure *broker.Failure // nil: it succeeded

	// Queued is the last run of the call that the task returned, which has the result. It is
	// nil if the task returned no call, or the call was not queued.
	Queued *broker.RunRef
}

// Exec executes one attempt of a task here and now, without a queue and a consumer: a
// CPU-bound one in a child of this process, any other on a goroutine. payload is the
// task's encoded parameters, see [Task.EncodeParams]. It blocks until the attempt has
// ended. If ctx ends first, the attempt is cancelled and ends as [Cancelled].
//
// Exec applies Middleware, Children, Codec, MaxPayload and Logger of cfg. The task queues
// its own runs on b, through the client in ctx if there is one, and so does Exec with the
// call that a task returns: see ExecResult.Queued. It does not wait for the runs of that. The
// attempt is not recorded, not retried and counts for no limit.
//
// A task that fails is no error of Exec: see ExecResult.Failure. Exec returns an error if
// it cannot execute the task. It may be called concurrently.
func Exec(ctx context.Context, b broker.Broker, cfg ConsumerConfig, t Task, payload []byte) (*ExecResult, error) {
	x, err := newExec(ctx, b, cfg, &t, payload)
	if err == nil {
		defer x.close(ctx)
		err = x.open()
	}
	if err != nil {
		return nil, fmt.Errorf("execute task %s: %w", t.spec.Name, err)
	}
	return x.run(ctx), nil
}

// exec is one attempt without a consumer around it.
type exec struct {
	cfg     ConsumerConfig
	task    *Task
	client  *Client
	stored  *broker.TaskRun
	secrets *secret.Run
	pool    *subprocess.Pool // nil: the task is not CPU-bound

	deadline time.Time
	answer   answer
	queued   *broker.RunRef
}

func newExec(ctx context.Context, b broker.Broker, cfg ConsumerConfig, t *Task, payload []byte) (*exec, error) {
	if err := checkNotChild(); err != nil {
		return nil, err
	}
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	client := NewClient(b, ClientConfig{MaxPayload: cfg.MaxPayload})
	if given, err := clientOf(ctx); err == nil && ctx.Value(clientKey{}) != nil {
		client = given
	}
	cfg.Codec.setDefaults(cfg.MaxPayload, client.maxPayload)
	cfg.grants = grantsOf(b)
	run, err := client.makeRun(ctx, t, payload, nil)
	if err != nil {
		return nil, err
	}
	run.Deliveries = 1
	return &exec{cfg: cfg, task: t, client: client, stored: run, secrets: t.secretsOf(payload)}, nil
}

// open starts what executes CPU-bound tasks.
func (x *exec) open() (err error) {
	if x.task.spec.Kind != CPU {
		return nil
	}
	if err := checkTestMain(taskSet{list: []*Task{x.task}}); err != nil {
		return err
	}
	children := x.cfg.Children.pool(x.cfg.Processes, x.cfg.Logger, x.cfg.grants)
	children.Processes, children.Call = 1, serveCalls(x.client)
	x.pool, err = subprocess.NewPool(children)
	return err
}

func (x *exec) close(ctx context.Context) {
	if x.pool != nil {
		closePool(ctx, x.pool, x.cfg.Logger)
	}
}

func (x *exec) run(ctx context.Context) *ExecResult {
	x.deadline = time.Now().Add(x.task.spec.Timeout)
	ctx, cancel := context.WithDeadline(ctx, x.deadline)
	defer cancel()
	runCtx := newRunContext(ctx, x.stored, x.deadline, x.client, x.cfg.Logger)
	defer runCtx.end()
	runCtx.trace = x.task.spec.Trace
	runCtx.secrets = x.secrets
	err := x.handle(runCtx)
	response := respond(runCtx, x.secrets, answer{result: x.answer.result}, err)
	if response.Failure != nil && errors.Is(ctx.Err(), context.Canceled) {
		response.Failure.Kind = Cancelled
		if endedBy(context.Cause(ctx), err, response.Failure.Message) {
			response.Failure.Message = "interrupted"
		}
	}
	return &ExecResult{ID: x.stored.ID, Result: response.Result, Failure: response.Failure, Queued: x.queued}
}

// endedBy reports whether a run failed because of the cause for which its context was
// cancelled. From a child process comes the message of an error alone.
func endedBy(cause, err error, message string) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, cause) ||
		message == cause.Error() || message == context.Canceled.Error()
}

// handle executes the task within the middleware. It does so in a goroutine of its own,
// for which it waits: a task that calls runtime.Goexit ends that one, not the caller's.
func (x *exec) handle(ctx *runContext) (err error) {
	err = errGoexit // unless it returns
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				err = &panicError{v, debug.Stack()}
			}
		}()
		called := false
		handler := func(within context.Context, _ *Run) error {
			called = true
			if err := x.call(within, ctx.headers()); err != nil || x.answer.call == nil {
				return err
			}
			return x.queueCall(within)
		}
		err = wrap(x.cfg.Middleware, handler)(ctx, ctx.asked())
		if err == nil && !called && x.task.hasResult {
			err = errNotCalled
		}
	}()
	<-done
	return err
}

// call executes the task here or in a child process, by its kind. A child process gets the
// headers.
func (x *exec) call(ctx context.Context, headers map[string]string) (err error) {
	memory := x.cfg.Codec.memory(x.stored.Payload)
	if x.pool == nil {
		x.answer, err = protect(ctx, x.task, x.stored.Payload, memory)
		return err
	}
	response, err := x.pool.Run(ctx, &subprocess.Request{
		Run: withHeaders(x.stored, headers), Deadline: x.deadline, Memory: x.task.spec.Memory, DecodeMemory: memory, Hide: x.secrets.InChild(),
	})
	if err != nil {
		return err
	}
	x.answer, err = answerOf(response)
	return err
}

// queueCall queues the call that the task returned.
func (x *exec) queueCall(ctx context.Context) error {
	first := childOf(x.stored, x.answer.call.first, time.Now())
	last := first
	for next := first; next != nil; next = follower(next) {
		last = next
	}
	err := x.client.submit(ctx, newEnqueueCall(first))
	if err == nil || errors.Is(err, ErrNotReplicated) {
		x.queued = &broker.RunRef{Queue: last.Queue, ID: last.ID}
	}
	if err != nil {
		return fmt.Errorf("queue the call that the task returned: %w", advise(err))
	}
	return nil
}
