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

// routes lead a command to a pool: that of the only server, of the master that
// sentinels name, or of the cluster node that has the command's keys.
type routes struct {
	c        *Clients
	open     func(*goredis.Options) *pool
	only     *pool
	cluster  *goredis.ClusterClient // knows which node has which keys; nil without a cluster
	known    atomic.Bool            // the cluster's client has its map of hash slots
	reloaded atomic.Int64           // when that map was last reloaded, Unix nanoseconds

	mu     sync.Mutex
	like   *goredis.Options // of some node
	nodes  map[string]*pool // by address
	closed bool
}

// Limits of routing in a cluster.
const (
	maxHops   = 3 // redirections of one command
	minReload = 100 * time.Millisecond
)

// newRoutes returns routes to the servers of a go-redis client. It returns nil if only
// go-redis can keep the connections.
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

// exec sends a command to the server that has key, together with the command that
// confirms it unless then is nil, and reads the replies. If IsUnknown is true of the
// error, a server may have executed the command. A refusal is a [resp.Error]. When ctx
// ends, exec gives up after a grace time.
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
			if v != nil && then != nil { // stored, but it is not known how safely
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

// execOn is exec on one pool. It returns a refusal as a value, and beside an error the
// command's reply if that is known.
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
		return v, nil // even if the connection broke afterwards
	}
	return v, err
}

// find returns the pool of the server that has a key.
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

// poolOf returns the pool of a node.
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

// redirect returns the pool to which a refused command has to be sent, nil if there is
// none, and whether ASKING has to precede it.
func (r *routes) redirect(ctx context.Context, from *pool, refusal string) (to *pool, ask bool) {
	word, rest, _ := strings.Cut(refusal, " ")
	switch word {
	case "READONLY", "CLUSTERDOWN", "MASTERDOWN": // another is the master now
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
		if host == "" { // the node that replied
			var err error
			if host, _, err = net.SplitHostPort(from.addr); err != nil {
				return nil, false
			}
		}
		return r.poolOf(nil, net.JoinHostPort(host, port)), word == "ASK"
	}
	return nil, false
}

// noteFailure gives a server up if a command failed on the way, as another may be the
// master now. A caller's own cancellation does not count.
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

// giveUp closes the free connections to a server that may no longer be the master, and
// has a cluster's client reload its map of hash slots.
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
