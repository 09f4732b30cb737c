// Package redis is the broker that keeps runs in Redis 7 or newer: leased and
// delivered at least once, with records, dead letters and schedules.
//
// Everything of a queue lives under keys that share its hash tag, and every
// transition of a run is one script, or one command where that is enough. A run
// waits as one element of a list or sorted set, a batch that a consumer took is
// one list, and the lease of all a consumer holds in a queue is one entry.
// Consumers that find nothing block on the server and look again every two seconds, in
// case a wake-up was lost: those of several queues by one command for up to 2,500 of
// them in turn, those of a single queue by a take.
//
// How safe a queued run is, is up to the server: with appendfsync always it
// survives the server's crash, with everysec all but the last second does.
// [Config.Acknowledge] has queueing wait for replicas or for the disk,
// [Broker.Durability] tells what the server does, and [Broker.Audit] finds and
// mends what does not fit together after all.
package redis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/poison"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// Config is what can be chosen of a [Broker]. Its zero value works.
type Config struct {
	// Prefix opens the name of every key, so that several applications can
	// share a database. Printable ASCII without spaces and braces. Defaults to
	// "taskgen".
	Prefix string

	// Timeout bounds how long one command may take, dialing and waiting for a
	// connection each on top of it. A call whose context ends returns within a
	// tenth of a second, whatever the server does. Opening, queueing and reading
	// records wait for a server that still loads its files, until the context ends
	// or for ten times this. Defaults to 3 seconds.
	Timeout time.Duration

	// MaxDead is how many dead letters a queue keeps; beyond it the oldest are
	// dropped and counted. Defaults to 10,000.
	MaxDead int

	// AllowEviction accepts a server that may evict keys when its memory is
	// full, and with them runs that were accepted. Defaults to false: such a
	// server is refused.
	AllowEviction bool

	// Acknowledge is how safe a run has to be before its queueing returns nil.
	// Stored, but not confirmed as safe within three quarters of Timeout, or by
	// the end of the caller's context, the error wraps
	// [broker.ErrNotReplicated]. Defaults to Memory.
	Acknowledge Acknowledge

	// Replicas is how many replicas have to confirm what is queued. Defaults to
	// 1 with Acknowledge Replica, else to none.
	Replicas int

	// RequireDurable has Open refuse a server without append-only file: one
	// that keeps nothing, or snapshots only, loses accepted runs in a crash.
	RequireDurable bool

	// Logger receives what the broker skips because it cannot be used, such as
	// names that no queue can have, each once, and the schedules that go on from now as
	// their last claimed tick is lost. Defaults to slog's default logger.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.Prefix == "" {
		c.Prefix = "taskgen"
	}
	for i := range len(c.Prefix) {
		if ch := c.Prefix[i]; ch <= ' ' || ch > '~' || ch == '{' || ch == '}' {
			return c, fmt.Errorf("config Prefix: %.64q is not printable ASCII without spaces and braces", c.Prefix)
		}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	switch {
	case c.Timeout < 0:
		return c, fmt.Errorf("config Timeout: %v is negative", c.Timeout)
	case c.Timeout == 0:
		c.Timeout = 3 * time.Second
	}
	switch {
	case c.MaxDead < 0:
		return c, fmt.Errorf("config MaxDead: %d is negative", c.MaxDead)
	case c.MaxDead == 0:
		c.MaxDead = 10_000
	}
	return c.withAcknowledge()
}

// Broker is the broker over Redis. It has every interface of the packages broker and
// maintenance, and its sessions are [broker.Heartbeater] and [broker.Starter]. All methods
// may be called concurrently.
type Broker struct {
	cfg      Config
	clients  *conn.Clients
	scripts  scripts
	url      string        // by which it was opened, or would be
	id       string        // of this broker, where scripts have to name it
	calls    atomic.Uint64 // makes tokens of one broker distinct
	queues   sync.Map      // of *queue by name
	equip    func(*queue)  // gives a new queue what sends its commands
	sleep    *sleepers
	ends     *endings
	takers   takers
	skipped  skipped
	damage   damages
	mends    sync.Map // of *mending by what opens the queue's keys
	sessions sessions
	glances  glances
	watches  watches
	audits   audits
	names    queueNames
	counted  countedNames
	nameless atomic.Bool // the set of names could not be added to
	unnamed  unnamed
	odd      oddities
	close    sync.Once
	made     sync.Pool // of *[]outcome
	scratch  sync.Pool
	lease    atomic.Int64 // the longest of its sessions, in nanoseconds
	bad      string       // the failure of entries that cannot be read, as scripts store it
}

