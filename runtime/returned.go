package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/backoff"
)

const (
	// maxReturned is how many runs, one after the other, may each end by returning a call
	// of which the next is part. It ends a task that returns a call of itself for ever.
	maxReturned = 1000

	// returnedKept is how long the record of a run that returned a call is kept at least:
	// it tells which runs took its place.
	returnedKept = 30 * 24 * time.Hour
)

// answer is what a task returned: a result or a call.
type answer struct {
	result []byte    // encoded; nil: the task has none
	call   *returned // nil: a result was returned
}

// returned is a call that a task returned. Few tasks return one, and each execution has the
// memory for an answer, so it is apart.
type returned struct {
	first      *broker.TaskRun // with the others within it
	successors []broker.RunRef // the runs that follow each other, once the call is accepted
}

// returnCall makes the runs of a call that a task returned, and returns the first.
func returnCall(ctx context.Context, n *callNode) (*broker.TaskRun, error) {
	c, err := clientOf(ctx)
	if err != nil {
		return nil, returnedError(err)
	}
	made, err := newBuilder(ctx, c).build(n, 0)
	if err != nil && n.isSingle() {
		err = n.named(err)
	}
	if err != nil {
		return nil, returnedError(err)
	}
	made.keepAll()
	return made[0].run, nil
}

// returnedError is the error of a call that a task returned and that cannot be queued. The
// task would return it again.
func returnedError(err error) error {
	if err == nil {
		return nil
	}
	return Permanent(fmt.Errorf("queue the call that the task returned: %w", err))
}

// accept has the call that a task returned take the place of its run.
func (x *execution) accept(ctx context.Context, a answer) (answer, error) {
	c, run := x.executor, x.Run()
	if n := run.Links.OrZero().Returned; n >= maxReturned {
		return answer{}, returnedError(fmt.Errorf("%d runs, one after the other, have returned a call; "+
			"have the task queue the next by its Queue function instead", n+1))
	}
	if err := c.client.checkUsable(); err != nil {
		return answer{}, fmt.Errorf("queue the call that the task returned: %w", err)
	}
	first, err := c.passOn(ctx, newEnqueueCall(childOf(run, a.call.first, time.Now())))
	if err != nil {
		return answer{}, err
	}
	call := replace(run, first)
	return answer{call: call}, returnedError(c.checkReplaced(run, call))
}

// passOn checks the runs of a returned call, and has the client's middleware see them. It
// returns the first.
func (e *executor) passOn(ctx context.Context, call enqueueCall) (first *broker.TaskRun, err error) {
	runs := call.all()
	// The consumer's broker queues them, whatever that of the client is.
	own := newClient(e.broker, policiesOf(e.broker), ClientConfig{})
	if err = e.client.checkSizes(runs); err == nil {
		err = own.checkReturned(call)
	}
	if err != nil {
		return nil, returnedError(err)
	}
	err = e.client.wrap(func(_ context.Context, given ...*broker.TaskRun) error {
		if len(given) != len(runs) {
			return errors.New("a middleware added or left out runs of the call")
		}
		first = given[len(given)-1]
		if call.gathering != nil {
			first.EnsureLinks().Members = slices.Clone(given[:len(given)-1])
		}
		return nil
	}, runs)(ctx)
	switch {
	case err != nil:
		return nil, fmt.Errorf("queue the call that the task returned: %w", err)
	case first == nil:
		return nil, returnedError(errors.New("a middleware returned nil without passing its runs on"))
	}
	return first, nil
}

// checkReturned refuses the runs of a returned call that this client's broker cannot queue.
func (c *Client) checkReturned(call enqueueCall) error {
	_, groups := c.broker.(groupQueuer)
	switch {
	case call.gathering != nil && !groups:
		return errNoGroups
	case !c.keepsNext():
		return errors.New("this broker does not keep what a run returns to be queued; use one that has broker.Policies, such as the embedded one or Redis")
	}
	return c.check(call.all())
}

// follower returns the run of a returned call that follows another, nil behind the last.
func follower(run *broker.TaskRun) *broker.TaskRun {
	if then := run.Links.OrZero().Then; len(then) > 0 {
		return then[0].Run
	}
	return nil
}

// replace has the runs of a call stand for the run that returned it.
func replace(run, first *broker.TaskRun) *returned {
	c, of, last := &returned{first: first}, run.Links.OrZero(), first
	if (broker.RunRef{Queue: first.Queue, ID: first.ID}) == (broker.RunRef{Queue: run.Queue, ID: run.ID}) {
		first.ParentID = run.ParentID // it continues the run: who waits for that knows it by its parent
	}
	countReturned(first, of.Returned+1)
	for next := first; next != nil; next = follower(next) {
		setMember(next, run.GroupQueue(), of.Group, of.Member)
		next.Keep = max(next.Keep, run.Keep)
		c.successors = append(c.successors, broker.RunRef{Queue: next.Queue, ID: next.ID})
		last = next
	}
	last.Links.Then = slices.Concat(last.Links.Then, of.Then)
	return c
}

// countReturned tells all runs of a returned call how many were returned before they came.
func countReturned(run *broker.TaskRun, n int) {
	links := run.EnsureLinks()
	links.Returned = n
	for _, m := range links.Members {
		countReturned(m, n)
	}
	for _, f := range links.Then {
		countReturned(f.Run, n)
	}
}

