package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/text"
	"github.com/taskgen/taskgen/internal/ulid"
)

// Group queues runs of one task, its members, and a further run that gathers their results
// in order once the last member has ended:
//
//	total, err := taskrt.Group(ctx,
//		func(ctx context.Context) ([]*taskrt.Handle[Summary], error) {
//			return QueueHeavyCalculationBatch(ctx, params)
//		},
//		QueueMerge) // func(context.Context, []Summary, ...taskrt.QueueOption) (*taskrt.Handle[Total], error)
//
// The broker queues the gathering run atomically with the record of the last member's end.
// Group returns the handle of the gathering run. It sends one request, which queues
// everything or nothing, and blocks until the broker has replied.
//
//   - members calls generated Queue… functions, once or often, and returns the handles of
//     all runs: at most 10,000 single runs in one queue, which nothing else follows.
//   - next is as in [Then], with a slice of results. Group may call it twice.
//   - opts are the options of the gathering run, which Then can follow.
//
// If a member fails for good, is cancelled or expires, the gathering run fails without
// being executed. With the option [SkipFailed] it executes with the results of the other
// members, which may be none. It also fails if the results have more than
// [broker.MaxGroupResults], 64 MiB, together. If a member that is a dead letter is queued
// again and succeeds, the gathering run can be queued again too, for seven days.
//
// While the gathering run waits for its members it holds its [ID] and its unique key, its
// Status is delayed, and its time of //task:expire has not begun.
//
// If a live run has the gathering run's ID or unique key, Group returns the handle of that
// run, with [ErrDuplicate]. If a live run has those of a member, Group returns no handle,
// and for unique keys a [DuplicateError] with the member. It returns the handle beside
// [ErrNotReplicated].
func Group[A, B any](ctx context.Context,
	members func(ctx context.Context) ([]*Handle[A], error),
	next func(ctx context.Context, results []A, opts ...QueueOption) (*Handle[B], error),
	opts ...QueueOption,
) (*Handle[B], error) {
	handle, err := enqueueGroup(ctx, members, next, opts)
	if err != nil {
		return handle, fmt.Errorf("queue a group of runs: %w", err)
	}
	return handle, nil
}

func enqueueGroup[A, B any](ctx context.Context,
	members func(ctx context.Context) ([]*Handle[A], error),
	next func(ctx context.Context, results []A, opts ...QueueOption) (*Handle[B], error),
	opts []QueueOption,
) (*Handle[B], error) {
	c, err := clientOf(ctx)
	if err != nil {
		return nil, err
	}
	handles, p, err := recordPlan(ctx, c, members)
	if err != nil {
		return nil, err
	}
	switch n := len(handles); {
	case n == 0:
		return nil, errors.New("the function that makes the members returned no handle; where there is nothing to wait for, queue what gathers by itself")
	case n > broker.MaxGroup:
		return nil, fmt.Errorf("the group has %d members, at most %d are allowed; let each do more, or gather groups of them in a task that waits for their gathering runs", n, broker.MaxGroup)
	}
	if i := slices.Index(handles, nil); i >= 0 {
		return nil, fmt.Errorf("member %d has no handle", i)
	}
	var in resultParam
	if _, spec := handles[0].run(); spec.Result != "" {
		in = resultParam{form: "[" + spec.Result + "]", zero: codec.AppendArrayLen(nil, 0)}
	}
	handle, after, err := followUp(ctx, c, in, func(ctx context.Context, opts []QueueOption) (*Handle[B], error) {
		return next(ctx, nil, opts...)
	}, opts)
	if err != nil {
		return nil, err
	}
	if after.Keyed {
		// The key must be known now, so other results must not give another key.
		in.zero = nil
		_, other, err := followUp(ctx, c, in, func(ctx context.Context, opts []QueueOption) (*Handle[B], error) {
			return next(ctx, make([]A, 1), opts...)
		}, opts)
		if err != nil {
			return nil, err
		}
		if !samePolicies(after.Run.Rules.OrZero(), other.Run.Rules.OrZero()) {
			return nil, fmt.Errorf("a policy of task %s goes by the results of the group, which are not known when it is queued: name parameters with by= that next does not set from them", after.Run.Task)
		}
	}
	id := ulid.New(time.Now())
	runs, err := membersOf(p, id, handles)
	if err != nil {
		return nil, err
	}
	gathers := &after.Run.EnsureLinks().Awaits
	gathers.ID, gathers.Queue, gathers.Size, gathers.Param = id, handles[0].queue, len(handles), after.Param
	return gatheringHandle(handle, c.submit(ctx, enqueueCall{runs: runs, gathering: after.Run}))
}

