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

// plan records what generated functions that are called with its context would queue. Then
// and Group queue it once the follow-up is known.
type plan struct {
	client *Client // that is to queue it

	mu    sync.Mutex
	calls []enqueueCall
	over  bool // the function that was called with its context has returned
}

// enqueueCall is the runs that one request queues.
type enqueueCall struct {
	runs      []*broker.TaskRun
	gathering *broker.TaskRun // the run that gathers the others as members of a group, or nil
}

// all returns the runs of a call, the gathering one last.
func (c enqueueCall) all() []*broker.TaskRun {
	if c.gathering == nil {
		return c.runs
	}
	return append(c.runs[:len(c.runs):len(c.runs)], c.gathering)
}

// isSingle reports whether the call queues one run, and no group.
func (c enqueueCall) isSingle() bool { return c.gathering == nil && len(c.runs) == 1 }

type planKey struct{}

// recordPlan calls f with a context whose runs are not queued, and returns them.
func recordPlan[R any](ctx context.Context, c *Client, f func(ctx context.Context) (R, error)) (R, *plan, error) {
	p := &plan{client: c}
	defer p.end()
	r, err := f(context.WithValue(ctx, planKey{}, p))
	return r, p, err
}

// end makes the plan refuse further calls, whose runs would never be queued.
func (p *plan) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}

// addToPlan adds what a client would queue to the plan of ctx. It returns false if ctx has
// none.
func addToPlan(ctx context.Context, c *Client, call enqueueCall) (bool, error) {
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
	p.calls = append(p.calls, call)
	return true, nil
}

// refusePlanned refuses the context of a plan, for calls that take effect at once.
func refusePlanned(ctx context.Context) error {
	if ctx.Value(planKey{}) != nil {
		return errors.New("the functions given to Then and Group only queue runs; do this outside of them")
	}
	return nil
}

// only returns the plan's one call. A second one would be another request, which can fail
// when the first has succeeded.
func (p *plan) only(id string) (enqueueCall, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.calls) != 1 || p.calls[0].gathering == nil && len(p.calls[0].runs) != 1 {
		return enqueueCall{}, fmt.Errorf("the first function queued more than run %s, whose handle it returned; queue the others outside of it", id)
	}
	return p.calls[0], nil
}

// find returns the run with an id, also of a follow-up, nil if there is none.
func (p *plan) find(id string) *broker.TaskRun {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, call := range p.calls {
		if call.gathering != nil { // the members cannot be followed up
			if run := findRun(call.gathering, id); run != nil {
				return run
			}
			continue
		}
		for _, run := range call.runs {
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

// followUp calls next, and returns the run that it would queue as a follow-up: with the
// key of its first parameter, which is to get the result.
func followUp[B any](ctx context.Context, client *Client, in resultParam, next func(ctx context.Context, opts []QueueOption) (*Handle[B], error), opts []QueueOption) (*Handle[B], broker.FollowUp, error) {
	var none broker.FollowUp
	passed := len(opts) == 0
	if !passed {
		opts = append(slices.Clone(opts), option(func(*broker.TaskRun) error {
			passed = true
			return nil
		}))
	}
	handle, p, err := recordPlan(ctx, client, func(ctx context.Context) (*Handle[B], error) { return next(ctx, opts) })
	if err != nil {
		return nil, none, err
	}
	if handle == nil || len(p.calls) != 1 || !p.calls[0].isSingle() || p.calls[0].runs[0].ID != handle.ID {
		return nil, none, errors.New("what follows has to be one call of a generated Queue… function, whose handle is returned")
	}
	_, spec := handle.run()
	if !passed {
		return nil, none, fmt.Errorf("the options for the run of task %s do not reach it; pass those that the function is called with on to the Queue… function", spec.Name)
	}
	c := broker.FollowUp{Run: p.calls[0].runs[0]}
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
	if !in.acceptedAs(given) {
		return nil, none, fmt.Errorf("the first parameter of task %s has a value of its own, which the result would replace; pass on what the function is called with, as it is, and other values in other parameters", spec.Name)
	}
	c.Keyed = handle.def.keyed()
	return handle, c, nil
}

// resultParam is the parameter that a result is to fill. The zero value is for no result.
type resultParam struct {
	form string // the wire form of the result
	zero []byte // its zero value, encoded; nil: not known
}

// acceptedAs reports whether a parameter with the value has none of its own.
func (p resultParam) acceptedAs(value []byte) bool {
	return p.zero == nil || bytes.Equal(value, p.zero) || bytes.Equal(value, codec.AppendNil(nil))
}

func orNothing(form string) string {
	if form == "" {
		return "nothing"
	}
	return form
}

// count returns how many runs there are.
func (p *plan) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, call := range p.calls {
		n += len(call.all())
	}
	return n
}

// byID returns the runs of the plan that have no follow-up, without groups.
func (p *plan) byID() map[string]*broker.TaskRun {
	p.mu.Lock()
	defer p.mu.Unlock()
	runs := make(map[string]*broker.TaskRun)
	for _, call := range p.calls {
		if call.gathering != nil {
			continue
		}
		for _, run := range call.runs {
			if len(run.Links.OrZero().Then) == 0 {
				runs[run.ID] = run
			}
		}
	}
	return runs
}