// checkReplaced refuses a call that cannot be stored in the place of the run that returned
// it, with what follows that run.
func (e *executor) checkReplaced(run *broker.TaskRun, c *returned) error {
	if c.isInTheWay(broker.RunRef{Queue: run.Queue, ID: run.ID}) {
		return fmt.Errorf("the id %s is that of the run that returns the call: only a call of one run, or the run that gathers its one group, may have it; give that run another id", run.ID)
	}
	own, all := len(c.successors)-1, 0
	for next := follower(c.first); next != nil; next = follower(next) {
		all++
	}
	if all > broker.MaxThen {
		return fmt.Errorf("%d runs follow its first one, and %d the run that returned it: at most %d can follow one after the other; "+
			"let one of them queue the rest", own, all-own, broker.MaxThen)
	}
	most := max(e.cfg.Codec.Payload, e.client.maxPayload)
	if size := totalPayload(c.first); size > most {
		return fmt.Errorf("%w: the parameters of its runs and of what follows this run take %d bytes, at most %d are allowed", ErrPayloadTooLarge, size, most)
	}
	if err := c.first.Validate(); err != nil {
		return err
	}
	return broker.CheckBatch([]*broker.TaskRun{c.first})
}

// isInTheWay reports whether the record of a run of the call would take the place of the one
// that names the runs of the call. That of the only run in its place may: it has the result.
// That of the last of several may not, as its parent is the run before it: who follows the
// call could take its record for that of a duplicate.
func (c *returned) isInTheWay(of broker.RunRef) bool {
	run := c.first
	for _, ref := range c.successors {
		if ref == of && len(c.successors) > 1 || slices.ContainsFunc(run.Links.OrZero().Members, func(m *broker.TaskRun) bool { return holds(m, of) }) {
			return true
		}
		run = follower(run)
	}
	return false
}

// holds reports whether a run, or one that is queued by way of it, is the one of ref.
func holds(run *broker.TaskRun, ref broker.RunRef) bool {
	links := run.Links.OrZero()
	return run.Queue == ref.Queue && run.ID == ref.ID ||
		slices.ContainsFunc(links.Members, func(m *broker.TaskRun) bool { return holds(m, ref) }) ||
		slices.ContainsFunc(links.Then, func(f broker.FollowUp) bool { return holds(f.Run, ref) })
}

// follow returns the record of the run that has the place of one that returned a call, from
// the record of that one: any other record it returns as it is. If wait, it blocks until the
// run has ended.
func (c *Client) follow(ctx context.Context, record *broker.Record, wait bool) (*broker.Record, error) {
	refs := record.Successors
	for i := 0; i < len(refs) && record.State == broker.StateSucceeded; i++ {
		var err error
		if i == 0 && isContinued(record, refs) {
			record, err = c.awaitContinued(ctx, record)
		} else {
			record, i, err = c.awaitSuccessor(ctx, refs, i, record.ID)
		}
		if err != nil {
			return nil, fmt.Errorf("run %s, which took its place: %w", refs[i].ID, err)
		}
		if wait && !record.State.Ended() {
			record, err = c.broker.(recorder).WaitRecord(ctx, refs[i].Queue, refs[i].ID)
		}
		if err == nil {
			record, err = c.follow(ctx, record, wait)
		}
		if err != nil {
			return nil, err
		}
	}
	return record, nil
}

// isContinued reports whether the run that has a record was replaced by one with its own id.
func isContinued(record *broker.Record, refs []broker.RunRef) bool {
	return refs[0] == (broker.RunRef{Queue: record.Queue, ID: record.ID})
}

// awaitContinued is awaitSuccessor for the run that continues another under its id. The record of
// the other is there until the run is queued; if that takes long, the run counts as queued.
func (c *Client) awaitContinued(ctx context.Context, of *broker.Record) (*broker.Record, error) {
	began := time.Now()
	for wait := backoff.New(10*time.Millisecond, 500*time.Millisecond); ; wait.Sleep(ctx) {
		f := followUp{RunRef: of.Successors[0], parent: of.ParentID, ownID: true}
		record, err := c.awaitFollowUp(ctx, f, longestMove)
		switch {
		case err != nil || len(record.Successors) == 0 || !isContinued(record, record.Successors):
			return record, err
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case time.Since(began) >= longestMove:
			queued := *record
			queued.State, queued.Successors = broker.StateQueued, nil
			return &queued, nil
		}
	}
}

// awaitSuccessor returns the record of the run refs[i], which follows the parent. If the
// record is not kept any more, it returns that of the next of which there is one.
func (c *Client) awaitSuccessor(ctx context.Context, refs []broker.RunRef, i int, parent string) (*broker.Record, int, error) {
	record, err := c.awaitFollowUp(ctx, followUp{RunRef: refs[i], parent: parent, ownID: true}, longestMove)
	for errors.Is(err, ErrNoRecord) && i+1 < len(refs) {
		i++
		record, err = c.broker.(recorder).Record(ctx, refs[i].Queue, refs[i].ID)
	}
	return record, i, err
}