// gatheringHandle returns what Group returns with the error of the enqueue: the handle is
// that of the gathering run, or of a live run in its way.
func gatheringHandle[B any](h *Handle[B], err error) (*Handle[B], error) {
	var duplicates *DuplicateError
	if errors.As(err, &duplicates) && len(duplicates.Runs) > 0 && duplicates.Runs[0].Index == -1 {
		h.ID = duplicates.Runs[0].ID
		return h, err
	}
	return handleIfQueued(h, err)
}

// membersOf makes the runs of a plan the members of a group, in the order of
// their handles.
func membersOf[A any](p *plan, group string, handles []*Handle[A]) ([]*broker.TaskRun, error) {
	runs := make([]*broker.TaskRun, 0, len(handles))
	byID := p.byID()
	for i, h := range handles {
		run := byID[h.ID]
		if run == nil && h.after != nil {
			return nil, fmt.Errorf("member %d, run %s, follows another, and a group waits for single runs; have its task do the work of both, or gather the first runs and let what gathers do the rest", i, h.ID)
		}
		if run == nil {
			return nil, fmt.Errorf("member %d, run %s, is not one that a generated Queue… function queued with the context it was given, or is one twice, or is followed by another", i, h.ID)
		}
		delete(byID, h.ID)
		if run.Queue != handles[0].queue {
			return nil, fmt.Errorf("member %d is for queue %s, others are for queue %s; a group is in one queue", i, run.Queue, handles[0].queue)
		}
		links := run.EnsureLinks()
		links.Group, links.Member = group, i
		runs = append(runs, run)
	}
	if n := p.count(); n != len(handles) {
		return nil, fmt.Errorf("the function that makes the members queued %s and returned %s; return that of each", text.Count(n, "run"), text.Count(len(handles), "handle"))
	}
	return runs, nil
}

func samePolicies(a, b broker.Rules) bool {
	return a.Unique == b.Unique && a.UntilStart == b.UntilStart && a.Fair == b.Fair && slices.Equal(a.Limits, b.Limits)
}

// gather returns the payload of a run with the results of the group that it gathers in
// its first parameter.
func gather(ctx context.Context, b broker.Broker, run *broker.TaskRun) ([]byte, error) {
	groups, ok := b.(broker.Groups)
	if !ok {
		return nil, Permanent(errors.New("gather results: this broker has no broker.Groups"))
	}
	group := run.Links.Awaits
	members, err := groups.Members(ctx, group)
	if errors.Is(err, ErrNoRecord) || errors.Is(err, broker.ErrGroupTooLarge) {
		return nil, Permanent(fmt.Errorf("gather results of group %s: %w", group.ID, err))
	}
	if err != nil {
		return nil, &gatherError{fmt.Errorf("gather results of group %s: %w", group.ID, err)}
	}
	var results []byte
	var failed *broker.Record
	succeeded := 0
	for i, m := range members {
		switch {
		case m == nil:
			return nil, Permanent(fmt.Errorf("gather results of group %s: member %d has not ended", group.ID, i))
		case m.State == broker.StateSucceeded:
			succeeded++
			results = append(results, m.Result...)
		case failed == nil:
			failed = m
		}
	}
	if failed != nil && !group.Partial {
		return nil, Permanent(fmt.Errorf("%d of %d members of the group failed, the first: %w", len(members)-succeeded, len(members), runError(failed)))
	}
	if group.Param == "" {
		return run.Payload, nil
	}
	return withParam(run.Payload, group.Param, append(codec.AppendArrayLen(nil, succeeded), results...))
}
