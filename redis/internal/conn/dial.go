package conn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Config is what can be chosen of connections.
type Config struct {
	// Timeout bounds dialing, waiting for a connection and one command, each.
	Timeout time.Duration
	// Blocking is how long a blocking read may take on top of that.
	Blocking time.Duration
	// Confirm has what is queued confirmed by Replicas replicas, and with Fsync by the
	// disks of the server and of these.
	Confirm, Fsync bool
	Replicas       int
}

// Clients are the broker's connections, apart by purpose: none of these can
// take the connections another needs. They know the goroutines that use them.
type Clients struct {
	Queue Client // QueueTasks and ticks
	Work  Client // takes, recovery, records, counts
	Lease Client // outcomes, and what else counts only while the lease lasts
	Renew Client // renewals
	Block Client // blocking reads
	// cluster: keys of different queues can be on different nodes.
	Cluster bool

	cfg      Config
	stop     context.CancelFunc // ends dials
	Closed   chan struct{}
	spawning sync.Mutex     // no goroutine is started once closed is
	running  sync.WaitGroup // goroutines
}

// Client is a way to the servers: by the client library, and for the commands of
// every run by lines, if there can be any.
type Client struct {
	goredis.UniversalClient
	routes *routes
	dials  *atomic.Int64 // how many lines were dialed
}

// Direct reports whether commands go by lines, and not by the client library alone.
func (l Client) Direct() bool { return l.routes != nil }

// Dialed returns how many lines were dialed.
func (l Client) Dialed() int64 { return l.dials.Load() }

// Exec is [routes.exec] of a link that is direct.
func (l Client) Exec(ctx context.Context, key string, encode func([]byte) []byte, read Reader, then *Confirmation) (any, error) {
	return l.routes.exec(ctx, key, encode, read, then)
}

// Dialer makes one client with a pool of the given size.
type Dialer struct {
	open    func(dials context.Context, cfg Config, size int) goredis.UniversalClient
	cluster bool
	// sentinel: the server is whom sentinels name as the master.
	sentinel bool

	// What a mistake in its URL is told by: the first server it names.
	scheme, network, addr, master string
	tls                           bool
}

