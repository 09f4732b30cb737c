package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// takerLease is how long a run can be on its way to a caller of GetTaskRuns.
const takerLease = time.Minute

// takers are the sessions behind GetTaskRuns: each call has one to itself, so
// that what a lost reply brought is not lost with it.
type takers struct {
	mu   sync.Mutex
	free map[string][]*taker // by the queues they take from
}

type taker struct {
	*session
	// taken, but it is unknown whether the server has heard that it is over
	unsettled []*broker.TaskRun
}

// GetTaskRuns takes up to max due runs, at most 1,000, and forgets them at
// once: they are delivered at most once. Of equal priority, runs of kind IO
// come before those of kind CPU; the order of queueing is that within a kind.
// Runs that were on their way when the process died are given back by
// [Broker.Recover] a minute later.
func (b *Broker) GetTaskRuns(ctx context.Context, queues []string, max int) ([]*broker.TaskRun, error) {
	if b.isClosed() {
		return nil, fmt.Errorf("get task runs: %w", broker.ErrClosed)
	}
	id := strings.Join(queues, " ")
	t, err := b.takers.get(b, id)
	if err != nil {
		return nil, fmt.Errorf("get task runs: %w", err)
	}
	defer b.takers.put(t, id)
	n := min(max, maxTake)
	for {
		if len(t.unsettled) == 0 {
			if t.unsettled, err = t.take(ctx, queues, room{io: n, cpu: n, total: n}); err != nil {
				return nil, fmt.Errorf("get task runs: %w", err)
			}
		}
		// They are taken now: a context that ends here must not lose them.
		runs, err := t.settle(context.WithoutCancel(ctx), n)
		if err != nil {
			return nil, fmt.Errorf("get task runs: %w", err)
		}
		if len(runs) > 0 {
			return runs, nil
		}
	}
}

// settle forgets up to max of what was taken, and returns what of it nobody
// else got. The rest, of an earlier call that wanted more, is given back.
func (t *taker) settle(ctx context.Context, max int) ([]*broker.TaskRun, error) {
	runs := t.unsettled[:min(max, len(t.unsettled))]
	calls := map[*hold]*finishing{}
	for i, run := range t.unsettled {
		at, ok := run.Receipt.(*receipt)
		if !ok {
			return nil, errors.New("a run without receipt")
		}
		h := at.slot.hold
		if calls[h] == nil {
			calls[h] = new(finishing)
		}
		if i < len(runs) {
			calls[h].outcomes = append(calls[h].outcomes, forget(run, at))
		}
	}
	fenced := map[*broker.TaskRun]bool{}
	for h, f := range calls {
		if err := h.finish.do(ctx, t.b, f, 0); err != nil {
			return nil, err
		}
		if f.err != nil {
			return nil, f.err
		}
		for _, run := range f.fenced {
			fenced[run] = true
		}
	}
	rest := len(t.unsettled) - len(runs)
	t.unsettled = nil
	if rest > 0 {
		for h := range calls {
			// Should this fail, the lease's end gives them back.
			_ = t.leaveQueue(ctx, h)
		}
	}
	got := make([]*broker.TaskRun, 0, len(runs))
	for _, run := range runs {
		if !fenced[run] {
			run.Receipt = nil
			got = append(got, run)
		}
	}
	return got, nil
}

// forget ends a run of which nothing more will be heard.
func forget(run *broker.TaskRun, at *receipt) *outcome {
	out, q := &outcome{run: run, at: at}, at.slot.hold.q
	if run.OwnID {
		out.step('i', q.owner(run.ID))
	}
	if run.Keep > 0 {
		out.record(q, run, max(millis(run.Keep), 1), []any{"s", string(broker.StateRunning)})
	}
	return out
}

func (ts *takers) get(b *Broker, id string) (*taker, error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if free := ts.free[id]; len(free) > 0 {
		for i, t := range free {
			if t.unfinished() {
				free[i], free[len(free)-1] = free[len(free)-1], t
				break
			}
		}
		t := free[len(free)-1]
		ts.free[id] = free[:len(free)-1]
		return t, nil
	}
	s, err := b.join(takerLease)
	if err != nil {
		return nil, err
	}
	return &taker{session: s}, nil
}

// unfinished reports whether the taker may hold something.
func (t *taker) unfinished() bool { return len(t.unsettled) > 0 || len(t.unheard()) > 0 }

func (ts *takers) put(t *taker, id string) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.free == nil {
		ts.free = map[string][]*taker{}
	}
	ts.free[id] = append(ts.free[id], t)
}

// leave gives back what takers hold whose callers never got it.
func (ts *takers) leave(timeout time.Duration) {
	ts.mu.Lock()
	free := ts.free
	ts.free = nil
	ts.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for _, list := range free {
		for _, t := range list {
			// Should this fail, the lease's end gives it back.
			_ = t.Leave(ctx)
		}
	}
}
