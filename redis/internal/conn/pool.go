package conn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
)

// conn is a connection that is used without go-redis's pool. The pool looks at a
// connection before each command, and does not give up a command whose context is
// cancelled, so that each command needs a goroutine: together twice the processor time
// of a command here (BenchmarkScript). Two commands can share a write
// (BenchmarkWaitAndTake). go-redis dials the connection and shakes hands.
type conn struct {
	client  *goredis.Client // a client whose only connection this is; used for nothing else
	netConn net.Conn
	dialed  atomic.Bool // netConn is set, and stays the same
	addr    string      // the remote address
	in      *bufio.Reader
	sent    []byte // the last command; its array is used again
	used    time.Time
}

// pool holds the connections of one purpose to one server. Each serves one caller at a
// time.
type pool struct {
	c       *Clients
	addr    string // of the server; with sentinels go-redis's word for it
	open    func() *conn
	permits chan struct{} // one token for each connection that may exist
	// blocks is how long the server may wait before it replies. A command that may
	// block is given up at once when its context ends.
	blocks time.Duration
	// spin is how long a caller spins for a reply instead of yielding its processor.
	spin       time.Duration
	spinMisses atomic.Int32 // how many spins in a row got no reply
	// dials counts the connections that were dialed for the purpose, to any server.
	dials *atomic.Int64
	// master is the address of the latest connection that sentinels led to, for any
	// purpose. Connections to another address are stale. Nil without sentinels.
	master *atomic.Pointer[string]

	mu     sync.Mutex
	free   []*conn
	inUse  map[*conn]bool // in use, or being dialed
	closed bool
}

// Sizes and times of a connection.
const (
	readBuffer     = 32 << 10
	maxKeptOut     = 1 << 20               // of sent, between commands
	checkAfterIdle = 10 * time.Millisecond // after which a connection is checked before use
)

// newPool returns an empty pool of up to most connections to the server that opt names.
func newPool(c *Clients, opt *goredis.Options, most int) *pool {
	return &pool{
		c:       c,
		addr:    opt.Addr,
		permits: make(chan struct{}, most),
		inUse:   map[*conn]bool{},
		open: func() *conn {
			l, own := new(conn), *opt
			own.PoolSize, own.Protocol = 1, 2
			dial := own.Dialer
			own.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := dial(ctx, network, addr)
				l.netConn = conn
				return conn, err
			}
			l.client = goredis.NewClient(&own)
			return l
		},
	}
}

// get returns a connection for the caller alone. If it returns an error, no command was
// sent.
func (p *pool) get(ctx context.Context) (*conn, error) {
	select {
	case p.permits <- struct{}{}:
	default:
		timer := time.NewTimer(p.c.cfg.Timeout)
		defer timer.Stop()
		select {
		case p.permits <- struct{}{}:
		case <-timer.C:
			return nil, unsentError{errors.New("all connections are in use")}
		case <-ctx.Done():
			return nil, unsentError{ctx.Err()}
		case <-p.c.Closed:
			return nil, unsentError{broker.ErrClosed}
		}
	}
	for tries := 0; ; tries++ {
		l, err := p.takeFree()
		if l != nil || err != nil {
			return l, err
		}
		if tries == cap(p.permits) {
			<-p.permits
			return nil, unsentError{errors.New("other callers took the connections")}
		}
		// If ctx ends meanwhile, the dial goes on, and the connection becomes free.
		_, err = WithGrace(ctx, p.c, func(ctx context.Context) (struct{}, error) { return struct{}{}, p.dial(ctx) })
		if err != nil {
			<-p.permits
			if reply := goredis.Error(nil); errors.As(err, &reply) {
				return nil, err
			}
			return nil, unsentError{dialError{err}}
		}
	}
}

// takeFree takes a free connection out of the pool. It returns nil if there is none.
func (p *pool) takeFree() (*conn, error) {
	for {
		p.mu.Lock()
		last := len(p.free) - 1
		if last < 0 {
			closed := p.closed
			p.mu.Unlock()
			if closed {
				<-p.permits
				return nil, unsentError{broker.ErrClosed}
			}
			return nil, nil
		}
		l := p.free[last]
		p.free = p.free[:last]
		p.inUse[l] = true
		p.mu.Unlock()
		// Without the lock: to check and to close a connection may take time.
		if !p.isStale(l) && (time.Since(l.used) < checkAfterIdle || l.isAlive()) {
			return l, nil
		}
		p.remove(l)
		l.close()
	}
}

// dial adds a new connection to the free ones.
func (p *pool) dial(ctx context.Context) error {
	l := p.open()
	p.mu.Lock()
	p.inUse[l] = true
	if p.closed {
		l.close()
	}
	p.mu.Unlock()
	err := l.client.Ping(ctx).Err()
	p.remove(l)
	if err != nil {
		l.close()
		return err
	}
	l.netConn = unwrap(l.netConn)
	l.in, l.used = bufio.NewReaderSize(l.netConn, readBuffer), time.Now()
	if p.master != nil {
		l.addr = l.netConn.RemoteAddr().String()
		p.master.Store(&l.addr)
	}
	l.dialed.Store(true)
	p.dials.Add(1)
	p.putFree(l)
	return nil
}

