package redis

import (
	"context"
	goruntime "runtime"
	"slices"
	"sync"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
)

// pushCoalescer queues runs that nothing can refuse: due at once, and without own ids.
// Most runs are like that, and need no script. A caller that finds it idle sends at once,
// in its own goroutine. Callers that arrive meanwhile append their runs to a pending push,
// and one command stores them all.
type pushCoalescer struct {
	clients *conn.Clients
	send    func(context.Context, *pushBatch) error

	mu      sync.Mutex
	busy    bool // a caller sends, or the flusher was told to
	waiting []*pendingPush
	buffers []pushBuffers // of pushes that were sent, to be used again
	flusher bool          // it runs
	turn    chan struct{}
}

// pushBatch is stored runs of one ready list, and the records of those that have one, as
// bulk strings of the command.
type pushBatch struct {
	list    int
	stored  []byte
	n       int    // stored runs
	records []byte // keys and values
	kept    int    // records
}

// pushBuffers is the memory of a pending push.
type pushBuffers struct {
	stored, records []byte
	parts           []part
}

// pendingPush is the batch of one command, of several callers.
type pendingPush struct {
	pushBatch
	parts   []part // in the order of their callers
	started bool
	done    chan struct{} // closed when err is the command's
	err     error
}

// part is what one caller has in a pending push.
type part struct {
	stored, records span
	n, kept         int
}

// span is a part of a buffer.
type span struct{ from, to int }

// cut removes the span from the buffer, and moves the others that follow it.
func (s span) cut(buf []byte, others ...*span) []byte {
	for _, other := range others {
		if other.from >= s.to {
			other.from, other.to = other.from-(s.to-s.from), other.to-(s.to-s.from)
		}
	}
	return slices.Delete(buf, s.from, s.to)
}

// Sizes of commands.
const (
	maxPushBuffers = 3       // whose memory is kept: one push is sent while others wait
	largePush      = 8 << 10 // bytes of one caller, which gain nothing by sharing a command
)

// add stores a batch, alone or together with others. It blocks until the command has
// ended, or ctx.
func (p *pushCoalescer) add(ctx context.Context, pb *pushBatch) error {
	p.mu.Lock()
	if !p.busy {
		p.busy = true
		p.mu.Unlock()
		defer p.next()
		return p.send(ctx, pb)
	}
	pp, own := p.join(pb)
	p.mu.Unlock()
	select {
	case <-pp.done:
		return pp.err
	case <-ctx.Done():
		return p.abandon(pp, own, ctx.Err())
	case <-p.clients.Closed:
		return p.abandon(pp, own, broker.ErrClosed)
	}
}

// join adds a batch to the last pending push, or starts one, and returns the index of its
// part. The lock is held.
func (p *pushCoalescer) join(pb *pushBatch) (*pendingPush, int) {
	var pp *pendingPush
	if last := len(p.waiting) - 1; last >= 0 {
		pp = p.waiting[last]
	}
	if pp == nil || pp.list != pb.list || pp.n+pb.n > maxCoalesced || pp.weight()+pb.weight() > maxWeight {
		pp = &pendingPush{done: make(chan struct{})}
		pp.list = pb.list
		if last := len(p.buffers) - 1; last >= 0 {
			pp.stored, pp.records, pp.parts = p.buffers[last].stored, p.buffers[last].records, p.buffers[last].parts
			p.buffers = p.buffers[:last]
		}
		p.waiting = append(p.waiting, pp)
	}
	own := part{
		stored: span{len(pp.stored), len(pp.stored) + len(pb.stored)}, n: pb.n,
		records: span{len(pp.records), len(pp.records) + len(pb.records)}, kept: pb.kept,
	}
	pp.stored = append(pp.stored, pb.stored...)
	pp.records = append(pp.records, pb.records...)
	pp.n, pp.kept = pp.n+pb.n, pp.kept+pb.kept
	pp.parts = append(pp.parts, own)
	return pp, len(pp.parts) - 1
}

// reuse keeps the memory of a pending push that was sent. The lock is held.
func (p *pushCoalescer) reuse(pp *pendingPush) {
	if len(p.buffers) < maxPushBuffers {
		p.buffers = append(p.buffers, pushBuffers{pp.stored[:0], pp.records[:0], pp.parts[:0]})
	}
	pp.pushBatch, pp.parts = pushBatch{}, nil
}

func (pb *pushBatch) weight() int { return len(pb.stored) + len(pb.records) }

// abandon ends a caller's wait with err. If its runs were not sent yet, they never are.
func (p *pushCoalescer) abandon(pp *pendingPush, at int, err error) error {
	p.mu.Lock()
	if pp.started {
		p.mu.Unlock()
		return outwait(pp.done, &pp.err, err)
	}
	defer p.mu.Unlock()
	own := pp.parts[at]
	pp.parts[at] = part{} // the others keep their indexes
	stored, records := make([]*span, len(pp.parts)), make([]*span, len(pp.parts))
	for i := range pp.parts {
		stored[i], records[i] = &pp.parts[i].stored, &pp.parts[i].records
	}
	pp.stored, pp.n = own.stored.cut(pp.stored, stored...), pp.n-own.n
	pp.records, pp.kept = own.records.cut(pp.records, records...), pp.kept-own.kept
	return err
}

// next lets the next caller send, or has the flusher send for those that wait.
func (p *pushCoalescer) next() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		p.busy = false
		return
	}
	if !p.flusher {
		p.flusher = p.clients.Spawn(p.flush)
	}
	if !p.flusher { // the broker is closed, and the callers return that
		p.busy = false
		return
	}
	p.turn <- struct{}{}
}

// flush sends pending pushes until there are none, whenever it is told to. No caller leads, so
// that none suffers from another's context.
func (p *pushCoalescer) flush() {
	for {
		select {
		case <-p.turn:
		case <-p.clients.Closed:
			return
		}
		for pp := p.take(); pp != nil; pp = p.take() {
			if pp.n > 0 {
				pp.err = p.send(context.Background(), &pp.pushBatch)
			}
			p.mu.Lock()
			p.reuse(pp)
			p.mu.Unlock()
			close(pp.done)
		}
	}
}

// take removes the first pending push. If there is none it returns nil, and the next caller
// sends by itself.
func (p *pushCoalescer) take() *pendingPush {
	goruntime.Gosched() // callers whose runs were just stored may be about to queue more
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		p.busy = false
		return nil
	}
	pp := p.waiting[0]
	p.waiting = slices.Delete(p.waiting, 0, 1)
	pp.started = true
	return pp
}
