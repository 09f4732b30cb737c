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

// Group queues runs of one task, and has another queued with all their results,
// in their order, once the last of them has ended:
//
//	total, err := taskrt.Group(ctx,
//		func(ctx context.Context) ([]*taskrt.Handle[Summary], error) {
//			return QueueHeavyCalculationBatch(ctx, params)
//		},
//		QueueMerge) // func(context.Context, []Summary, ...taskrt.QueueOption) (*taskrt.Handle[Total], error)
//
// The members are queued all or none, at most 10,000, in one queue; the run that
// gathers them in the step that records the last one's end. If a member failed
// for good, or was cancelled or expired, it then fails too, without being
// executed; with the option [SkipFailed] it gets the results of the others, which
// may be none. It fails too when the results are more than [broker.MaxGroupResults],
// 64 MiB, together. A member that is queued again as a dead letter (dead retry) and
// then succeeds counts as that, so that the gathering run can be queued again too,
// for seven days. Until then it holds its own [ID] and its key of //task:unique,
// its Status is delayed, and its time of //task:expire has not begun.
//
// members and next are as first and next of [Then], next's parameter a slice of
// results. Members are single runs, queued by one call or by many, of which all
// handles are returned; what gathers them can be followed with Then, they cannot.
// opts are those of the gathering run.
//
// When the [ID] or key of the gathering run is that of a live run, the handle is that
// one's, with [ErrDuplicate]. When those of a member are, there is no handle, and of
// keys the [DuplicateError] tells which. The handle is also returned with
// [ErrNotReplicated].
func Group[A, B any](ctx context.Context,
	members func(ctx context.Context) ([]*Handle[A], error),
	next func(ctx context.Context, results []A, opts ...QueueOption) (*Handle[B], error),
	opts ...QueueOption,
) (*Handle[B], error) {
	handle, err := group(ctx, members, next, opts)
	if err != nil {
		return handle, fmt.Errorf("queue a group of runs: %w", err)
	}
	return handle, nil
}

func group[A, B any](ctx context.Context,
	members func(ctx context.Context) ([]*Handle[A], error),
	next func(ctx context.Context, results []A, opts ...QueueOption) (*Handle[B], error),
	opts []QueueOption,
) (*Handle[B], error) {
	c, err := clientOf(ctx)
	if err != nil {
		return nil, err
	}
	handles, p, err := planned(ctx, c, members)
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
	var in place
	if _, spec := handles[0].run(); spec.Result != "" {
		in = place{form: "[" + spec.Result + "]", zero: codec.AppendArrayLen(nil, 0)}
	}
	handle, after, err := template(ctx, c, in, func(ctx context.Context, opts []QueueOption) (*Handle[B], error) {
		return next(ctx, nil, opts...)
	}, opts)
	if err != nil {
		return nil, err
	}
	if after.Keyed {
		// What it goes by has to be known now: do other results make another key?
		in.zero = nil
		_, other, err := template(ctx, c, in, func(ctx context.Context, opts []QueueOption) (*Handle[B], error) {
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
	return gathering(handle, c.submit(ctx, step{then: after.Run, runs: runs}))
}

// gathering returns the handle that the error of queueing a group leaves: of what
// was queued, or of the live run that is in the way of the one that gathers.
func gathering[B any](h *Handle[B], err error) (*Handle[B], error) {
	var duplicates *DuplicateError
	if errors.As(err, &duplicates) && len(duplicates.Runs) > 0 && duplicates.Runs[0].Index == -1 {
		h.ID = duplicates.Runs[0].ID
		return h, err
	}
	return queued(h, err)
}

// membersOf makes the runs of a plan the members of a group, in the order of
// their handles.
func membersOf[A any](p *plan, group string, handles []*Handle[A]) ([]*broker.TaskRun, error) {
	runs := make([]*broker.TaskRun, 0, len(handles))
	byID := p.byID()
	for i, h := range handles {
		run := byID[h.ID]
		if run == nil && h.after != nil {
			return nil, fmt.Errorf("member %d, run %s, follows another, and a group waits for single runs; have its task do the steps of both, or gather the first runs and let what gathers do the rest", i, h.ID)
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

// count returns how many runs there are.
func (p *plan) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, s := range p.steps {
		n += len(s.runs)
		if s.then != nil {
			n++
		}
	}
	return n
}

// byID returns the runs of the plan that are followed by nothing.
func (p *plan) byID() map[string]*broker.TaskRun {
	p.mu.Lock()
	defer p.mu.Unlock()
	runs := make(map[string]*broker.TaskRun)
	for _, s := range p.steps {
		if s.then != nil {
			continue
		}
		for _, run := range s.runs {
			if len(run.Links.OrZero().Then) == 0 {
				runs[run.ID] = run
			}
		}
	}
	return runs
}
