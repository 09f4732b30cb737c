package runtime

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/wireform"
)

// Then has a run follow a call, and get its result:
//
//	taskrt.Then(CallCountWords(text), NextReport("words")).Queue(ctx)
//
// The broker queues the run in the step that records the success of the call's last run,
// whatever crashes. (A broker without [broker.Leaser] leaves that to the consumer, which can
// die in between.) If the call fails for good, what follows never runs, and waiting for it
// returns the [*RunError] of the run that failed.
//
//   - At most [broker.MaxThen], 16, runs can follow a first one. If a run returns a [Call], those
//     that follow in it and those that follow the run are counted together.
//   - A call of a first task without a result, or with one of no use, is followed by what
//     [After] makes.
//   - The records of the runs before the last are kept as long as its own. If the first run is
//     refused as [ErrDuplicate], nothing is queued. For cancelling see [Handle.Cancel].
//   - If a live run has the [ID] or unique key of a run when that is to follow, the run is
//     skipped: Wait and Status return a [*DuplicateError] if its record is kept, and the
//     consumer logs a warning and reports a [RunDropped] event of kind [Duplicate].
//   - If a policy of a run that follows depends on its parameters, the run before it starts
//     only at a consumer that has the tasks of both.
func Then[A, R any](first Call[A], next Next[A, R]) Call[R] {
	before := first.orInvalid()
	return Call[R]{next.orInvalid().behind(func(n *callNode) { n.before = before })}
}

// After makes a [Next] of a call that needs no result of the run before it:
//
//	taskrt.Then(CallStore(doc), taskrt.After[taskrt.None](CallNotify("stored")))
//
// The type argument is the type of the result that is not used. The call may be of several runs. If it
// begins with a [Group], the members are queued once the run before them has succeeded.
func After[A, R any](call Call[R]) Next[A, R] { return Next[A, R]{call.orInvalid()} }

// buildThen makes the runs of a call that follow each other.
func (b *builder) buildThen(n *callNode, nesting int) (chain, error) {
	made, err := b.build(n.before, nesting)
	switch {
	case err != nil && n.before.isSingle():
		return nil, n.before.named(err)
	case err != nil:
		return nil, err
	}
	run, err := b.buildRun(n, nesting)
	switch {
	case err != nil && n.members != nil:
		return nil, fmt.Errorf("then: %w", err)
	case err != nil:
		return nil, fmt.Errorf("then: %w", n.named(err))
	case len(made) > broker.MaxThen:
		return nil, fmt.Errorf("then: %w", n.named(fmt.Errorf("at most %d runs can follow a first one; let the last of them return the rest as a call", broker.MaxThen)))
	}
	after := broker.FollowUp{Run: run}
	if n.members == nil { // the parameter of a gathering run gets the results of the group
		after.Param, after.Keyed = n.param, n.param != "" && n.task.keyed()
	}
	links := made.last().EnsureLinks()
	links.Then = append(links.Then, after)
	return append(made, link{n, run}), nil
}

// next makes the follow-ups of a run that has succeeded, with further headers.
func (s taskSet) next(run *broker.TaskRun, result []byte, headers map[string]string) ([]*broker.TaskRun, error) {
	if run.Links == nil || len(run.Links.Then) == 0 {
		return nil, nil
	}
	then := run.Links.Then
	if result == nil {
		result = codec.AppendNil(nil)
	}
	next := make([]*broker.TaskRun, len(then))
	for i, c := range then {
		after := childOf(run, c.Run, time.Now())
		addHeaders(after, headers)
		if c.Param != "" {
			payload, err := wireform.With(after.Payload, c.Param, result)
			if err != nil {
				return nil, fmt.Errorf("make run %s of task %s, which follows: %w", after.ID, after.Task, err)
			}
			after.Payload = payload
		}
		if c.Keyed {
			if err := s.reapplyPolicies(after); err != nil {
				return nil, fmt.Errorf("make run %s of task %s, which follows: %w", after.ID, after.Task, err)
			}
		}
		next[i] = after
	}
	if err := checkNext(next); err != nil {
		return nil, fmt.Errorf("%w, then queue the run before it again (dead retry)", err)
	}
	return next, nil
}

// childOf returns a copy of a run that another queues, with the members of its group.
func childOf(parent, run *broker.TaskRun, now time.Time) *broker.TaskRun {
	c := *run
	c.ParentID, c.RootID, c.QueuedAt = parent.ID, rootID(parent), now
	members := run.Links.OrZero().Members
	if len(members) == 0 {
		return &c
	}
	links := *run.Links
	links.Members = make([]*broker.TaskRun, len(members))
	for i, m := range members {
		links.Members[i] = childOf(parent, m, now)
	}
	c.Links = &links
	return &c
}

// addHeaders adds headers to a copy that childOf made, and to the members of its group.
func addHeaders(run *broker.TaskRun, headers map[string]string) {
	if len(headers) == 0 {
		return
	}
	run.Headers = maps.Clone(run.Headers)
	if run.Headers == nil {
		run.Headers = make(map[string]string, len(headers))
	}
	for _, key := range slices.Sorted(maps.Keys(headers)) {
		value := headers[key]
		_, has := run.Headers[key]
		hasRoom := has || len(run.Headers) < broker.MaxHeaders
		if hasRoom && key != "" && len(key)+len(value) <= broker.MaxHeader && utf8.ValidString(key) && utf8.ValidString(value) {
			run.Headers[key] = value
		}
	}
	for _, m := range run.Links.OrZero().Members {
		addHeaders(m, headers)
	}
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
