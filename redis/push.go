package redis

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/resp"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// pusher queues runs that nothing can refuse: due at once, without an id of
// their own. Most are, and they need no script. A caller that finds
// the way free sends at once, in its own goroutine. Those who arrive meanwhile
// write their elements one behind the other, and one command takes them all.
type pusher struct {
	clients *conn.Clients
	send    func(context.Context, *load) error

	mu      sync.Mutex
	busy    bool // someone sends, or the flusher was told to
	waiting []*gathering
	spare   []spare // of gatherings that were sent, to be used again
	flusher bool    // it runs
	turn    chan struct{}
}

// load is elements of one ready list, and the records of those that have one,
// as the command takes them: bulk strings one behind the other.
type load struct {
	lane     int
	elements []byte
	n        int    // elements
	records  []byte // keys and values
	kept     int    // records
}

// spare is the memory of a gathering.
type spare struct {
	elements, records []byte
	parts             []part
}

// gathering is the load of one command.
type gathering struct {
	load
	parts   []part // by the order in which their callers came
	started bool
	done    chan struct{} // closed when err is the command's
	err     error
}

// part is what one caller has in a gathering.
type part struct {
	elements, records span
	n, kept           int
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
	maxGathered = 8192    // elements of several callers
	maxSpare    = 3       // gatherings whose memory is kept: one is sent while others gather
	maxWeight   = 1 << 20 // their bytes
	enough      = 8 << 10 // bytes of one caller, which gain nothing by company
)

// plainLane returns the ready list of runs that need no script, 0 if there is
// none.
func (b *Broker) plainLane(runs []*broker.TaskRun) int {
	n := wire.ReadyList(runs[0])
	for _, run := range runs {
		if run.Keep > 0 && !b.clients.Queue.Direct() {
			return 0 // the library would need more than one command
		}
		if run.OwnID || wire.HasPolicy(run) || run.Delay > 0 || !run.Due.IsZero() || wire.ReadyList(run) != n {
			return 0
		}
	}
	return n
}

// push stores a load, alone or together with those of others.
func (p *pusher) push(ctx context.Context, l *load) error {
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

// join adds a load to the last gathering, or starts one, and returns which part
// of it that is. The lock is held.
func (p *pusher) join(l *load) (*gathering, int) {
	var g *gathering
	if last := len(p.waiting) - 1; last >= 0 {
		g = p.waiting[last]
	}
	if g == nil || g.lane != l.lane || g.n+l.n > maxGathered || g.weight()+l.weight() > maxWeight {
		g = &gathering{done: make(chan struct{})}
		g.lane = l.lane
		if last := len(p.spare) - 1; last >= 0 {
			g.elements, g.records, g.parts = p.spare[last].elements, p.spare[last].records, p.spare[last].parts
			p.spare = p.spare[:last]
		}
		p.waiting = append(p.waiting, g)
	}
	own := part{
		elements: span{len(g.elements), len(g.elements) + len(l.elements)}, n: l.n,
		records: span{len(g.records), len(g.records) + len(l.records)}, kept: l.kept,
	}
	g.elements = append(g.elements, l.elements...)
	g.records = append(g.records, l.records...)
	g.n, g.kept = g.n+l.n, g.kept+l.kept
	g.parts = append(g.parts, own)
	return g, len(g.parts) - 1
}

// reuse keeps the memory of a gathering that was sent. The lock is held.
func (p *pusher) reuse(g *gathering) {
	if len(p.spare) < maxSpare {
		p.spare = append(p.spare, spare{g.elements[:0], g.records[:0], g.parts[:0]})
	}
	g.load, g.parts = load{}, nil
}

func (l *load) weight() int { return len(l.elements) + len(l.records) }

// abandon ends a caller's waiting with err. What was not sent yet never is.
func (p *pusher) abandon(g *gathering, at int, err error) error {
	p.mu.Lock()
	if g.started {
		p.mu.Unlock()
		return outwait(g.done, &g.err, err)
	}
	defer p.mu.Unlock()
	own := g.parts[at]
	g.parts[at] = part{} // the others keep their places
	elements, records := make([]*span, len(g.parts)), make([]*span, len(g.parts))
	for i := range g.parts {
		elements[i], records[i] = &g.parts[i].elements, &g.parts[i].records
	}
	g.elements, g.n = own.elements.cut(g.elements, elements...), g.n-own.n
	g.records, g.kept = own.records.cut(g.records, records...), g.kept-own.kept
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
		p.flusher = p.clients.Spawn(p.flush)
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
		case <-p.clients.Closed:
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
				g.err = p.send(context.Background(), &g.load)
			}
			p.mu.Lock()
			p.reuse(g)
			p.mu.Unlock()
			close(g.done)
		}
	}
}

