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
func (p *pushCoalescer) add(ctx context.Context, l *pushBatch) error {
	p.mu.Lock()
	if !p.busy {
		p.busy = true
		p.mu.Unlock()
		defer p.next()
		return p.send(ctx, l)
	}
	g, own := p.join(l)
	p.mu.Unlock()
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return p.abandon(g, own, ctx.Err())
	case <-p.clients.Closed:
		return p.abandon(g, own, broker.ErrClosed)
	}
}

// join adds a batch to the last pending push, or starts one, and returns the index of its
// part. The lock is held.
func (p *pushCoalescer) join(l *pushBatch) (*pendingPush, int) {
	var g *pendingPush
	if last := len(p.waiting) - 1; last >= 0 {
		g = p.waiting[last]
	}
	if g == nil || g.list != l.list || g.n+l.n > maxCoalesced || g.weight()+l.weight() > maxWeight {
		g = &pendingPush{done: make(chan struct{})}
		g.list = l.list
		if last := len(p.buffers) - 1; last >= 0 {
			g.stored, g.records, g.parts = p.buffers[last].stored, p.buffers[last].records, p.buffers[last].parts
			p.buffers = p.buffers[:last]
		}
		p.waiting = append(p.waiting, g)
	}
	own := part{
		stored: span{len(g.stored), len(g.stored) + len(l.stored)}, n: l.n,
		records: span{len(g.records), len(g.records) + len(l.records)}, kept: l.kept,
	}
	g.stored = append(g.stored, l.stored...)
	g.records = append(g.records, l.records...)
	g.n, g.kept = g.n+l.n, g.kept+l.kept
	g.parts = append(g.parts, own)
	return g, len(g.parts) - 1
}

// reuse keeps the memory of a pending push that was sent. The lock is held.
func (p *pushCoalescer) reuse(g *pendingPush) {
	if len(p.buffers) < maxPushBuffers {
		p.buffers = append(p.buffers, pushBuffers{g.stored[:0], g.records[:0], g.parts[:0]})
	}
	g.pushBatch, g.parts = pushBatch{}, nil
}

func (l *pushBatch) weight() int { return len(l.stored) + len(l.records) }

// abandon ends a caller's wait with err. If its runs were not sent yet, they never are.
func (p *pushCoalescer) abandon(g *pendingPush, at int, err error) error {
	p.mu.Lock()
	if g.started {
		p.mu.Unlock()
		return outwait(g.done, &g.err, err)
	}
	defer p.mu.Unlock()
	own := g.parts[at]
	g.parts[at] = part{} // the others keep their indexes
	stored, records := make([]*span, len(g.parts)), make([]*span, len(g.parts))
	for i := range g.parts {
		stored[i], records[i] = &g.parts[i].stored, &g.parts[i].records
	}
	g.stored, g.n = own.stored.cut(g.stored, stored...), g.n-own.n
	g.records, g.kept = own.records.cut(g.records, records...), g.kept-own.kept
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
		for g := p.take(); g != nil; g = p.take() {
			if g.n > 0 {
				g.err = p.send(context.Background(), &g.pushBatch)
			}
			p.mu.Lock()
			p.reuse(g)
			p.mu.Unlock()
			close(g.done)
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
	g := p.waiting[0]
	p.waiting = slices.Delete(p.waiting, 0, 1)
	g.started = true
	return g
}
