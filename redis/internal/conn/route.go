package conn

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/redis/internal/resp"
)

// routes lead to the lines of one purpose that a command has to go on: those to
// the only server, those to the master that sentinels name, or those to the node
// of a cluster that has the command's keys.
type routes struct {
	c        *Clients
	open     func(*goredis.Options) *pool
	only     *pool
	cluster  *goredis.ClusterClient // knows who has which keys; nil without a cluster
	known    atomic.Bool            // it has learned that once
	reloaded atomic.Int64           // when it was last told to ask again, Unix nanoseconds

	mu     sync.Mutex
	like   *goredis.Options // of some node
	nodes  map[string]*pool // by address
	closed bool
}

// Limits of ways through a cluster.
const (
	maxHops   = 3 // redirections of one command
	minReload = 100 * time.Millisecond
)

// newRoutes returns the routes for what a client of the library connects to,
// nil where only the library can keep connections.
func newRoutes(c *Clients, client goredis.UniversalClient, open func(*goredis.Options) *pool) *routes {
	r := &routes{c: c, open: open, nodes: map[string]*pool{}}
	switch client := client.(type) {
	case *goredis.Client:
		opt := client.Options()
		if opt.StreamingCredentialsProvider != nil || opt.Limiter != nil {
			return nil
		}
		r.only = open(opt)
	case *goredis.ClusterClient:
		if client.Options().StreamingCredentialsProvider != nil {
			return nil
		}
		r.cluster = client
	default:
		return nil
	}
	return r
}

// exec sends a command whose keys are where the given one is, in one write with
// what has it confirmed unless then is nil, and reads the reply. An error of
// which unknown is true tells that a server may have executed it; what a server
// refused is a [serverError]. It gives up a little after ctx has ended.
func (r *routes) exec(ctx context.Context, key string, encode func([]byte) []byte, read Reader, then *Confirmation) (any, error) {
	p, err := r.find(ctx, key)
	if err != nil {
		return nil, err
	}
	asking := false
	for hops := 0; ; hops++ {
		v, err := r.execOn(ctx, p, asking, encode, read, then)
		if err != nil {
			r.noteFailure(ctx, p, err)
			if v != nil && then != nil { // stored, but who knows how safely
				then.lost(err)
				err = nil
			}
			return v, err
		}
		refused, ok := v.(resp.Error)
		if !ok {
			return v, nil
		}
		next, ask := r.redirect(ctx, p, string(refused))
		if next == nil || hops == maxHops {
			return nil, refused
		}
		p, asking = next, ask
	}
}

// execOn is exec on given lines, and returns a refusal as a value. Beside an
// error it returns the command's reply where that is known.
func (r *routes) execOn(ctx context.Context, p *pool, asking bool, encode func([]byte) []byte, read Reader, then *Confirmation) (v any, err error) {
	err = p.exec(ctx, func(b []byte) []byte {
		if asking {
			b = resp.AppendBulk(resp.AppendArray(b, 1), "ASKING")
		}
		if b = encode(b); then != nil {
			b = then.append(ctx, b)
		}
		return b
	}, func(in *bufio.Reader) (err error) {
		if asking {
			if _, err := resp.ReadReply(in, 0); err != nil {
				return err
			}
		}
		if v, err = read(in); err == nil && then != nil {
			err = then.read(in)
		}
		return err
	})
	if _, refused := v.(resp.Error); refused {
		return v, nil // whatever became of the connection after that
	}
	return v, err
}

// find returns the lines to the server that has a key.
func (r *routes) find(ctx context.Context, key string) (*pool, error) {
	if r.cluster == nil {
		return r.only, nil
	}
	ask := func(ctx context.Context) (*goredis.Client, error) { return r.cluster.MasterForKey(ctx, key) }
	var (
		node *goredis.Client
		err  error
	)
	if r.known.Load() {
		node, err = ask(ctx)
	} else if node, err = WithGrace(ctx, r.c, ask); err == nil {
		r.known.Store(true)
	}
	if err != nil {
		if reply := goredis.Error(nil); errors.As(err, &reply) {
			return nil, err
		}
		return nil, unsentError{err}
	}
	return r.poolOf(node.Options(), node.Options().Addr), nil
}

// poolOf returns the lines to a node.
func (r *routes) poolOf(like *goredis.Options, addr string) *pool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.like == nil {
		r.like = like
	}
	p := r.nodes[addr]
	if p == nil {
		opt := *r.like
		opt.Addr = addr
		p = r.open(&opt)
		if r.closed {
			p.close()
		}
		r.nodes[addr] = p
	}
	return p
}

// redirect returns where a command is to be sent instead of to a server that
// refused it, nil if nowhere, and whether it has to be asked for as one that is
// on its way there.
func (r *routes) redirect(ctx context.Context, from *pool, refusal string) (to *pool, ask bool) {
	word, rest, _ := strings.Cut(refusal, " ")
	switch word {
	case "READONLY", "CLUSTERDOWN", "MASTERDOWN": // it is the master no more
		r.giveUp(ctx, from)
	case "MOVED", "ASK":
		if word == "MOVED" {
			r.giveUp(ctx, from)
		}
		_, addr, _ := strings.Cut(rest, " ")
		colon := strings.LastIndexByte(addr, ':')
		if r.cluster == nil || colon < 0 {
			return nil, false
		}
		host, port := strings.Trim(addr[:colon], "[]"), addr[colon+1:]
		if host == "" { // the one that was asked
			var err error
			if host, _, err = net.SplitHostPort(from.addr); err != nil {
				return nil, false
			}
		}
		return r.poolOf(nil, net.JoinHostPort(host, port)), word == "ASK"
	}
	return nil, false
}

// noteFailure is told of commands that failed on the way: another server may be the
// master now. That a caller has given up says nothing of the server.
func (r *routes) noteFailure(ctx context.Context, p *pool, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	var (
		dial dialError
		op   *net.OpError // of a write
	)
	if IsUnknown(err) || errors.As(err, &dial) || errors.As(err, &op) {
		r.giveUp(ctx, p)
	}
}

// giveUp gives up what leads to a server that may be the master no more, if there
// can be another.
func (r *routes) giveUp(ctx context.Context, p *pool) {
	if p.master == nil && r.cluster == nil {
		return
	}
	p.closeFree()
	if r.cluster == nil {
		return
	}
	now, last := time.Now().UnixNano(), r.reloaded.Load()
	if now-last > int64(minReload) && r.reloaded.CompareAndSwap(last, now) {
		r.cluster.ReloadState(ctx)
	}
}

func (r *routes) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.only != nil {
		r.only.close()
	}
	for _, p := range r.nodes {
		p.close()
	}
}
