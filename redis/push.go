package redis

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"sync"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
)

// pusher queues runs that nothing can refuse: due at once, without an id of
// their own or a record. Most are, and they need no script. A caller that finds
// the way free sends at once, in its own goroutine. Those who arrive meanwhile
// write their elements one behind the other, and one command takes them all.
type pusher struct {
	b *Broker
	q *queue

	mu      sync.Mutex
	busy    bool // someone sends, or the flusher was told to
	waiting []*gathering
	spare   []byte // of a gathering that was sent
	flusher bool   // it runs
	turn    chan struct{}
}

// gathering is what will be one command: elements of one ready list.
type gathering struct {
	lane    int
	buf     []byte // bulk strings
	n       int    // how many
	parts   []*part
	started bool
	done    chan struct{} // closed when err is the command's
	err     error
}

// part is what one caller has in a gathering.
type part struct{ from, to, n int }

// Sizes of commands.
const (
	maxGathered = 8192    // elements of several callers
	maxWeight   = 1 << 20 // their bytes
	enough      = 8 << 10 // bytes of one caller, which gain nothing by company
)

// plainLane returns the ready list of runs of which nothing but their place in
// it has to be stored, 0 if there is none.
func plainLane(runs []*broker.TaskRun) int {
	n := lane(runs[0])
	for _, run := range runs {
		if run.OwnID || run.Keep > 0 || run.Delay > 0 || !run.Due.IsZero() || lane(run) != n {
			return 0
		}
	}
	return n
}

// push stores bulk strings of n elements, alone or together with those of
// others.
func (p *pusher) push(ctx context.Context, lane int, elements []byte, n int) error {
	p.mu.Lock()
	if !p.busy {
		p.busy = true
		p.mu.Unlock()
		defer p.next()
		return p.b.push(ctx, p.q, lane, elements, n)
	}
	g, own := p.join(lane, elements, n)
	p.mu.Unlock()
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return p.abandon(g, own, ctx.Err())
	case <-p.b.closed:
		return p.abandon(g, own, broker.ErrClosed)
	}
}

// join adds elements to the last gathering, or starts one. The lock is held.
func (p *pusher) join(lane int, elements []byte, n int) (*gathering, *part) {
	var g *gathering
	if last := len(p.waiting) - 1; last >= 0 {
		g = p.waiting[last]
	}
	if g == nil || g.lane != lane || g.n+n > maxGathered || len(g.buf)+len(elements) > maxWeight {
		g = &gathering{lane: lane, done: make(chan struct{}), buf: p.spare}
		p.spare = nil
		p.waiting = append(p.waiting, g)
	}
	own := &part{from: len(g.buf), to: len(g.buf) + len(elements), n: n}
	g.buf = append(g.buf, elements...)
	g.n += n
	g.parts = append(g.parts, own)
	return g, own
}

// abandon ends a caller's waiting with err. What was not sent yet never is.
func (p *pusher) abandon(g *gathering, own *part, err error) error {
	p.mu.Lock()
	if g.started {
		p.mu.Unlock()
		return outwait(g.done, &g.err, err)
	}
	defer p.mu.Unlock()
	size := own.to - own.from
	g.buf = slices.Delete(g.buf, own.from, own.to)
	g.n -= own.n
	g.parts = slices.DeleteFunc(g.parts, func(other *part) bool {
		if other.from > own.from {
			other.from, other.to = other.from-size, other.to-size
		}
		return other == own
	})
	return err
}

// next gives the way free, or has the flusher send for those who wait.
func (p *pusher) next() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		p.busy = false
		return
	}
	if !p.flusher {
		p.flusher = p.b.spawn(p.flush)
	}
	if !p.flusher { // the broker is closed, which all who wait learn
		p.busy = false
		return
	}
	p.turn <- struct{}{}
}

// flush sends what gathers, until nothing does, whenever it is told to. None of
// the callers leads, so none suffers from another's context.
func (p *pusher) flush() {
	for {
		select {
		case <-p.turn:
		case <-p.b.closed:
			return
		}
		for {
			// Those whose runs were just stored may be about to queue more.
			goruntime.Gosched()
			p.mu.Lock()
			if len(p.waiting) == 0 {
				p.busy = false
				p.mu.Unlock()
				break
			}
			g := p.waiting[0]
			p.waiting = slices.Delete(p.waiting, 0, 1)
			g.started = true
			p.mu.Unlock()
			if g.n > 0 {
				g.err = p.b.push(context.Background(), p.q, g.lane, g.buf, g.n)
			}
			p.mu.Lock()
			p.spare, g.buf = g.buf[:0], nil
			p.mu.Unlock()
			close(g.done)
		}
	}
}

// push sends elements of one ready list, and a token for who waits for some: to
// ask first whether somebody does costs more. Should only the token be lost,
// consumers look by themselves within three seconds.
func (b *Broker) push(ctx context.Context, q *queue, lane int, elements []byte, n int) error {
	ready, wake := q.fixed[lane], q.wake[(lane-1)/3]
	then := b.confirming()
	err := b.persist(ctx, transient, func() error {
		if r := b.clients.queue.routes; r != nil {
			return pushOn(ctx, r, ready, wake, elements, n, then)
		}
		args, err := bulks(slices.Clone(elements), n) // the command may outlast the call
		if err != nil {
			return err
		}
		_, err = promptly(ctx, b, func(ctx context.Context) (any, error) {
			return nil, pushPlainly(ctx, b.clients.queue, ready, wake, args)
		})
		return err
	})
	if err == nil {
		err = then.result()
	}
	return b.notQueued(ctx, err, unknown(err))
}

func pushOn(ctx context.Context, r *routes, ready, wake string, elements []byte, n int, then *confirmation) error {
	stored, err := r.exec(ctx, ready, func(b []byte) []byte {
		b = appendArray(b, 2+n)
		b = appendBulk(appendBulk(b, "RPUSH"), ready)
		b = append(b, elements...)
		b = appendArray(b, 4)
		b = appendBulk(appendBulk(b, "ZADD"), wake)
		return appendBulk(appendBulk(b, "0"), "1")
	}, func(in *bufio.Reader) (any, error) {
		stored, err := readReply(in, 0)
		if err == nil {
			_, err = readReply(in, 0)
		}
		return stored, err
	}, then)
	if stored != nil {
		return nil // what became of the token does not matter
	}
	return err
}

// pushPlainly is pushOn by the client library, which might send a pipeline
// twice.
func pushPlainly(ctx context.Context, c goredis.UniversalClient, ready, wake string, elements []any) error {
	line := make([]any, 0, 2+len(elements))
	push := once{goredis.NewCmd(ctx, append(append(line, "rpush", ready), elements...)...)}
	push.SetFirstKeyPos(1)
	if err := c.Process(ctx, push); err != nil {
		return err
	}
	_ = c.ZAdd(ctx, wake, goredis.Z{Member: "1"})
	return nil
}

// notQueued makes the error of a call that queues; nil stays nil.
func (b *Broker) notQueued(ctx context.Context, err error, doubtful bool) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, broker.ErrNotReplicated):
		return fmt.Errorf("queue tasks: %w", err)
	case doubtful:
		return fmt.Errorf("%w: %w", broker.ErrOutcomeUnknown, b.fail(ctx, "queue tasks", err))
	case goredis.HasErrorPrefix(err, "NOREPLICAS"):
		return fmt.Errorf("queue tasks: %w: the server has fewer replicas than its min-replicas-to-write", broker.ErrQueueFull)
	}
	return b.fail(ctx, "queue tasks", err)
}