// push sends a load, and a token for a consumer that waits for some of it: to ask
// first whether one does costs more. If only the token is lost, consumers look by
// themselves within three seconds.
func (b *Broker) push(ctx context.Context, q *queue, l *load) error {
	ready, kind := q.Fixed[l.lane], (l.lane-1)/3
	wake, watched, woken := q.Wake[kind], q.Watched[kind], b.woken(kind)
	then, start := b.clients.NewConfirmation(), time.Now()
	looked := false
	again := func(err error) bool {
		if !conn.IsDamage(err) {
			return conn.IsTransient(err)
		}
		first := !looked // another may have put it aside meanwhile
		looked = true
		return b.mend(ctx, start, ready) || first
	}
	err := b.clients.Retry(ctx, again, func() error {
		if c := b.clients.Queue; c.Direct() {
			return pushOn(ctx, c, ready, wake, watched, woken, l, then)
		}
		args, err := resp.Bulks(slices.Clone(l.elements), l.n) // the command may outlast the call
		if err != nil {
			return err
		}
		_, err = conn.WithGrace(ctx, b.clients, func(ctx context.Context) (any, error) {
			return nil, pushPlainly(ctx, b.clients.Queue, ready, wake, watched, woken, args)
		})
		return err
	})
	if err == nil {
		err = then.Result()
	} else if conn.IsDamage(err) && l.kept > 0 {
		b.dropRecords(ctx, l)
	}
	return b.notQueued(ctx, b.blame(ctx, err, ready, wake), conn.IsUnknown(err))
}

// dropRecords deletes the records of runs that were refused, which a transaction stores
// all the same. Nobody else has such ids.
func (b *Broker) dropRecords(ctx context.Context, l *load) {
	args, err := resp.Bulks(slices.Clone(l.records), 2*l.kept)
	if err != nil {
		return
	}
	var keys []string
	for i := 0; i < len(args); i += 2 {
		if key, ok := args[i].([]byte); ok {
			keys = append(keys, string(key))
		}
	}
	_, _ = conn.WithGrace(context.WithoutCancel(ctx), b.clients, func(ctx context.Context) (int64, error) {
		return b.clients.Work.Del(ctx, keys...).Result()
	})
}

func pushOn(ctx context.Context, c conn.Client, ready, wake, watched, woken string, l *load, then *conn.Confirmation) error {
	read := readPushed
	if l.kept > 0 {
		read = readPushedWithRecords
	}
	if woken != "" {
		read = andToken(read)
	}
	stored, err := c.Exec(ctx, ready, func(b []byte) []byte {
		if l.kept > 0 {
			b = resp.AppendBulk(resp.AppendArray(b, 1), "MULTI")
			b = resp.AppendBulk(resp.AppendArray(b, 1+2*l.kept), "MSET")
			b = append(b, l.records...)
		}
		b = resp.AppendArray(b, 2+l.n)
		b = resp.AppendBulk(resp.AppendBulk(b, "RPUSH"), ready)
		b = append(b, l.elements...)
		b = resp.AppendArray(b, 4)
		b = resp.AppendBulk(resp.AppendBulk(b, "ZADD"), wake)
		b = resp.AppendBulk(resp.AppendBulk(b, "0"), "1")
		if l.kept > 0 {
			b = resp.AppendBulk(resp.AppendArray(b, 1), "EXEC")
		}
		if woken != "" { // behind the transaction, which fails with it where it is not permitted
			b = resp.AppendBulk(resp.AppendBulk(resp.AppendBulk(resp.AppendArray(b, 5), "LMOVE"), watched), woken)
			b = resp.AppendBulk(resp.AppendBulk(b, "LEFT"), "RIGHT")
		}
		return b
	}, read, then)
	if stored != nil {
		return nil // what became of the token does not matter
	}
	return err
}

// andToken returns a reader of one more reply, of a token.
func andToken(read conn.Reader) conn.Reader {
	return func(in *bufio.Reader) (any, error) {
		stored, err := read(in)
		if err == nil {
			_, err = resp.ReadReply(in, 0)
		}
		return stored, err
	}
}

// readPushed reads what is replied to a push: what matters, and to its token.
func readPushed(in *bufio.Reader) (any, error) {
	stored, err := resp.ReadReply(in, 0)
	if err == nil {
		_, err = resp.ReadReply(in, 0)
	}
	return stored, err
}

// readPushedWithRecords reads what is replied to a push in a transaction: the
// first refusal, if there is any, for then nothing was stored.
func readPushedWithRecords(in *bufio.Reader) (any, error) {
	var (
		refused any
		replies [5]any // MULTI, the records, the elements, the token, EXEC
	)
	for i := range replies {
		v, err := resp.ReadReply(in, 0)
		if err != nil {
			return nil, err
		}
		if e, ok := v.(resp.Error); ok && refused == nil {
			refused = e
		}
		replies[i] = v
	}
	if n, alone := replies[2].(int64); alone {
		return n, nil // MULTI was refused, and each was executed by itself
	}
	v := replies[4]
	done, ok := v.([]any)
	switch {
	case refused != nil:
		return refused, nil
	case !ok || len(done) != 3:
		if e, ok := v.(resp.Error); ok {
			return e, nil
		}
		return nil, resp.ErrProtocol
	}
	return done[1], nil
}

// pushPlainly is pushOn by the client library, which might send a pipeline
// twice.
func pushPlainly(ctx context.Context, c goredis.UniversalClient, ready, wake, watched, woken string, elements []any) error {
	line := make([]any, 0, 2+len(elements))
	push := conn.Once{Cmd: goredis.NewCmd(ctx, append(append(line, "rpush", ready), elements...)...)}
	push.SetFirstKeyPos(1)
	if err := c.Process(ctx, push); err != nil {
		return err
	}
	_ = c.ZAdd(ctx, wake, goredis.Z{Member: "1"})
	if woken != "" {
		_ = c.LMove(ctx, watched, woken, "left", "right")
	}
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
		return fmt.Errorf("queue tasks: %w: the server has fewer replicas than its min-replicas-to-write: start one, or lower that", broker.ErrQueueFull)
	}
	return b.fail(ctx, "queue tasks", err)
}