// isStale reports whether sentinels have named another master since.
func (p *pool) isStale(l *conn) bool {
	if p.master == nil {
		return false
	}
	addr := p.master.Load()
	return addr != nil && *addr != l.addr
}

// remove takes a connection out of those in use.
func (p *pool) remove(l *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.inUse, l)
}

// putFree adds a connection to the free ones, or closes it if they are complete.
func (p *pool) putFree(l *conn) {
	p.mu.Lock()
	// Callers that gave up before their dial was over leave connections behind.
	tooMany := p.closed || len(p.free) >= cap(p.permits)
	if !tooMany {
		p.free = append(p.free, l)
	}
	p.mu.Unlock()
	if tooMany {
		l.close()
	}
}

// put ends the use of a connection. It closes a connection that is not intact.
func (p *pool) put(l *conn, intact bool) {
	p.remove(l)
	if intact {
		if cap(l.sent) > maxKeptOut {
			l.sent = nil
		}
		l.used = time.Now()
		p.putFree(l)
	} else {
		l.close()
	}
	<-p.permits
}

// closeFree closes the free connections. Those in use fail by themselves if their
// server is gone.
func (p *pool) closeFree() {
	p.mu.Lock()
	free := p.free
	p.free = nil
	p.mu.Unlock()
	for _, l := range free {
		l.close()
	}
}

// close closes all connections. Commands in flight fail.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	all := slices.AppendSeq(p.free, maps.Keys(p.inUse))
	p.free = nil
	p.mu.Unlock()
	for _, l := range all {
		l.close()
	}
}

// isAlive reports whether an idle connection is still open.
func (l *conn) isAlive() bool {
	return l.netConn.SetDeadline(time.Time{}) == nil && l.in.Buffered() == 0 && stillOpen(l.netConn)
}

// close closes the connection before go-redis does. go-redis checks a connection first,
// and the check would wait for a pending read.
func (l *conn) close() {
	if l.dialed.Load() {
		_ = l.netConn.Close()
	}
	_ = l.client.Close()
}

// exec sends commands in one write, and has read read their replies. If IsUnknown is
// true of the error, the server may have executed some of them. An error that the
// server replied is read's, not exec's. When ctx ends, exec gives the connection up
// after a grace time.
func (p *pool) exec(ctx context.Context, encode func([]byte) []byte, read func(*bufio.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return unsentError{err}
	}
	l, err := p.get(ctx)
	if err != nil {
		return err
	}
	intact := false
	defer func() { p.put(l, intact) }()
	l.sent = encode(l.sent[:0])
	now := time.Now()
	limit := now.Add(p.blocks + p.c.cfg.Timeout)
	if at, ok := ctx.Deadline(); ok && at.Add(Grace).Before(limit) {
		limit = at.Add(Grace)
	}
	if err := l.netConn.SetDeadline(limit); err != nil {
		return unsentError{err}
	}
	if p.shouldSpin() {
		reply := read
		read = func(in *bufio.Reader) error {
			if spinUntilReadable(l.netConn, p.spin) {
				p.spinMisses.Store(0)
			}
			return reply(in)
		}
	}
	if ctx.Done() == nil {
		err = l.roundTrip(read)
	} else {
		err = l.roundTripUntil(ctx, p.grace(), read)
	}
	intact = err == nil
	return err
}

// shouldSpin reports whether to spin for the next reply. If replies keep coming too
// late for that, it does so only now and then.
func (p *pool) shouldSpin() bool {
	if p.spin <= 0 {
		return false
	}
	n := p.spinMisses.Add(1) // a reply in time resets it
	return n <= maxSpinMisses || n%(8*maxSpinMisses) == 0
}

// maxSpinMisses is how many spins in a row may get no reply from a server nearby.
const maxSpinMisses = 4

// grace is how long after the end of its context a command may still get its reply.
func (p *pool) grace() time.Duration {
	if p.blocks > 0 {
		return 0
	}
	return Grace
}

// roundTripUntil is roundTrip, and gives up when grace has passed after the end of ctx.
func (l *conn) roundTripUntil(ctx context.Context, grace time.Duration, read func(*bufio.Reader) error) error {
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		if ctx.Err() == context.Canceled { // else the connection's deadline is the context's
			_ = l.netConn.SetDeadline(time.Now().Add(grace))
		}
	})
	err := l.roundTrip(read)
	if !stop() {
		<-cut // or the deadline would hit the next command
	}
	return err
}

func (l *conn) roundTrip(read func(*bufio.Reader) error) error {
	if n, err := l.netConn.Write(l.sent); err != nil {
		if n == 0 {
			return unsentError{err}
		}
		// The first of several commands may have arrived.
		return fmt.Errorf("send command: %w", errors.Join(errPartlySent, err))
	}
	if err := read(l.in); err != nil {
		return fmt.Errorf("read reply: %w", err)
	}
	return nil
}
