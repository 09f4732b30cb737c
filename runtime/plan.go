package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
)

// plan is what stubs that are called with its context would queue. It is queued
// once what follows it is known.
type plan struct {
	client *Client // that is to queue it

	mu    sync.Mutex
	steps []step
	over  bool // the function that was called with its context has returned
}

// step is one call's runs.
type step struct {
	runs []*broker.TaskRun
	then *broker.TaskRun // of a group, whose members the runs are; nil of others
}

type planKey struct{}

// planned calls f with a context whose runs are not queued, and returns them.
func planned[R any](ctx context.Context, c *Client, f func(ctx context.Context) (R, error)) (R, *plan, error) {
	p := &plan{client: c}
	defer p.end()
	r, err := f(context.WithValue(ctx, planKey{}, p))
	return r, p, err
}

// end has the plan take no more steps: nobody would queue them.
func (p *plan) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}

// addToPlan adds what a client would queue to a context's plan. It is false for a
// context without.
func addToPlan(ctx context.Context, c *Client, s step) (bool, error) {
	p, ok := ctx.Value(planKey{}).(*plan)
	if !ok {
		return false, nil
	}
	if c != p.client {
		return true, errors.New("runs that belong together are queued by one client, and this context has another than Then or Group was given; give Then or Group the context of WithClient, and not the stub")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return true, errors.New("the function that Then or Group called with this context has returned; queue with the context that Then or Group was given")
	}
	p.steps = append(p.steps, s)
	return true, nil
}

// refusePlanned is for what takes effect at once, though its context is that of a
// plan, of which nothing may come.
func refusePlanned(ctx context.Context) error {
	if ctx.Value(planKey{}) != nil {
		return errors.New("the functions given to Then and Group only queue runs; do this outside of them")
	}
	return nil
}

// only returns the plan's one step, which is what one call queues. A second would
// be queued apart from it: without it, should that fail.
func (p *plan) only(id string) (step, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.steps) != 1 || p.steps[0].then == nil && len(p.steps[0].runs) != 1 {
		return step{}, fmt.Errorf("the first function queued more than run %s, whose handle it returned; queue the others outside of it", id)
	}
	return p.steps[0], nil
}

// find returns the run with an id, also of what follows others; nil if there is
// none.
func (p *plan) find(id string) *broker.TaskRun {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.steps {
		if s.then != nil { // its members cannot be followed up
			if run := findRun(s.then, id); run != nil {
				return run
			}
			continue
		}
		for _, run := range s.runs {
			if found := findRun(run, id); found != nil {
				return found
			}
		}
	}
	return nil
}

func findRun(run *broker.TaskRun, id string) *broker.TaskRun {
	if run.ID == id {
		return run
	}
	for _, c := range run.Links.OrZero().Then {
		if found := findRun(c.Run, id); found != nil {
			return found
		}
	}
	return nil
}

// submit queues what a plan came to, or adds it to the plan of ctx.
func (c *Client) submit(ctx context.Context, s step) error {
	if added, err := addToPlan(ctx, c, s); added {
		return err
	}
	for _, run := range s.all() {
		if err := c.checkSize(run); err != nil {
			return err
		}
	}
	return c.queueStep(ctx, s)
}

// all returns the runs of a call, that which gathers the others last.
func (s step) all() []*broker.TaskRun {
	if s.then == nil {
		return s.runs
	}
	return append(s.runs[:len(s.runs):len(s.runs)], s.then)
}

func (c *Client) queueStep(ctx context.Context, s step) error {
	if s.then == nil {
		return c.queue(ctx, s.runs...)
	}
	groups, ok := c.broker.(groupQueuer)
	if !ok {
		return errors.New("this broker has no broker.Groups; use one that has, such as the embedded one or Redis")
	}
	queue := func(ctx context.Context, runs ...*broker.TaskRun) error {
		if len(runs) != len(s.runs)+1 {
			return errors.New("a middleware added or left out runs of a group")
		}
		return groups.QueueGroup(ctx, runs[len(s.runs)], runs[:len(s.runs)]...)
	}
	runs := s.all()
	if err := c.check(runs); err != nil {
		return err
	}
	return c.wrap(queue, runs)(ctx)
}

// checkSize refuses a run that carries too much, what follows it included.
func (c *Client) checkSize(run *broker.TaskRun) error {
	if len(run.Links.OrZero().Then) == 0 {
		return c.checkPayload(run.Payload)
	}
	if size := planSize(run); size > c.maxPayload {
		return fmt.Errorf("%w: the parameters of run %s and of what follows it take %d bytes, at most %d are allowed", ErrPayloadTooLarge, run.ID, size, c.maxPayload)
	}
	return nil
}

// planSize is how many bytes the parameters of a run and of what follows it take.
func planSize(run *broker.TaskRun) int {
	size := len(run.Payload)
	for _, c := range run.Links.OrZero().Then {
		size += planSize(c.Run)
	}
	return size
}

// template makes the run that follows: the one that next queues, and the key of
// the parameter, its first, that is to get the value for which stands in.
func template[B any](ctx context.Context, client *Client, in place, next func(ctx context.Context, opts []QueueOption) (*Handle[B], error), opts []QueueOption) (*Handle[B], broker.Continuation, error) {
	var none broker.Continuation
	passed := len(opts) == 0
	if !passed {
		opts = append(slices.Clone(opts), option(func(*broker.TaskRun) error {
			passed = true
			return nil
		}))
	}
	handle, p, err := planned(ctx, client, func(ctx context.Context) (*Handle[B], error) { return next(ctx, opts) })
	if err != nil {
		return nil, none, err
	}
	if handle == nil || len(p.steps) != 1 || p.steps[0].then != nil || len(p.steps[0].runs) != 1 || p.steps[0].runs[0].ID != handle.ID {
		return nil, none, errors.New("what follows has to be one call of a generated Queue… function, whose handle is returned")
	}
	_, spec := handle.run()
	if !passed {
		return nil, none, fmt.Errorf("the options for the run of task %s do not reach it; pass those that the function is called with on to the Queue… function", spec.Name)
	}
	c := broker.Continuation{Run: p.steps[0].runs[0]}
	if in.form == "" {
		return handle, c, nil
	}
	if got := firstForm(spec.Params); !sameForm(got, in.form) {
		return nil, none, fmt.Errorf("the first parameter of task %s travels as %s, but what it is to get as %s; pass the result on as its first parameter, as it is", spec.Name, orNothing(got), in.form)
	}
	r := codec.NewReader(c.Run.Payload)
	var given []byte
	if r.MapLen() > 0 {
		c.Param = string(r.Key())
		given = r.Raw()
	}
	if r.Err() != nil || c.Param == "" {
		return nil, none, fmt.Errorf("task %s has no parameter for the result", spec.Name)
	}
	if !in.heldBy(given) {
		return nil, none, fmt.Errorf("the first parameter of task %s has a value of its own, which the result would replace; pass on what the function is called with, as it is, and other values in other parameters", spec.Name)
	}
	c.Keyed = handle.def.keyed()
	return handle, c, nil
}

// place is where a result is to be: a parameter of its wire form, which has
// until then the zero value. The zero place is for no result.
type place struct {
	form string
	zero []byte // encoded; nil: not known
}

// heldBy reports whether a parameter keeps the place free.
func (p place) heldBy(value []byte) bool {
	return p.zero == nil || bytes.Equal(value, p.zero) || bytes.Equal(value, codec.AppendNil(nil))
}

func orNothing(form string) string {
	if form == "" {
		return "nothing"
	}
	return form
}
