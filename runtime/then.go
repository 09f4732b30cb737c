package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
)

// Then queues a run and, as its follow-up, a second one that gets the result of the first:
//
//	report, err := taskrt.Then(ctx,
//		func(ctx context.Context) (*taskrt.Handle[Summary], error) {
//			return QueueHeavyCalculation(ctx, dataID)
//		},
//		QueueReport) // func(context.Context, Summary, ...taskrt.QueueOption) (*taskrt.Handle[URL], error)
//
// The broker queues the second run atomically with the record of the first one's success,
// whatever crashes. (A broker without [broker.Leaser] leaves that to the consumer, which can
// die in between.) Then returns the handle of the second run. It sends one request, which
// queues everything or nothing, and blocks until the broker has replied.
//
//   - first calls one generated Queue… function, or Then or [Group] again, and returns its
//     handle. It queues nothing else.
//   - next is a generated Queue… function, or calls one and passes the result on as its
//     first parameter. Then calls next once, with the zero value in place of the result;
//     another value there is an error. If the first task has no result, next gets [None]
//     and ignores it.
//   - opts are the options of the second run. Then passes them to next, which passes them
//     on. Its Delay counts from the first run's success.
//
// If the first run fails for good, the second never runs, and waiting for it returns the
// first run's [*RunError]. If a live run has the second run's [ID] or unique key when the
// first succeeds, the second is skipped: Wait and Status return a [*DuplicateError] if its
// record is kept, and the consumer logs a warning and reports a [RunDropped] event of kind
// [Duplicate]. For cancelling see [Handle.Cancel].
//
// If a policy of the second run depends on its parameters, the first run starts only at a
// consumer that has the tasks of both. The record of the first run is kept as long as that
// of the second.
//
// If the first run is refused as [ErrDuplicate], Then queues nothing and returns no handle.
// It returns the handle beside [ErrNotReplicated].
func Then[A, B any](ctx context.Context,
	first func(ctx context.Context) (*Handle[A], error),
	next func(ctx context.Context, result A, opts ...QueueOption) (*Handle[B], error),
	opts ...QueueOption,
) (*Handle[B], error) {
	handle, err := enqueueThen(ctx, first, next, opts)
	if err != nil {
		return handle, fmt.Errorf("queue runs that follow each other: %w", err)
	}
	return handle, nil
}

func enqueueThen[A, B any](ctx context.Context,
	first func(ctx context.Context) (*Handle[A], error),
	next func(ctx context.Context, result A, opts ...QueueOption) (*Handle[B], error),
	opts []QueueOption,
) (*Handle[B], error) {
	c, err := clientOf(ctx)
	if err != nil {
		return nil, err
	}
	before, p, err := recordPlan(ctx, c, first)
	if err != nil {
		return nil, err
	}
	if before == nil {
		return nil, errors.New("the first function returned no handle")
	}
	run := p.find(before.ID)
	if run == nil {
		return nil, fmt.Errorf("run %s was not queued by the first function with the context it was given", before.ID)
	}
	call, err := p.only(before.ID)
	if err != nil {
		return nil, err
	}
	var zero A
	_, spec := before.run()
	in := resultParam{form: spec.Result, zero: before.def.zeroResult()}
	handle, after, err := followUp(ctx, c, in, func(ctx context.Context, opts []QueueOption) (*Handle[B], error) {
		return next(ctx, zero, opts...)
	}, opts)
	if err != nil {
		return nil, err
	}
	links := run.EnsureLinks()
	links.Then = append(links.Then, after)
	run.Keep = max(run.Keep, after.Run.Keep)
	before.keep = run.Keep > 0
	handle.after = before
	if err := run.Validate(); err != nil {
		return nil, err
	}
	return handleIfQueued(handle, c.submit(ctx, call))
}

// handleIfQueued returns the handle, unless err says that its run was not queued.
func handleIfQueued[R any](h *Handle[R], err error) (*Handle[R], error) {
	if err != nil && !errors.Is(err, ErrNotReplicated) {
		return nil, err
	}
	return h, err
}

// next makes the follow-ups of a run that has succeeded.
func (s taskSet) next(run *broker.TaskRun, result []byte) ([]*broker.TaskRun, error) {
	then := run.Links.OrZero().Then
	if len(then) == 0 {
		return nil, nil
	}
	if result == nil {
		result = codec.AppendNil(nil)
	}
	next := make([]*broker.TaskRun, len(then))
	for i, c := range then {
		after := *c.Run
		after.ParentID, after.RootID, after.QueuedAt = run.ID, rootID(run), time.Now()
		if c.Param != "" {
			payload, err := withParam(after.Payload, c.Param, result)
			if err != nil {
				return nil, fmt.Errorf("make run %s of task %s, which follows: %w", after.ID, after.Task, err)
			}
			after.Payload = payload
		}
		if c.Keyed {
			if err := s.reapplyPolicies(&after); err != nil {
				return nil, fmt.Errorf("make run %s of task %s, which follows: %w", after.ID, after.Task, err)
			}
		}
		next[i] = &after
	}
	if err := checkNext(next); err != nil {
		return nil, fmt.Errorf("%w, then queue the run before it again (dead retry)", err)
	}
	return next, nil
}

// checkNext refuses runs that no broker would store, so that their predecessor fails
// and the broker does not refuse its outcome again and again.
func checkNext(next []*broker.TaskRun) error {
	var largest *broker.TaskRun
	for _, run := range next {
		if err := run.Validate(); err != nil {
			return fmt.Errorf("run %.64q of task %.64q, which is to follow, cannot be stored: %w; correct what makes it", run.ID, run.Task, err)
		}
		if largest == nil || len(run.Payload) > len(largest.Payload) {
			largest = run
		}
	}
	if err := broker.CheckBatch(next); err != nil {
		return fmt.Errorf("run %.64q of task %.64q, which is to follow, cannot be stored, with %d bytes: %w; "+
			"return less, or keep it elsewhere and return where", largest.ID, largest.Task, len(largest.Payload), err)
	}
	return nil
}

// errUnknownFollowUp is the error of a follow-up whose policies depend on its parameters, and
// whose task this consumer does not have.
var errUnknownFollowUp = errors.New("its policies go by its parameters, and this consumer does not know the task")

// reapplyPolicies sets the rules of a run anew, as its parameters have changed.
func (s taskSet) reapplyPolicies(run *broker.TaskRun) error {
	task, ok := s.byName[run.Task]
	if !ok {
		return errUnknownFollowUp
	}
	run.Rules = nil
	return task.applyPolicies(run)
}

// follow returns an error if this consumer cannot make the follow-ups of a run. It is
// called before the run starts, so that no success fails because of them.
func (s taskSet) follow(run *broker.TaskRun) error {
	if run.Links == nil {
		return nil
	}
	for _, c := range run.Links.Then {
		if !c.Keyed {
			continue
		}
		after := *c.Run
		if err := s.reapplyPolicies(&after); err != nil {
			return fmt.Errorf("run %s of task %s is to follow: %w", after.ID, after.Task, err)
		}
	}
	return nil
}
