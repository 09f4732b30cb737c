package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/secret"
	"github.com/taskgen/taskgen/internal/text"
	"github.com/taskgen/taskgen/internal/ulid"
)

// Queue queues one run of a task. Generated Queue functions call it. It returns the handle
// beside [ErrDuplicate], then of the live run that is in the way, and beside
// [ErrNotReplicated].
func Queue[P, R any](ctx context.Context, d *Definition[P, R], p *P, opts ...QueueOption) (*Handle[R], error) {
	c, err := clientOf(ctx)
	if err != nil {
		return nil, fmt.Errorf("queue task %s: %w", d.Spec.Name, err)
	}
	run := c.getRun()
	if err = d.encodeRun(ctx, c, run, p, opts); err == nil {
		err = c.queue(ctx, run)
	}
	if err != nil {
		return handleBeside(c, d, run, err)
	}
	handle := newHandle(c, d, run)
	c.putRun(run)
	return handle, nil
}

// handleBeside returns what Queue returns with an error of the enqueue. There is a handle
// if the run was queued all the same, or if another is in its way.
func handleBeside[P, R any](c *Client, d *Definition[P, R], run *broker.TaskRun, err error) (*Handle[R], error) {
	var duplicates *DuplicateError
	if errors.As(err, &duplicates) && len(duplicates.Runs) > 0 {
		run.ID = duplicates.Runs[0].ID
	}
	if errors.Is(err, ErrDuplicate) || errors.Is(err, ErrNotReplicated) {
		return newHandle(c, d, run), fmt.Errorf("queue task %s as %s: %w", d.Spec.Name, run.ID, advise(err))
	}
	return nil, fmt.Errorf("queue task %s: %w", d.Spec.Name, err)
}

// encodeRun makes an empty run the one that a call of a stub queues.
func (d *Definition[P, R]) encodeRun(ctx context.Context, c *Client, run *broker.TaskRun, p *P, opts []QueueOption) (err error) {
	if run.Payload, err = d.AppendParams(p, run.Payload); err != nil {
		return secret.EncodeError(err, d.Spec.Secrets)
	}
	d.applyPolicies(p, run)
	run.Schema = d.schema()
	parent, _ := CurrentRun(ctx)
	return c.completeRun(run, &d.Spec, time.Now(), parent, opts)
}

// QueueBatch queues one run for each of params, all of them or none. Generated batch
// functions call it. With several params the option [ID] is an error. With none it queues
// nothing, and returns an error if an option is invalid.
//
// It returns [ErrPayloadTooLarge] for more than [broker.MaxRuns], 100,000 runs, or more
// than [broker.MaxBatch], 64 MiB of parameters: queue them in parts, each of which is
// queued whole or not at all. It returns the handles beside [ErrNotReplicated].
func QueueBatch[P, R any](ctx context.Context, d *Definition[P, R], params []P, opts ...QueueOption) ([]*Handle[R], error) {
	c, err := clientOf(ctx)
	if err != nil {
		return nil, fmt.Errorf("queue %s of task %s: %w", text.Count(len(params), "run"), d.Spec.Name, err)
	}
	if len(params) == 0 {
		if err := c.checkOptions(&d.Spec, opts); err != nil {
			return nil, fmt.Errorf("queue no runs of task %s: %w", d.Spec.Name, err)
		}
		return nil, nil
	}
	buffer := c.getBuffer(len(params))
	if err := d.encodeBatch(ctx, c, buffer, params, opts); err != nil {
		return nil, err
	}
	handles := batchHandles(c, d, buffer.runs)
	if err := c.queue(ctx, buffer.runs...); err != nil {
		if !errors.Is(err, ErrNotReplicated) {
			handles = nil
		}
		return handles, fmt.Errorf("queue %s of task %s: %w", text.Count(len(params), "run"), d.Spec.Name, advise(err))
	}
	c.putBuffer(buffer)
	return handles, nil
}

// checkOptions refuses options that no run of a task can have.
func (c *Client) checkOptions(spec *Spec, opts []QueueOption) error {
	run := new(broker.TaskRun)
	if err := c.completeRun(run, spec, time.Now(), nil, opts); err != nil {
		return err
	}
	return refuseSkipFailed(run)
}

