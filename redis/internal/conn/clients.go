// Package conn keeps the connections of a Redis broker. It dials servers by go-redis,
// sends commands over connections of its own, and sorts errors by what a caller may
// repeat.
package conn

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Config is the part of a broker's configuration that its connections need.
type Config struct {
	// Timeout bounds dialing, waiting for a free connection, and one command, each.
	Timeout time.Duration
	// Blocking is how much longer a blocking read may take.
	Blocking time.Duration
	// Confirm has what is queued confirmed by Replicas replicas, and with Fsync by the
	// disks of the server and of these.
	Confirm, Fsync bool
	Replicas       int
}

// Clients are a broker's connections, one Client for each purpose, so that no purpose
// can use up the connections of another. They also keep the broker's goroutines: Close
// lets no further one start.
type Clients struct {
	Queue Client // QueueTasks and ticks
	Work  Client // takes, recovery, records, counts
	Lease Client // outcomes, and what else counts only while the lease lasts
	Renew Client // renewals
	Block Client // blocking reads
	// Cluster: keys of different queues can be on different nodes.
	Cluster bool

	cfg      Config
	stop     context.CancelFunc // ends dials
	Closed   chan struct{}
	spawning sync.Mutex     // held to start a goroutine, and to close
	running  sync.WaitGroup // goroutines
}

// Client sends commands to the servers: by go-redis, and for the commands that every
// run needs over connections of its own, if Direct reports true.
type Client struct {
	Commands
	routes *routes
	dials  *atomic.Int64 // connections of its own that were dialed
}

// Direct reports whether the client has connections of its own. It has none if only
// go-redis can keep them, as with a Limiter or a StreamingCredentialsProvider.
func (l Client) Direct() bool { return l.routes != nil }

// Dialed returns how many connections of its own the client has dialed.
func (l Client) Dialed() int64 { return l.dials.Load() }

// Exec sends a command over a connection of the client's own; Direct has to report
// true. See routes.exec.
func (l Client) Exec(ctx context.Context, key string, encode func([]byte) []byte, read Reader, then *Confirmation) (any, error) {
	return l.routes.exec(ctx, key, encode, read, then)
}

// New returns clients that connect as d says. It dials nothing.
func New(d Dialer, cfg Config) *Clients {
	c := &Clients{cfg: cfg, Cluster: d.cluster, Closed: make(chan struct{})}
	dials, stop := context.WithCancel(context.Background())
	master := new(atomic.Pointer[string])
	dial := func(size int, blocks, urgent time.Duration) Client {
		l := Client{Commands: Commands{c, d.open(dials, cfg, size)}, dials: new(atomic.Int64)}
		l.routes = newRoutes(c, l.library, func(opt *goredis.Options) *pool {
			own := *opt
			tune(dials, &own, cfg, 1)
			p := newPool(c, &own, size)
			p.blocks, p.spin, p.dials = blocks, urgent, l.dials
			if d.sentinel {
				p.master = master
			}
			return p
		})
		return l
	}
	c.stop = stop
	c.Queue, c.Work, c.Lease = dial(8, 0, 0), dial(8, 0, 0), dial(8, 0, 0)
	c.Renew, c.Block = dial(4, 0, renewSpin), dial(256, cfg.Blocking, 0)
	return c
}

// renewSpin is how long a renewal spins for its reply. A server nearby replies sooner.
const renewSpin = 500 * time.Microsecond

// Close ends blocked calls and dials, and closes all connections. No goroutine starts
// afterwards. It must be called once.
func (c *Clients) Close() error {
	c.spawning.Lock()
	close(c.Closed)
	c.spawning.Unlock()
	c.stop()
	for _, l := range []Client{c.Queue, c.Work, c.Lease, c.Renew, c.Block} {
		if l.routes != nil {
			l.routes.close()
		}
	}
	return errors.Join(c.Block.library.Close(), c.Queue.library.Close(), c.Work.library.Close(), c.Lease.library.Close(), c.Renew.library.Close())
}

// Ping sends one PING. For a cluster one master that answers is enough.
func (c *Clients) Ping(ctx context.Context) error {
	if cluster, ok := c.Work.library.(*goredis.ClusterClient); ok {
		return c.pingAny(ctx, cluster)
	}
	_, err := WithGrace(ctx, c, func(ctx context.Context) (string, error) { return c.Work.library.Ping(ctx).Result() })
	return err
}

// pingAny pings all masters of a cluster, and returns at the first answer.
func (c *Clients) pingAny(ctx context.Context, cluster *goredis.ClusterClient) error {
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	var answered atomic.Bool
	_, err := WithGrace(waiting, c, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, cluster.ForEachMaster(ctx, func(ctx context.Context, node *goredis.Client) error {
			err := node.Ping(ctx).Err()
			if err == nil {
				answered.Store(true)
				stop()
			}
			return err
		})
	})
	if answered.Load() {
		return nil
	}
	return err
}

// ReloadSlots has a cluster's client ask which node has which hash slots.
func (c *Clients) ReloadSlots(ctx context.Context) {
	if cluster, ok := c.Work.library.(*goredis.ClusterClient); ok {
		cluster.ReloadState(ctx)
	}
}

// Spawn starts a goroutine that Wait waits for. It reports false if the clients are
// closed.
func (c *Clients) Spawn(f func()) bool {
	c.spawning.Lock()
	defer c.spawning.Unlock()
	if c.IsClosed() {
		return false
	}
	c.running.Go(f)
	return true
}

// Wait blocks until the goroutines that Spawn has started are over.
func (c *Clients) Wait() { c.running.Wait() }

func (c *Clients) IsClosed() bool {
	select {
	case <-c.Closed:
		return true
	default:
		return false
	}
}

// Pause blocks for d. It returns false early if ctx or the clients end, and at once if
// ctx ends before d has passed.
func (c *Clients) Pause(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	case <-c.Closed:
		return false
	}
}