var (
	_ broker.Broker        = (*Broker)(nil)
	_ maintenance.Namer    = (*Broker)(nil)
	_ broker.Leaser        = (*Broker)(nil)
	_ broker.Records       = (*Broker)(nil)
	_ broker.Ticks         = (*Broker)(nil)
	_ broker.ScheduleStore = (*Broker)(nil)
	_ broker.Policies      = (*Broker)(nil)
	_ broker.Groups        = (*Broker)(nil)
	_ broker.Controls      = (*Broker)(nil)
	_ maintenance.Surveyor = (*Broker)(nil)
	_ maintenance.Auditor  = (*Broker)(nil)
	_ maintenance.Damages  = (*Broker)(nil)
	_ broker.Clock         = (*Broker)(nil)
	_ broker.Heartbeater   = (*session)(nil)
	_ broker.Starter       = (*session)(nil)
	_ poison.Tracker       = (*session)(nil)
	_ poison.Survivor      = (*session)(nil)
)

// Open connects to the server a URL names and checks that it can keep runs:
//
//	redis://[user:password@]host[:port][/db]             and rediss: for TLS
//	unix://[user:password@]/path/to/socket[?db=n]
//	redis+cluster://[user:password@]host:port[?addr=host:port…]
//	redis+sentinel://[user:password@]host:port[/db]?master_name=name
//
// with further options as go-redis takes them, and three that set what cfg leaves
// at its default: prefix=name for Config.Prefix, acknowledge=replica or fsync for
// Config.Acknowledge, and durable=required for Config.RequireDurable. ctx bounds the connecting. The broker's
// connections are closed by Close. No error shows the password.
func Open(ctx context.Context, url string, cfg Config) (*Broker, error) {
	url, err := takeOptions(url, &cfg)
	if err != nil {
		return nil, fmt.Errorf("open redis broker: %w", err)
	}
	if cfg, err = cfg.withDefaults(); err != nil {
		return nil, fmt.Errorf("open redis broker: %w", err)
	}
	dial, err := conn.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("open redis broker: %w", err)
	}
	b, err := newBroker(dial, cfg)
	if err != nil {
		return nil, fmt.Errorf("open redis broker: %w", err)
	}
	b.url = url
	if err := b.grade(ctx, dial); err != nil {
		_ = b.Close()
		return nil, fmt.Errorf("open redis broker: %w", err)
	}
	return b, nil
}

// New makes a broker that connects as client does: it takes over the client's
// options, but opens connections of its own, which Close closes; client itself
// is neither used nor closed. The server is not asked anything. A client that
// is neither a *goredis.Client nor a *goredis.ClusterClient is refused.
func New(client goredis.UniversalClient, cfg Config) (*Broker, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("new redis broker: %w", err)
	}
	dial, err := conn.FromClient(client)
	if err != nil {
		return nil, fmt.Errorf("new redis broker: %w", err)
	}
	b, err := newBroker(dial, cfg)
	if err != nil {
		return nil, fmt.Errorf("new redis broker: %w", err)
	}
	b.url = conn.URLOf(client)
	return b, nil
}

func newBroker(dial conn.Dialer, cfg Config) (*Broker, error) {
	id, err := newID()
	if err != nil {
		return nil, err
	}
	scripts, err := loadScripts()
	if err != nil {
		return nil, err
	}
	b := &Broker{
		cfg:     cfg,
		scripts: *scripts,
		id:      id,
	}
	b.clients = conn.New(dial, connConfigOf(cfg))
	if !b.clients.Queue.Direct() && cfg.Acknowledge != Memory {
		_ = b.clients.Close()
		return nil, fmt.Errorf("config Acknowledge: %v cannot be had with a client that has a Limiter "+
			"or a StreamingCredentialsProvider", cfg.Acknowledge)
	}
	b.bad = string(wire.AppendFailure(nil, &broker.Failure{
		Kind: broker.FailureSchema, Message: "the stored entry is not one of a run that this build knows; if a newer version stored it, " + wire.Upgrade,
	}))
	b.equip = b.equipQueue
	b.glances.quiet = map[string]time.Time{}
	b.sleep = &sleepers{b: b, groups: map[string]*sleepGroup{}}
	b.ends = &endings{clients: b.clients, prefix: cfg.Prefix, id: id, readers: map[*wire.QueueKeys]*endingReader{}, all: map[*endingReader]bool{}}
	return b, nil
}