// encodeBatch makes a buffer's runs those that a call of a batch stub queues.
func (d *Definition[P, R]) encodeBatch(ctx context.Context, c *Client, b *batchBuffer, params []P, opts []QueueOption) (err error) {
	now, schema := time.Now(), d.schema()
	ids := ulid.NewBatch(now, len(params))
	parent, _ := CurrentRun(ctx)
	for i := range params {
		if i > 0 && b.stored[0].OwnID {
			return fmt.Errorf("queue %s of task %s: the option ID names one run; queue them one by one, each with its own", text.Count(len(params), "run"), d.Spec.Name)
		}
		run, from := b.runs[i], len(b.payload)
		if b.payload, err = d.AppendParams(&params[i], b.payload); err != nil {
			err = secret.EncodeError(err, d.Spec.Secrets)
		}
		if err == nil {
			run.ID, run.Schema = ids[i*ulid.Size:(i+1)*ulid.Size], schema
			run.Payload = b.payload[from:len(b.payload):len(b.payload)]
			d.applyPolicies(&params[i], run)
			err = c.completeRun(run, &d.Spec, now, parent, opts)
		}
		if err == nil && len(b.payload) > broker.MaxBatch {
			err = fmt.Errorf("%w: the parameters of the batch take more than %d bytes by here; queue it in parts", ErrPayloadTooLarge, broker.MaxBatch)
		}
		if err != nil {
			return fmt.Errorf("queue run %d of %d of task %s: %w", i+1, len(params), d.Spec.Name, err)
		}
	}
	return nil
}

// batchHandles returns the handles of runs. They are allocated together.
func batchHandles[P, R any](c *Client, d *Definition[P, R], runs []*broker.TaskRun) []*Handle[R] {
	handles, all := make([]*Handle[R], len(runs)), make([]Handle[R], len(runs))
	for i, run := range runs {
		handles[i] = &all[i]
		setHandle(handles[i], c, d, run)
	}
	return handles
}

const (
	maxPooledPayload = 16 << 10 // bytes of the largest payload whose memory is used again
	maxPooledBatch   = 1000     // runs of the largest batch whose memory is used again
)

// getRun returns an empty run, with room for a payload if it was used before.
func (c *Client) getRun() *broker.TaskRun {
	if run, ok := c.runPool.Get().(*broker.TaskRun); ok {
		return run
	}
	return new(broker.TaskRun)
}

// putRun keeps the memory of a run that was queued for another one.
func (c *Client) putRun(run *broker.TaskRun) {
	if c.mayReuse() && cap(run.Payload) <= maxPooledPayload {
		*run = broker.TaskRun{Payload: run.Payload[:0]}
		c.runPool.Put(run)
	}
}

// mayReuse reports whether nothing refers any more to runs that were queued. A middleware
// may, and may have replaced their memory. A broker may not, by its contract.
// Those with all policies are trusted to keep it, and simpler ones are not.
func (c *Client) mayReuse() bool {
	return c.policies == broker.AllPolicies && len(c.middleware) == 0
}

// batchBuffer is the memory of a batch, allocated at once and not for each run.
type batchBuffer struct {
	runs    []*broker.TaskRun // of stored, in order
	stored  []broker.TaskRun
	payload []byte // of all runs
}

// getBuffer returns a buffer of n empty runs.
func (c *Client) getBuffer(n int) *batchBuffer {
	b, ok := c.bufferPool.Get().(*batchBuffer)
	if !ok || cap(b.stored) < n {
		b = &batchBuffer{runs: make([]*broker.TaskRun, n), stored: make([]broker.TaskRun, n)}
	}
	b.runs, b.stored = b.runs[:n], b.stored[:n]
	for i := range b.stored {
		b.runs[i] = &b.stored[i]
	}
	return b
}

// putBuffer keeps the memory of a batch that was queued for another one.
func (c *Client) putBuffer(b *batchBuffer) {
	if c.mayReuse() && cap(b.stored) <= maxPooledBatch && cap(b.payload) <= maxPooledBatch*maxPooledPayload/16 {
		clear(b.stored)
		b.payload = b.payload[:0]
		c.bufferPool.Put(b)
	}
}
