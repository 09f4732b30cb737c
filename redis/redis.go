// Package redis is the broker that keeps runs in Redis 7 or newer: leased and
// delivered at least once, with records, dead letters and schedules.
//
// All keys of a queue share its hash tag, and each transition of a run is one script, or one
// command if that is enough. A run waits as an entry of a list or sorted set. A batch that
// a consumer took is a list, and the lease of all that a consumer holds in a queue is one
// entry. Idle consumers block on the server, and poll every two seconds in case a wake-up
// was lost.
//
// The server decides how safe a queued run is: with appendfsync always all runs survive a
// crash of the server, with everysec all but those of the last second do.
// [Config.Acknowledge] has calls wait for replicas or for the disk. [Broker.Durability]
// returns what the server does. [Broker.Audit] finds and repairs what does not fit together
// after all.
package redis

import (
	"context"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/poison"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

var (
	_ broker.Broker            = (*Broker)(nil)
	_ maintenance.Namer        = (*Broker)(nil)
	_ broker.Leaser            = (*Broker)(nil)
	_ broker.Records           = (*Broker)(nil)
	_ broker.Ticks             = (*Broker)(nil)
	_ broker.ScheduleStore     = (*Broker)(nil)
	_ broker.Policies          = (*Broker)(nil)
	_ broker.Groups            = (*Broker)(nil)
	_ broker.Controls          = (*Broker)(nil)
	_ maintenance.Surveyor     = (*Broker)(nil)
	_ maintenance.TickSurveyor = (*Broker)(nil)
	_ maintenance.Auditor      = (*Broker)(nil)
	_ maintenance.Damages      = (*Broker)(nil)
	_ broker.Clock             = (*Broker)(nil)
	_ broker.Instances         = (*Broker)(nil)
	_ broker.Tallies           = (*Broker)(nil)
	_ broker.Heartbeater       = (*session)(nil)
	_ broker.Starter           = (*session)(nil)
	_ poison.Tracker           = (*session)(nil)
	_ poison.Survivor          = (*session)(nil)
)

// Open connects to the server that a URL names, and checks that it can keep runs:
//
//	redis://[user:password@]host[:port][/db]             and rediss: for TLS
//	unix://[user:password@]/path/to/socket[?db=n]
//	redis+cluster://[user:password@]host:port[?addr=host:port…]
//	redis+sentinel://[user:password@]host:port[/db]?master_name=name
//
// The URL may have the options of go-redis, and three that set a field of cfg that has its
// default: prefix=name for Config.Prefix, acknowledge=replica or fsync for
// Config.Acknowledge, and durable=required for Config.RequireDurable. Open blocks until
// the server has replied, or ctx ends. Close closes the broker's connections. No error
// shows the password.
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
	if err := b.checkServer(ctx, dial); err != nil {
		_ = b.Close()
		return nil, fmt.Errorf("open redis broker: %w", err)
	}
	return b, nil
}

// New makes a broker that connects as client does. It takes over the options of client,
// and opens connections of its own, which Close closes. It neither uses nor closes client,
// and sends nothing to the server. It refuses a client that is neither a *goredis.Client
// nor a *goredis.ClusterClient.
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
	scripts, err := script.Load()
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
	b.quiet.since = map[string]time.Time{}
	b.takeWaiters = &takeWaiters{b: b, readers: map[string]*tokenReader{}}
	b.completions = &completions{clients: b.clients, prefix: cfg.Prefix, id: id, readers: map[*wire.QueueKeys]*completionReader{}, all: map[*completionReader]bool{}}
	return b, nil
}

// equipQueue gives a new queue the functions that send its commands.
func (b *Broker) equipQueue(q *queue) {
	q.enqueue.run = func(ctx context.Context, calls []*enqueueCall) { b.sendCalls(ctx, q, calls) }
	q.push.clients, q.push.turn = b.clients, make(chan struct{}, 1)
	q.push.send = func(ctx context.Context, pb *pushBatch) error { return b.sendPush(ctx, q, pb) }
	q.mover.clients, q.mover.timeout = b.clients, b.cfg.Timeout
	q.mover.move = func(ctx context.Context) error { _, err := b.moveOutbox(ctx, q); return err }
}

// connConfigOf returns the part of a broker's configuration that its connections need.
func connConfigOf(cfg Config) conn.Config {
	return conn.Config{
		Timeout: cfg.Timeout, Blocking: pollInterval,
		Confirm: cfg.Acknowledge != Memory, Fsync: cfg.Acknowledge == Fsync, Replicas: cfg.Replicas,
	}
}

// Close ends blocked calls with [broker.ErrClosed], closes the broker's connections and
// waits for its goroutines. If the server does not answer, that takes little more than a
// second. Open sessions keep what they hold until their leases end. A further call does
// nothing.
func (b *Broker) Close() error {
	var err error
	b.close.Do(func() {
		b.fetchers.close(b.cfg.Timeout)
		err = b.clients.Close()
	})
	b.clients.Wait()
	if err != nil {
		return fmt.Errorf("close redis broker: %w", err)
	}
	return nil
}