// equipQueue gives a queue what sends its commands.
func (b *Broker) equipQueue(q *queue) {
	q.enqueue.run = func(ctx context.Context, groups []*group) { b.sendGroups(ctx, q, groups) }
	q.push.clients, q.push.turn = b.clients, make(chan struct{}, 1)
	q.push.send = func(ctx context.Context, l *load) error { return b.push(ctx, q, l) }
	q.mover.clients, q.mover.timeout = b.clients, b.cfg.Timeout
	q.mover.move = func(ctx context.Context) error { _, err := b.moveOn(ctx, q); return err }
}

// connConfigOf returns what of a broker's configuration is about its connections.
func connConfigOf(cfg Config) conn.Config {
	return conn.Config{
		Timeout: cfg.Timeout, Blocking: longestNap,
		Confirm: cfg.Acknowledge != Memory, Fsync: cfg.Acknowledge == Fsync, Replicas: cfg.Replicas,
	}
}

// ping asks the server once whether it is there. Of a cluster one master that
// answers is enough.
func (b *Broker) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	if err := b.clients.Ping(ctx); err != nil {
		op := "ping server"
		if b.clients.Cluster {
			op = "ping servers of the cluster"
		}
		return b.fail(ctx, op, err)
	}
	return nil
}

// newID returns 16 random hexadecimal digits.
func newID() (string, error) {
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", fmt.Errorf("make id: %w", err)
	}
	return hex.EncodeToString(id[:]), nil
}

// Close ends blocked calls with [broker.ErrClosed], closes the broker's
// connections and waits for its goroutines, which takes little more than a
// second when the server does not answer. Sessions that have not left keep
// what they hold until their lease ends. Closing again does nothing.
func (b *Broker) Close() error {
	var err error
	b.close.Do(func() {
		b.takers.leave(b.cfg.Timeout)
		err = b.clients.Close()
	})
	b.clients.Wait()
	if err != nil {
		return fmt.Errorf("close redis broker: %w", err)
	}
	return nil
}

// fail makes the error of an operation out of what go-redis returned.
func (b *Broker) fail(ctx context.Context, op string, err error) error {
	switch {
	case b.clients.IsClosed() || errors.Is(err, goredis.ErrClosed):
		return fmt.Errorf("%s: %w", op, broker.ErrClosed)
	case conn.ContextErr(ctx) != nil && conn.IsLoading(err):
		return fmt.Errorf("%s: %w: %w", op, conn.ContextErr(ctx), err)
	case conn.ContextErr(ctx) != nil:
		return fmt.Errorf("%s: %w", op, conn.ContextErr(ctx))
	case goredis.HasErrorPrefix(err, "OOM"):
		return fmt.Errorf("%s: %w: the server's memory is full: raise its maxmemory, or wait until consumers have made room", op, broker.ErrQueueFull)
	}
	if conn.MayRepeat(err) {
		err = unavailable{err}
	}
	return fmt.Errorf("%s: %w", op, err)
}

// unavailable is an error that may pass.
type unavailable struct{ error }

func (u unavailable) Unwrap() error { return u.error }

func (u unavailable) Is(target error) bool { return target == broker.ErrUnavailable }

// queuesKey names the set of all queues' names.
func (b *Broker) queuesKey() string { return wire.QueuesKey(b.cfg.Prefix) }

// woken returns the list by which consumers of several queues are woken for runs of a
// kind; on a cluster, where no list can be that of several queues, the empty string.
func (b *Broker) woken(kind int) string {
	if b.clients.Cluster {
		return ""
	}
	return wire.WokenKey(b.cfg.Prefix, kind)
}

// queue is one queue's keys, and what this process knows of it.
type queue struct {
	wire.QueueKeys
	mix uint64 // of its name (mixOf)

	named   atomic.Int64 // when the name was last added to the set, Unix seconds
	mover   mover
	look    look
	outage  outage
	enqueue committer[*group]
	push    pusher
}

// queue returns the queue of a name, once it has checked the name.
func (b *Broker) queue(name string) (*queue, error) {
	if q, ok := b.queues.Load(name); ok {
		return q.(*queue), nil
	}
	if err := checkQueue(name); err != nil {
		return nil, err
	}
	q := b.keysOf(name)
	b.equip(q)
	actual, _ := b.queues.LoadOrStore(name, q)
	return actual.(*queue), nil
}

// keysOf returns a queue of a name as nobody uses it yet.
func (b *Broker) keysOf(name string) *queue {
	return &queue{QueueKeys: wire.NewQueueKeys(b.cfg.Prefix, name), mix: mixOf(name)}
}
