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

// line is a connection on which commands go without the client library's pool,
// which costs a command of a lone caller as much as the wire does. The library
// still dials it and says hello.
type line struct {
	client *goredis.Client // whose only connection it is; used for nothing more
	conn   net.Conn
	dialed atomic.Bool // conn is set, and does not change any more
	addr   string      // of its other end
	in     *bufio.Reader
	out    []byte // the last command; its array is used again
	used   time.Time
}

// lines are the lines of one purpose to one server, each for one caller at a
// time.
type lines struct {
	c    *Clients
	addr string // of the server; with sentinels a word of the library's
	open func() *line
	room chan struct{} // a token for each line there may be
	// blocks is how long the server may wait before it replies. A command that
	// may wait is given up at once when its context ends.
	blocks time.Duration
	// urgent is for how long a reply is waited for without giving the processor away.
	urgent time.Duration
	late   atomic.Int32 // how often in a row that was in vain
	// dials counts the lines of the purpose that were dialed, to whatever server.
	dials *atomic.Int64
	// master is the address of the last line that sentinels led to, whatever
	// its purpose: what leads elsewhere is of no more use. Nil without sentinels.
	master *atomic.Pointer[string]

	mu     sync.Mutex
	free   []*line
	others map[*line]bool // in use, or being dialed
	closed bool
}

// Sizes of a line.
const (
	lineBuffer  = 32 << 10
	maxKeptOut  = 1 << 20               // of out, between commands
	idleTooLong = 10 * time.Millisecond // after which it is looked at before it is used
)

// newLines returns the lines to the server that opt names.
func newLines(c *Clients, opt *goredis.Options, most int) *lines {
	return &lines{
		c:      c,
		addr:   opt.Addr,
		room:   make(chan struct{}, most),
		others: map[*line]bool{},
		open: func() *line {
			l, own := new(line), *opt
			own.PoolSize, own.Protocol = 1, 2
			dial := own.Dialer
			own.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := dial(ctx, network, addr)
				l.conn = conn
				return conn, err
			}
			l.client = goredis.NewClient(&own)
			return l
		},
	}
}

// get returns a line that nobody uses. Whatever error it returns, no command
// was sent.
func (ls *lines) get(ctx context.Context) (*line, error) {
	select {
	case ls.room <- struct{}{}:
	default:
		timer := time.NewTimer(ls.c.cfg.Timeout)
		defer timer.Stop()
		select {
		case ls.room <- struct{}{}:
		case <-timer.C:
			return nil, unsent{errors.New("all connections are in use")}
		case <-ctx.Done():
			return nil, unsent{ctx.Err()}
		case <-ls.c.Closed:
			return nil, unsent{broker.ErrClosed}
		}
	}
	for tries := 0; ; tries++ {
		l, err := ls.pick()
		if l != nil || err != nil {
			return l, err
		}
		if tries == cap(ls.room) {
			<-ls.room
			return nil, unsent{errors.New("other callers took the connections")}
		}
		// The line becomes free first, should ctx end while it is dialed.
		_, err = WithGrace(ctx, ls.c, func(ctx context.Context) (struct{}, error) { return struct{}{}, ls.dial(ctx) })
		if err != nil {
			<-ls.room
			if reply := goredis.Error(nil); errors.As(err, &reply) {
				return nil, err
			}
			return nil, unsent{undialed{err}}
		}
	}
}

// pick returns a free line, nil when there is none.
func (ls *lines) pick() (*line, error) {
	for {
		ls.mu.Lock()
		last := len(ls.free) - 1
		if last < 0 {
			closed := ls.closed
			ls.mu.Unlock()
			if closed {
				<-ls.room
				return nil, unsent{broker.ErrClosed}
			}
			return nil, nil
		}
		l := ls.free[last]
		ls.free = ls.free[:last]
		ls.others[l] = true
		ls.mu.Unlock()
		// Looked at and closed without the lock: both may take time.
		if !ls.elsewhere(l) && (time.Since(l.used) < idleTooLong || l.alive()) {
			return l, nil
		}
		ls.forget(l)
		l.close()
	}
}

func (ls *lines) dial(ctx context.Context) error {
	l := ls.open()
	ls.mu.Lock()
	ls.others[l] = true
	if ls.closed {
		l.close()
	}
	ls.mu.Unlock()
	err := l.client.Ping(ctx).Err()
	ls.forget(l)
	if err != nil {
		l.close()
		return err
	}
	l.conn = plainConn(l.conn)
	l.in, l.used = bufio.NewReaderSize(l.conn, lineBuffer), time.Now()
	if ls.master != nil {
		l.addr = l.conn.RemoteAddr().String()
		ls.master.Store(&l.addr)
	}
	l.dialed.Store(true)
	ls.dials.Add(1)
	ls.keep(l)
	return nil
}

