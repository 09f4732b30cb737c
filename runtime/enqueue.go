package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/text"
	"github.com/taskgen/taskgen/internal/ulid"
)

// QueueTask queues one run of a task whose parameters are encoded, see
// [Task.EncodeParams]. It is for programs that choose the task at run time, such as a
// command line. It returns the run that it queued, and beside an error the run that it
// would have queued, as far as it was made. It blocks until the broker has replied. Its
// errors are those of a generated function. It may be called concurrently.
func (c *Client) QueueTask(ctx context.Context, t Task, payload []byte, opts ...QueueOption) (*broker.TaskRun, error) {
	run, err := c.makeRun(ctx, &t, payload, opts)
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

// QueueTasks queues one run of a task for each of some payloads, all of them or none, as
// [QueueBatch] does. Otherwise it is as [Client.QueueTask].
func (c *Client) QueueTasks(ctx context.Context, t Task, payloads [][]byte, opts ...QueueOption) ([]*broker.TaskRun, error) {
	runs := make([]*broker.TaskRun, len(payloads))
	for i, payload := range payloads {
		var err error
		if runs[i], err = c.makeRun(ctx, &t, payload, opts); err != nil {
			return nil, fmt.Errorf("queue run %d of %d of task %s: %w", i+1, len(payloads), t.spec.Name, err)
		}
		if i > 0 && runs[i].OwnID {
			return nil, fmt.Errorf("queue %s of task %s: the option ID names one run; queue them one by one, each with its own", text.Count(len(payloads), "run"), t.spec.Name)
		}
	}
	if len(runs) == 0 {
		return nil, nil
	}
	if err := c.queue(ctx, runs...); err != nil {
		return runs, fmt.Errorf("queue %s of task %s: %w", text.Count(len(runs), "run"), t.spec.Name, advise(err))
	}
	return runs, nil
}

// WaitTask waits for a run that [Client.QueueTask] queued, as [Handle.Wait] does, and returns
// its record. If the run returned a call, the record is that of the last run of the call, or
// of the one that failed. It blocks until the run has ended or ctx ends. It returns
// [ErrNoRecord] if no record is kept. It may be called concurrently.
func (c *Client) WaitTask(ctx context.Context, run *broker.TaskRun) (*broker.Record, error) {
	records, ok := c.broker.(recorder)
	if !ok {
		return nil, fmt.Errorf("wait for run %s: this broker keeps no records", run.ID)
	}
	record, err := records.WaitRecord(ctx, run.Queue, run.ID)
	if err == nil {
		record, err = c.follow(ctx, record, true)
	}
	if err != nil {
		return nil, fmt.Errorf("wait for run %s: %w", run.ID, err)
	}
	return record, nil
}

// queue queues runs without a group.
func (c *Client) queue(ctx context.Context, runs ...*broker.TaskRun) error {
	if err := c.check(runs); err != nil {
		return err
	}
	if len(c.middleware) == 0 {
		return c.broker.QueueTasks(ctx, runs...) // the usual case, without the function value
	}
	return c.wrap(c.broker.QueueTasks, runs)(ctx)
}

// check refuses runs that this client cannot queue.
func (c *Client) check(runs []*broker.TaskRun) error {
	if err := c.checkUsable(); err != nil {
		return err
	}
	for _, run := range runs {
		if run.Links == nil {
			continue
		}
		if err := c.checkLinks(run); err != nil {
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
		if err := visit(run, c.refuseUnkept); err != nil {
			return err
		}
	}
	return nil
}

// visit calls f for a run and those within it: the members of its group, its follow-ups,
// and theirs. It returns the first error.
func visit(run *broker.TaskRun, f func(*broker.TaskRun) error) error {
	if err := f(run); err != nil || run.Links == nil {
		return err
	}
	for _, m := range run.Links.Members {
		if err := visit(m, f); err != nil {
			return err
		}
	}
	for _, c := range run.Links.Then {
		if err := visit(c.Run, f); err != nil {
			return err
		}
	}
	return nil
}

// checkLinks refuses links to others that mean nothing, or that this broker does not keep.
func (c *Client) checkLinks(run *broker.TaskRun) error {
	if run.Links == nil {
		return nil
	}
	_, groups := c.broker.(groupQueuer)
	return visit(run, func(run *broker.TaskRun) error {
		if len(run.Links.OrZero().Members) > 0 && !groups {
			return errNoGroups
		}
		return refuseSkipFailed(run)
	})
}

var errNoGroups = errors.New("this broker has no broker.Groups; use one that has, such as the embedded one or Redis")

// wrap puts the middleware around the queueing of runs. The middleware sees those within
// them too.
func (c *Client) wrap(queue QueueHandler, runs []*broker.TaskRun) func(ctx context.Context) error {
	if len(c.middleware) == 0 {
		return func(ctx context.Context) error { return queue(ctx, runs...) }
	}
	all := runs[:len(runs):len(runs)]
	for _, run := range runs {
		all = appendWithin(all, run)
	}
	handler := queue
	if len(all) > len(runs) {
		handler = func(ctx context.Context, given ...*broker.TaskRun) error {
			if !slices.Equal(given, all) {
				return errors.New("a middleware added, left out or replaced runs that belong together; it may change their headers, or refuse them all by an error")
			}
			return queue(ctx, runs...)
		}
	}
	for i := len(c.middleware) - 1; i >= 0; i-- {
		handler = c.middleware[i](handler)
	}
	return func(ctx context.Context) error { return handler(observed(ctx, c.broker), all...) }
}

// appendWithin appends the runs within a run.
func appendWithin(runs []*broker.TaskRun, run *broker.TaskRun) []*broker.TaskRun {
	at := len(runs)
	_ = visit(run, func(r *broker.TaskRun) error {
		runs = append(runs, r)
		return nil
	})
	return slices.Delete(runs, at, at+1)
}

// advise adds to ErrNotReplicated what to do: the obvious, queueing again, may execute the
// run twice.
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

// makeRun makes a run of a task whose parameters are encoded.
func (c *Client) makeRun(ctx context.Context, t *Task, payload []byte, opts []QueueOption) (*broker.TaskRun, error) {
	run := &broker.TaskRun{Payload: payload}
	if err := t.applyPolicies(run); err != nil {
		return run, err
	}
	parent, _ := CurrentRun(ctx)
	return run, c.completeRun(run, &t.spec, time.Now(), parent, opts)
}

// completeRun sets what a run with a payload and policies lacks, and checks it.
func (c *Client) completeRun(run *broker.TaskRun, spec *Spec, now time.Time, parent *Run, opts []QueueOption) error {
	if c.invalid != nil {
		return c.invalid
	}
	if err := c.checkPayload(run.Payload); err != nil {
		return err
	}
	spec.initRun(run, now)
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

// submit queues the runs of a call that are not too large.
func (c *Client) submit(ctx context.Context, call enqueueCall) error {
	if err := c.checkSizes(call.all()); err != nil {
		return err
	}
	return c.queueCall(ctx, call)
}

// queueCall queues the runs of one call: a group if one gathers the others.
func (c *Client) queueCall(ctx context.Context, call enqueueCall) error {
	if call.gathering == nil {
		return c.queue(ctx, call.runs...)
	}
	groups, ok := c.broker.(groupQueuer)
	if !ok {
		return errNoGroups
	}
	queue := func(ctx context.Context, runs ...*broker.TaskRun) error {
		if len(runs) != len(call.runs)+1 {
			return errors.New("a middleware added or left out runs of a group")
		}
		return groups.QueueGroup(ctx, runs[len(call.runs)], runs[:len(call.runs)]...)
	}
	runs := call.all()
	if err := c.check(runs); err != nil {
		return err
	}
	return c.wrap(queue, runs)(ctx)
}

// checkSizes refuses runs that are too large, or have too large ones within them.
func (c *Client) checkSizes(runs []*broker.TaskRun) error {
	for _, run := range runs {
		if err := visit(run, c.checkSize); err != nil {
			return err
		}
	}
	return nil
}

// checkSize refuses a run that is too large together with its follow-ups.
func (c *Client) checkSize(run *broker.TaskRun) error {
	if run.Links == nil || len(run.Links.Then) == 0 {
		return c.checkPayload(run.Payload)
	}
	if size := totalPayload(run); size > c.maxPayload {
		return fmt.Errorf("%w: the parameters of run %s and of what follows it take %d bytes, at most %d are allowed", ErrPayloadTooLarge, run.ID, size, c.maxPayload)
	}
	return nil
}

// refuseSkipFailed refuses the option SkipFailed for a run that gathers no group.
func refuseSkipFailed(run *broker.TaskRun) error {
	if gathers := run.Links.OrZero().Awaits; gathers.Partial && gathers.ID == "" {
		return fmt.Errorf("the option SkipFailed is for the run that gathers a group, and run %s of task %s gathers none; give it to the Next of a Group, or to the Group's Call", run.ID, run.Task)
	}
	return nil
}

// refuseUnkept refuses a run that this broker would not treat as its task says.
func (c *Client) refuseUnkept(run *broker.TaskRun) error {
	if run.Links != nil && len(run.Links.Then) > 0 && !c.keepsNext() {
		return fmt.Errorf("task %s is followed by another, which this broker does not keep; "+
			"use one that has broker.Policies, such as the embedded one or Redis", run.Task)
	}
	return refusePolicies(run, c.policies)
}

// refusePolicies refuses a run with a policy that its broker does not have, so that no
// policy is silently ignored.
func refusePolicies(run *broker.TaskRun, kept broker.PolicySet) error {
	rules := run.Rules.OrZero()
	limited := len(rules.Limits) > 0 && kept&broker.PolicyLimits == 0
	var directive string
	switch {
	case rules.Unique != "" && kept&broker.PolicyUnique == 0:
		directive = "unique"
	case limited && rules.Limits[0].Per == 0:
		directive = "concurrency"
	case limited:
		directive = "rate"
	case rules.Fair != "" && kept&broker.PolicyFair == 0:
		directive = "fair"
	default:
		return nil
	}
	return fmt.Errorf("task %s has //task:%s, which this broker does not keep; use one that has broker.Policies, such as the embedded one or Redis", run.Task, directive)
}

// keepsNext reports whether follow-ups are queued once a run has succeeded. A broker without
// leases delivers at most once anyway: there the consumer queues them itself.
func (c *Client) keepsNext() bool {
	_, leased := c.broker.(broker.Leaser)
	return !leased || c.policies&broker.PolicyNext != 0
}