func New(d Dialer, cfg Config) *Clients {
	c := &Clients{cfg: cfg, Cluster: d.cluster, Closed: make(chan struct{})}
	dials, stop := context.WithCancel(context.Background())
	master := new(atomic.Pointer[string])
	dial := func(size int, blocks, urgent time.Duration) Client {
		l := Client{UniversalClient: d.open(dials, cfg, size), dials: new(atomic.Int64)}
		l.routes = newRoutes(c, l.UniversalClient, func(opt *goredis.Options) *pool {
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

// renewSpin is for how long a renewal waits for its reply without giving its
// processor away: a server nearby has replied by then.
const renewSpin = 500 * time.Microsecond

// Close ends blocked calls, closes the connections, and has no further goroutine be
// started.
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
	return errors.Join(c.Block.Close(), c.Queue.Close(), c.Work.Close(), c.Lease.Close(), c.Renew.Close())
}

// errURL is all that is said of a URL that cannot be parsed: what the parsers
// say quotes pieces of it, and with them pieces of a password.
var errURL = errors.New("parse broker url: not a url of redis:, rediss:, unix:, redis+cluster: or redis+sentinel:, " +
	"like redis://user:password@host:6379/0 (special characters of a password are percent-encoded)")

func ParseURL(raw string) (Dialer, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return Dialer{}, errURL
	}
	if err := checkURL(u); err != nil {
		return Dialer{}, err
	}
	d, err := parseDialer(raw)
	switch {
	case err != nil:
		return Dialer{}, diagnoseURL(raw)
	case d.sentinel && d.master == "":
		return Dialer{}, errors.New("parse broker url: redis+sentinel: needs ?master_name=…")
	}
	return d, nil
}

// checkURL refuses a URL of which go-redis would silently take something else: the
// server of this machine, or the database 0.
func checkURL(u *url.URL) error {
	if strings.HasPrefix(u.Scheme, "redis") && u.Host == "" && (u.Opaque != "" || u.User == nil && strings.Trim(u.Path, "/") != "") {
		return fmt.Errorf("parse broker url: two slashes and a host have to follow %[1]s:, as in %[1]s://host:6379", u.Scheme)
	}
	db := strings.Trim(u.Path, "/")
	if u.Scheme == "unix" || u.Query().Has("db") {
		db = u.Query().Get("db")
	}
	if n, err := strconv.Atoi(db); err == nil && n < 0 {
		return errors.New("parse broker url: the number of the database is negative; write 0 or more, as in redis://host:6379/0")
	}
	return nil
}

// parseDialer is parseURL with errors that may show a password.
func parseDialer(raw string) (d Dialer, err error) {
	scheme, rest, _ := strings.Cut(raw, ":")
	secure, addrs := false, []string(nil)
	switch scheme {
	case "redis", "rediss", "unix":
		opt, err := goredis.ParseURL(raw)
		if err != nil {
			return Dialer{}, err
		}
		d, secure, addrs = single(opt), opt.TLSConfig != nil, []string{opt.Addr}
	case "redis+cluster", "rediss+cluster":
		opt, err := goredis.ParseClusterURL(strings.TrimSuffix(scheme, "+cluster") + ":" + rest)
		if err != nil {
			return Dialer{}, err
		}
		d, secure, addrs = cluster(opt), opt.TLSConfig != nil, opt.Addrs
	case "redis+sentinel", "rediss+sentinel":
		opt, err := goredis.ParseFailoverURL(strings.TrimSuffix(scheme, "+sentinel") + ":" + rest)
		if err != nil {
			return Dialer{}, err
		}
		d, secure, addrs = sentinel(opt), opt.TLSConfig != nil, opt.SentinelAddrs
		d.master = opt.MasterName
	default:
		return Dialer{}, errURL
	}
	d.scheme, d.network, d.tls = scheme, "tcp", secure
	if scheme == "unix" {
		d.network = "unix"
	}
	if len(addrs) > 0 {
		d.addr = addrs[0]
	}
	return d, nil
}

func FromClient(client goredis.UniversalClient) (Dialer, error) {
	switch c := client.(type) {
	case *goredis.Client:
		return single(c.Options()), nil
	case *goredis.ClusterClient:
		return cluster(c.Options()), nil
	}
	return Dialer{}, fmt.Errorf("a client of type %T is not supported, only *redis.Client and *redis.ClusterClient", client)
}

// tune sets what the broker needs of a client of one server. Retries are off
// because go-redis would run a script twice that the server had run, but whose
// reply was lost.
func tune(dials context.Context, opt *goredis.Options, cfg Config, size int) {
	opt.MaxRetries = -1
	opt.ContextTimeoutEnabled = true
	opt.DialTimeout, opt.DialerRetries = cfg.Timeout, 1
	opt.ReadTimeout, opt.WriteTimeout, opt.PoolTimeout = cfg.Timeout, cfg.Timeout, cfg.Timeout
	opt.PoolSize, opt.MinIdleConns, opt.MaxIdleConns, opt.MaxActiveConns = size, 0, 0, 0
	opt.MaxConcurrentDials = 0
	opt.PipelinePoolSize = -1
	opt.DisableIdentity = true
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if opt.Dialer == nil {
		opt.Dialer = goredis.NewDialer(opt)
	}
	opt.Dialer = quietDialer(dials, opt.Dialer)
}

func single(base *goredis.Options) Dialer {
	return Dialer{open: func(dials context.Context, cfg Config, size int) goredis.UniversalClient {
		opt := *base
		tune(dials, &opt, cfg, size)
		return goredis.NewClient(&opt)
	}}
}

func cluster(base *goredis.ClusterOptions) Dialer {
	return Dialer{cluster: true, open: func(dials context.Context, cfg Config, size int) goredis.UniversalClient {
		opt := *base
		opt.MaxRetries = -1
		opt.ReadOnly, opt.RouteByLatency, opt.RouteRandomly = false, false, false
		opt.DisableRoutingPolicies = true
		opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
		open := opt.NewClient
		if open == nil {
			open = goredis.NewClient
		}
		opt.NewClient = func(node *goredis.Options) *goredis.Client {
			tune(dials, node, cfg, size)
			return open(node)
		}
		return goredis.NewClusterClient(&opt)
	}}
}

func sentinel(base *goredis.FailoverOptions) Dialer {
	return Dialer{sentinel: true, open: func(dials context.Context, cfg Config, size int) goredis.UniversalClient {
		opt := *base
		server := &goredis.Options{Dialer: opt.Dialer, TLSConfig: opt.TLSConfig}
		tune(dials, server, cfg, size)
		opt.Dialer = server.Dialer
		opt.MaxRetries = server.MaxRetries
		opt.ContextTimeoutEnabled = server.ContextTimeoutEnabled
		opt.DialTimeout, opt.DialerRetries = server.DialTimeout, server.DialerRetries
		opt.ReadTimeout, opt.WriteTimeout, opt.PoolTimeout = server.ReadTimeout, server.WriteTimeout, server.PoolTimeout
		opt.PoolSize, opt.MinIdleConns, opt.MaxIdleConns, opt.MaxActiveConns = size, 0, 0, 0
		opt.MaxConcurrentDials = server.MaxConcurrentDials
		opt.PipelinePoolSize = server.PipelinePoolSize
		opt.DisableIdentity = server.DisableIdentity
		opt.ReplicaOnly, opt.RouteByLatency, opt.RouteRandomly = false, false, false
		return goredis.NewFailoverClient(&opt)
	}}
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// quietDialer makes a dial that fails no failed dial to go-redis, but a connection
// that fails at its first use. go-redis writes a line to standard error for
// each failed dial, by a logger of the whole process, which is not for a
// library to change. The dials end when the context dials does.
func quietDialer(dials context.Context, dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(dials, cancel)()
		conn, err := dial(ctx, network, addr)
		if err == nil {
			return watchRefusal(conn), nil
		}
		if op := (*net.OpError)(nil); !errors.As(err, &op) || op.Op != "dial" {
			err = &net.OpError{Op: "dial", Net: network, Err: err}
		}
		// go-redis takes off the outer error.
		return failedConn{fmt.Errorf("connect: %w", err)}, nil
	}
}

// failedConn is what is left of a dial that failed.
type failedConn struct{ err error }

func (c failedConn) Read([]byte) (int, error)       { return 0, c.err }
func (c failedConn) Write([]byte) (int, error)      { return 0, c.err }
func (failedConn) Close() error                     { return nil }
func (failedConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (failedConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (failedConn) SetDeadline(time.Time) error      { return nil }
func (failedConn) SetReadDeadline(time.Time) error  { return nil }
func (failedConn) SetWriteDeadline(time.Time) error { return nil }

// Ping asks the server once whether it is there. Of a cluster one master that
// answers is enough.
func (c *Clients) Ping(ctx context.Context) error {
	if cluster, ok := c.Work.UniversalClient.(*goredis.ClusterClient); ok {
		return c.pingAny(ctx, cluster)
	}
	_, err := WithGrace(ctx, c, func(ctx context.Context) (string, error) { return c.Work.Ping(ctx).Result() })
	return err
}

// pingAny is ping for a cluster. It waits for the first answer only.
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

// ReloadSlots has a cluster's client ask anew which node has which keys.
func (c *Clients) ReloadSlots(ctx context.Context) {
	if cluster, ok := c.Work.UniversalClient.(*goredis.ClusterClient); ok {
		cluster.ReloadState(ctx)
	}
}

// Spawn starts a goroutine, of which running knows. It reports false when the
// clients are closed.
func (c *Clients) Spawn(f func()) bool {
	c.spawning.Lock()
	defer c.spawning.Unlock()
	if c.IsClosed() {
		return false
	}
	c.running.Go(f)
	return true
}

// Wait waits for the goroutines that spawn has started.
func (c *Clients) Wait() { c.running.Wait() }

func (c *Clients) IsClosed() bool {
	select {
	case <-c.Closed:
		return true
	default:
		return false
	}
}

// Pause waits before a repeated try. It reports false when there is no time
// left to wait in.
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
