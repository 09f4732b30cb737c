package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/secret"
)

// Call is a run that is not queued yet, or the runs that [Then] and [Group] join:
//
//	h, err := taskrt.Then(CallCountWords(text), NextReport("words")).Queue(ctx)
//
// Generated Call functions make it. R is the result of its last run: that of the task, of
// what [Then] queues last, or of what gathers a [Group].
//
// A task may return a Call, and so decide while it runs which runs its result takes:
//
//	return taskrt.Group(calls, NextSummarize()), nil
//
// The broker queues that call in the step that records the task's success, once, whatever
// crashes. Its runs take the place of the task's run: a [Handle] of the run follows them to
// the last, a [Group] gathers the result of the last, and what was to follow the run follows
// the last. They have the run as parent. A call that cannot be queued fails the run.
//
// A Call is a value that nothing changes. It can be part of several others, and be queued
// often: each time as new runs. It may be used concurrently. To queue the zero value is an
// error.
type Call[R any] struct{ node *callNode }

// Queue queues all runs of the call, or none. It returns the handle of the last run. The
// options are those of this run, behind those of [Call.With]. It sends one request, and
// blocks until the broker has replied.
//
// A call has at most [broker.MaxRuns], 100,000 runs, members of groups included, and
// [broker.MaxBatch], 64 MiB of parameters. Its errors are those of a generated Queue
// function, and those of [Then] and [Group]. They name the place in the call, such as
// "group member 17: then: task report".
//
// Beside [ErrNotReplicated] it returns the handle. Beside [ErrDuplicate] it returns that of
// the live run that is in the way of the last one, unless that follows another; if the live
// run is in the way of any other, it returns none.
func (c Call[R]) Queue(ctx context.Context, opts ...QueueOption) (*Handle[R], error) {
	n := c.orInvalid().with(opts)
	h, err := n.queue(ctx)
	handle, _ := h.(*Handle[R])
	return handle, err
}

// With returns the call with further options of its last run. It queues nothing, and leaves
// to [Call.Queue] to return the error of an invalid option.
func (c Call[R]) With(opts ...QueueOption) Call[R] { return Call[R]{c.orInvalid().with(opts)} }

// orInvalid returns the node of the call, or one that cannot be queued.
func (c Call[R]) orInvalid() *callNode {
	if c.node == nil {
		return &callNode{invalid: errors.New("the call is the zero value; make it with a generated Call… function, Then or Group")}
	}
	return c.node
}

// Next is a run that is to follow another and get its result, of type A: [Then] and [Group]
// join the two. R is the result of the run itself:
//
//	var report taskrt.Next[int, string] = NextReport("words")
//	taskrt.Then(CallCountWords(text), report).Queue(ctx)
//
// Generated Next functions make it for tasks whose first parameter is of type A, which the
// result fills. [After] makes one for tasks that need no result.
//
// A Next is a value that nothing changes, like a [Call].
type Next[A, R any] struct{ node *callNode }

// With returns the follow-up with further options of its run. Its [Delay] counts from the
// success of the run before it.
func (n Next[A, R]) With(opts ...QueueOption) Next[A, R] {
	return Next[A, R]{n.orInvalid().with(opts)}
}

func (n Next[A, R]) orInvalid() *callNode {
	if n.node == nil {
		return &callNode{invalid: errors.New("what follows is the zero value; make it with a generated Next… function, or After")}
	}
	return n.node
}

// NewCall returns a call of one run. Generated Call functions call it.
func NewCall[P, R any](d *Definition[P, R], p *P) Call[R] { return Call[R]{newNode(d, p, "")} }

// NewNext returns a follow-up whose parameter param gets the result. Generated Next
// functions call it.
func NewNext[A, P, R any](d *Definition[P, R], param string, p *P) Next[A, R] {
	return Next[A, R]{newNode(d, p, param)}
}

// callNode is the last run of a call, with the runs that come before it.
type callNode struct {
	task    anyDefinition
	run     broker.TaskRun // parameters and rules; the rest is set when it is queued
	opts    []QueueOption
	invalid error // why it cannot be queued

	param   string      // the parameter that gets the result of before or members; empty: none
	before  *callNode   // the run that it follows
	members []*callNode // the group that it gathers
}

// anyDefinition is a [Definition] of any task.
type anyDefinition interface {
	spec() *Spec
	keyed() bool
	zeroResult() []byte
	rules(payload []byte) (broker.Rules, error)
	handle(c *Client, run *broker.TaskRun, after predecessor) predecessor
}

func newNode[P, R any](d *Definition[P, R], p *P, param string) *callNode {
	n := &callNode{task: d, param: param}
	var err error
	if n.run.Payload, err = d.AppendParams(p, nil); err != nil {
		n.invalid = secret.EncodeError(err, d.Spec.Secrets)
	}
	d.applyPolicies(p, &n.run)
	n.run.Schema = d.schema()
	return n
}

func (d *Definition[P, R]) rules(payload []byte) (broker.Rules, error) {
	p, run := new(P), new(broker.TaskRun)
	if err := d.decodeParams(new(codec.Reader), payload, 0, p); err != nil {
		return broker.Rules{}, err
	}
	d.applyPolicies(p, run)
	return run.Rules.OrZero(), nil
}

func (d *Definition[P, R]) handle(c *Client, run *broker.TaskRun, after predecessor) predecessor {
	h := newHandle(c, d, run)
	h.after = after
	return h
}

// with returns the node with further options of its run.
func (n *callNode) with(opts []QueueOption) *callNode {
	if len(opts) == 0 {
		return n
	}
	c := *n
	c.opts = slices.Concat(n.opts, opts)
	return &c
}

