package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/ulid"
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

// Group has a run gather the results of calls, the members, in their order:
//
//	counts := []taskrt.Call[int]{CallCountWords("a b"), CallCountWords("c")}
//	taskrt.Group(counts, NextAdd()).Queue(ctx)
//
// The broker queues the gathering run in the step that records the end of the last member. A
// member is a run, or a call of any form: runs that follow each other, or a group of its own.
// If a member fails for good, is cancelled or expires, the gathering run fails without being
// executed, unless it has the option [SkipFailed]: then it gets the results of the others,
// which may be none.
//
//   - There are at most [broker.MaxGroup], 10,000 members, of any tasks with results of one
//     type, in any queues. If there are none, the run gets an empty list at once. The group is
//     kept in the queue of the first member's first run. Groups nest at most
//     [broker.MaxNesting], 8 deep, and the results of one group have at most
//     [broker.MaxGroupResults], 64 MiB.
//   - While the gathering run waits for its members it holds its [ID] and its unique key, its
//     Status is delayed, and its time of //task:expire has not begun. Its policies cannot go
//     by the results, which are not known when it is queued.
//   - If a live run has the gathering run's ID or unique key, Queue returns the handle of that
//     run, with [ErrDuplicate]. If all members are single runs of one queue, Queue also
//     refuses those whose ID or unique key a live run has, and a [DuplicateError] names them.
//     In any other group such a member is not queued, and has failed as [Duplicate].
//   - If a member that is a dead letter is queued again and succeeds, the gathering run can be
//     queued again too, for seven days.
func Group[A, R any](members []Call[A], next Next[[]A, R]) Call[R] {
	nodes := make([]*callNode, len(members))
	for i, m := range members {
		nodes[i] = m.orInvalid()
	}
	return Call[R]{next.orInvalid().behind(func(n *callNode) {
		if n.members != nil {
			n.invalid = errors.New("it gathers a group of its own, and a run gathers one group; gather the first by a run that the second follows")
		}
		n.members = nodes
	})}
}

// buildGroup makes the members of a group that is within so many others, and the run that
// gathers them one that does.
func (b *builder) buildGroup(n *callNode, gathering *broker.TaskRun, nesting int) error {
	switch size := len(n.members); {
	case size > broker.MaxGroup:
		return fmt.Errorf("the group has %d members, at most %d are allowed; let each do more", size, broker.MaxGroup)
	case nesting >= broker.MaxNesting:
		return fmt.Errorf("groups are nested %d deep, at most %d are allowed; let a task return the inner ones", nesting+1, broker.MaxNesting)
	}
	if err := n.checkPolicies(); err != nil {
		return err
	}
	links := gathering.EnsureLinks()
	group := &links.Awaits
	group.ID, group.Size, group.Param = ulid.New(b.now), len(n.members), n.param
	links.Members = make([]*broker.TaskRun, 0, len(n.members))
	for i, m := range n.members {
		member, err := b.newMember(m, nesting+1)
		if err != nil {
			return fmt.Errorf("group member %d: %w", i, err)
		}
		if i == 0 {
			group.Queue = member[0].run.Queue
		}
		for _, l := range member {
			setMember(l.run, group.Queue, group.ID, i)
		}
		links.Members = append(links.Members, member[0].run)
	}
	return nil
}

// gatherNothing makes a run that gathers a group without members one that waits for nothing.
func gatherNothing(run *broker.TaskRun, param string) (err error) {
	if run.Links != nil {
		run.Links.Awaits = broker.Group{} // which has only what SkipFailed has set
	}
	if param != "" {
		run.Payload, err = wireform.With(run.Payload, param, codec.AppendArrayLen(nil, 0))
	}
	return err
}

// newMember makes the runs of a group's member, which follow each other.
func (b *builder) newMember(n *callNode, nesting int) (chain, error) {
	made, err := b.build(n, nesting)
	switch {
	case err != nil && n.isSingle():
		return nil, n.named(err)
	case err != nil:
		return nil, err
	}
	made.keepAll()
	return made, nil
}

// setMember gives a run its place in a group that the queue keeps. An empty id is no group.
func setMember(run *broker.TaskRun, queue, id string, member int) {
	links := run.EnsureLinks()
	links.Group, links.GroupQueue, links.Member = id, "", member
	if id != "" && run.Queue != queue {
		links.GroupQueue = queue
	}
}

// checkPolicies refuses a gathering run whose policies go by the results: its keys must be
// known when it is queued.
func (n *callNode) checkPolicies() error {
	if n.param == "" || !n.task.keyed() {
		return nil
	}
	first := n.members[0]
	if first.task == nil {
		return nil // which the member's own error says
	}
	other, err := wireform.With(n.run.Payload, n.param, append(codec.AppendArrayLen(nil, 1), first.task.zeroResult()...))
	if err != nil {
		return err
	}
	rules, err := n.task.rules(other)
	if err != nil {
		return err
	}
	if !samePolicies(n.run.Rules.OrZero(), rules) {
		return n.named(errors.New("a policy goes by the results of the group, which are not known when it is queued: name other parameters with by="))
	}
	return nil
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
	at, succeeded := 0, 0
	for i, m := range members {
		switch {
		case m == nil:
			return nil, Permanent(fmt.Errorf("gather results of group %s: member %d has not ended", group.ID, i))
		case m.State == broker.StateSucceeded:
			succeeded++
			results = append(results, m.Result...)
		case failed == nil:
			failed, at = m, i
		}
	}
	if failed != nil && !group.Partial {
		return nil, Permanent(membersError(len(members)-succeeded, len(members), at, failed))
	}
	if group.Param == "" {
		return run.Payload, nil
	}
	return wireform.With(run.Payload, group.Param, append(codec.AppendArrayLen(nil, succeeded), results...))
}

// membersError is the error of a run that gathers a group of which some members failed, the first
// of them at a place. If that one gathers a group of its own, the error names the run in there
// that failed, and the places on the way to it, instead of what each level says.
func membersError(n, of, at int, first *broker.Record) error {
	var within []string
	if f := first.Failure; f != nil && f.Kind == Failed {
		within = innerFailure.FindStringSubmatch(f.Message)
	}
	if within == nil {
		return fmt.Errorf("%d of %d members of the group failed, the first: %w", n, of, runError(first))
	}
	path := fmt.Sprint("in the group of member ", at)
	if within[1] != "" {
		path += ", of its member " + within[1]
	}
	return fmt.Errorf("%d of %d members of the group failed, the first, %s: %s", n, of, path, within[2])
}

// innerFailure matches the text of membersError: the places on the way, and why the run failed.
var innerFailure = regexp.MustCompile(`^\d+ of \d+ members of the group failed, the first(?:, in the group of member (\d+(?:, of its member \d+)*))?: ((?s:.*))$`)