// elsewhere reports whether another server is the master now.
func (ls *lines) elsewhere(l *line) bool {
	if ls.master == nil {
		return false
	}
	addr := ls.master.Load()
	return addr != nil && *addr != l.addr
}

func (ls *lines) forget(l *line) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	delete(ls.others, l)
}

func (ls *lines) keep(l *line) {
	ls.mu.Lock()
	// Of callers that did not stay for their dial there can be many.
	tooMany := ls.closed || len(ls.free) >= cap(ls.room)
	if !tooMany {
		ls.free = append(ls.free, l)
	}
	ls.mu.Unlock()
	if tooMany {
		l.close()
	}
}

// put ends the use of a line. One that is not intact is closed.
func (ls *lines) put(l *line, intact bool) {
	ls.forget(l)
	if intact {
		if cap(l.out) > maxKeptOut {
			l.out = nil
		}
		l.used = time.Now()
		ls.keep(l)
	} else {
		l.close()
	}
	<-ls.room
}

// drop closes the lines that nobody uses. Those in use show by themselves what
// has become of their server.
func (ls *lines) drop() {
	ls.mu.Lock()
	free := ls.free
	ls.free = nil
	ls.mu.Unlock()
	for _, l := range free {
		l.close()
	}
}

// close closes the lines. Commands on their way fail.
func (ls *lines) close() {
	ls.mu.Lock()
	ls.closed = true
	all := slices.AppendSeq(ls.free, maps.Keys(ls.others))
	ls.free = nil
	ls.mu.Unlock()
	for _, l := range all {
		l.close()
	}
}

// alive reports whether the server has not closed the line while it was idle.
func (l *line) alive() bool {
	return l.conn.SetDeadline(time.Time{}) == nil && l.in.Buffered() == 0 && silent(l.conn)
}

// close closes the connection before the library does, which looks at it first,
// and to look at it waits for who reads.
func (l *line) close() {
	if l.dialed.Load() {
		_ = l.conn.Close()
	}
	_ = l.client.Close()
}

// exec sends commands in one write and has their replies read. An error of which
// unknown is true tells that the server may have executed some; an error that
// the server replied is not exec's. When ctx ends it gives up a little later,
// and with the commands the line.
func (ls *lines) exec(ctx context.Context, encode func([]byte) []byte, read func(*bufio.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return unsent{err}
	}
	l, err := ls.get(ctx)
	if err != nil {
		return err
	}
	intact := false
	defer func() { ls.put(l, intact) }()
	l.out = encode(l.out[:0])
	now := time.Now()
	limit := now.Add(ls.blocks + ls.c.cfg.Timeout)
	if at, ok := ctx.Deadline(); ok && at.Add(Grace).Before(limit) {
		limit = at.Add(Grace)
	}
	if err := l.conn.SetDeadline(limit); err != nil {
		return unsent{err}
	}
	if ls.isUrgent() {
		reply := read
		read = func(in *bufio.Reader) error {
			if await(l.conn, ls.urgent) {
				ls.late.Store(0)
			}
			return reply(in)
		}
	}
	if ctx.Done() == nil {
		err = l.roundTrip(read)
	} else {
		err = l.roundTripUntil(ctx, ls.grace(), read)
	}
	intact = err == nil
	return err
}

// isUrgent reports whether a reply is to be waited for without giving the processor away:
// of a server that is too far away for that, only now and then.
func (ls *lines) isUrgent() bool {
	if ls.urgent <= 0 {
		return false
	}
	n := ls.late.Add(1) // until it has replied
	return n <= mostLate || n%(8*mostLate) == 0
}

// mostLate is how many replies in a row may be late of a server that is near.
const mostLate = 4

// grace is how long after the end of its context a command may get its reply.
func (ls *lines) grace() time.Duration {
	if ls.blocks > 0 {
		return 0
	}
	return Grace
}

// roundTripUntil is roundTrip, but for no more than grace longer than ctx lasts.
func (l *line) roundTripUntil(ctx context.Context, grace time.Duration, read func(*bufio.Reader) error) error {
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		if ctx.Err() == context.Canceled { // else the line's deadline is the context's
			_ = l.conn.SetDeadline(time.Now().Add(grace))
		}
	})
	err := l.roundTrip(read)
	if !stop() {
		<-cut // lest it hits the next command
	}
	return err
}

func (l *line) roundTrip(read func(*bufio.Reader) error) error {
	if n, err := l.conn.Write(l.out); err != nil {
		if n == 0 {
			return unsent{err}
		}
		// The first of several commands may have arrived.
		return fmt.Errorf("send command: %w", errors.Join(errPartly, err))
	}
	if err := read(l.in); err != nil {
		return fmt.Errorf("read reply: %w", err)
	}
	return nil
}