// isSingle reports whether the call is one run.
func (n *callNode) isSingle() bool { return n.before == nil && n.members == nil }

// behind returns what makes up a follow-up, behind what set joins to its first run.
func (n *callNode) behind(set func(first *callNode)) *callNode {
	c := *n
	if n.before != nil {
		c.before = n.before.behind(set)
		return &c
	}
	set(&c)
	return &c
}

// queue queues the call. It returns the handle of its last run, nil if there is none.
func (n *callNode) queue(ctx context.Context) (predecessor, error) {
	what := "queue a call"
	if n.isSingle() {
		what = "queue " + n.name()
	}
	c, err := clientOf(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	made, err := newBuilder(ctx, c).build(n, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	made.keepAll()
	err = c.submit(ctx, newEnqueueCall(made[0].run))
	handle := n.beside(c, made, err)
	switch {
	case err == nil:
		return handle, nil
	case handle != nil:
		what += " as " + handle.id()
	}
	return handle, fmt.Errorf("%s: %w", what, advise(err))
}

// name names the task of the call's last run.
func (n *callNode) name() string {
	if n.task == nil {
		return "a call"
	}
	return "task " + n.task.spec().Name
}

// named adds the task of a part of a call to its error.
func (n *callNode) named(err error) error {
	if err == nil || n.task == nil {
		return err
	}
	return fmt.Errorf("%s: %w", n.name(), err)
}

// beside returns the handle that [Call.Queue] returns beside err, or without one.
func (n *callNode) beside(c *Client, made chain, err error) predecessor {
	var duplicates *DuplicateError
	switch {
	case err == nil || errors.Is(err, ErrNotReplicated):
		return made.handle(c)
	case n.before != nil || !errors.Is(err, ErrDuplicate):
		return nil
	case errors.As(err, &duplicates) && len(duplicates.Runs) > 0:
		if len(n.members) > 0 && duplicates.Runs[0].Index != -1 {
			return nil
		}
		made.last().ID = duplicates.Runs[0].ID
	case len(n.members) > 0:
		return nil
	}
	return made.handle(c)
}

// enqueueCall is the runs that one request queues. Others may be within them.
type enqueueCall struct {
	runs      []*broker.TaskRun
	gathering *broker.TaskRun // the run that gathers the others as members of a group, or nil
}

// newEnqueueCall returns the request for a run and those within it. If the run gathers a
// group, it takes the members out of the run.
func newEnqueueCall(first *broker.TaskRun) enqueueCall {
	members := first.Links.OrZero().Members
	if members == nil {
		return enqueueCall{runs: []*broker.TaskRun{first}}
	}
	first.Links.Members = nil
	return enqueueCall{runs: members, gathering: first}
}

// all returns the runs of a call, the gathering one last.
func (c enqueueCall) all() []*broker.TaskRun {
	if c.gathering == nil {
		return c.runs
	}
	return append(c.runs[:len(c.runs):len(c.runs)], c.gathering)
}

// chain is the runs of a call that follow each other, in order. Members of the groups that
// they gather are within them.
type chain []link

type link struct {
	node *callNode
	run  *broker.TaskRun
}

func (c chain) last() *broker.TaskRun { return c[len(c)-1].run }

// keepAll keeps the record of each run as long as that of the last: who waits for the last
// has to learn how those before it ended.
func (c chain) keepAll() {
	for i := len(c) - 2; i >= 0; i-- {
		c[i].run.Keep = max(c[i].run.Keep, c[i+1].run.Keep)
	}
}

// handle returns the handle of the last run.
func (c chain) handle(client *Client) (h predecessor) {
	for _, l := range c {
		h = l.node.task.handle(client, l.run, h)
	}
	return h
}

// builder makes the runs of a call.
type builder struct {
	client *Client
	parent *Run // the run that queues the call, or nil
	now    time.Time
	made   int // runs, follow-ups not counted
}

func newBuilder(ctx context.Context, c *Client) *builder {
	parent, _ := CurrentRun(ctx)
	return &builder{client: c, parent: parent, now: time.Now()}
}

// build makes the runs of a call that is within so many groups. Its errors name the place
// in the call.
func (b *builder) build(n *callNode, nesting int) (chain, error) {
	if n.before != nil {
		return b.buildThen(n, nesting)
	}
	if b.made++; b.made > broker.MaxRuns {
		return nil, fmt.Errorf("%w: more than %d runs in one call; queue fewer at once", ErrPayloadTooLarge, broker.MaxRuns)
	}
	run, err := b.buildRun(n, nesting)
	if err != nil {
		return nil, err
	}
	return chain{{n, run}}, nil
}

// buildRun makes the run of a node, with the members of the group that it gathers.
func (b *builder) buildRun(n *callNode, nesting int) (*broker.TaskRun, error) {
	run, err := b.newRun(n)
	switch {
	case n.members == nil:
		return run, err
	case err != nil:
		return nil, fmt.Errorf("what gathers: %w", n.named(err))
	case len(n.members) == 0:
		return run, n.named(gatherNothing(run, n.param))
	}
	return run, b.buildGroup(n, run, nesting)
}

// newRun makes the run of a node.
func (b *builder) newRun(n *callNode) (*broker.TaskRun, error) {
	if n.task == nil {
		return nil, n.invalid
	}
	run, err := n.run, n.invalid
	if run.Rules != nil {
		rules := *run.Rules
		run.Rules = &rules
	}
	if err == nil {
		err = b.client.completeRun(&run, n.task.spec(), b.now, b.parent, n.opts)
	}
	return &run, err
}
