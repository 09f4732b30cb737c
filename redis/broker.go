package redis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"sync"
	"sync/atomic"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// Broker is the broker over Redis. It implements all interfaces of the packages broker and
// maintenance; its sessions are [broker.Heartbeater] and [broker.Starter]. All methods may
// be called concurrently.
type Broker struct {
	cfg          Config
	clients      *conn.Clients
	scripts      script.Scripts
	url          string        // that opens the broker
	id           string        // of this broker, for scripts
	calls        atomic.Uint64 // counts tokens
	queues       sync.Map      // *queue by name
	equip        func(*queue)  // gives a new queue what sends its commands
	takeWaiters  *takeWaiters
	completions  *completions
	fetchers     fetchers
	skipped      skipped
	damage       damages
	repairs      sync.Map // *repairing by the beginning of the queue's keys
	sessions     sessions
	quiet        quietQueues
	watches      watches
	audits       audits
	names        queueNames
	counted      countedNames
	namesBroken  atomic.Bool // the set of names could not be added to
	unregistered unregistered
	logged       loggedOnce
	close        sync.Once
	made         sync.Pool // of *[]outcome
	scratch      sync.Pool
	lease        atomic.Int64 // the longest of its sessions, in nanoseconds
	bad          string       // the failure of entries that cannot be read, as scripts store it
}

// ping asks the server once whether it is there. Of a cluster one master that answers is
// enough.
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

// fail makes the error of an operation from an error of package conn.
func (b *Broker) fail(ctx context.Context, op string, err error) error {
	switch {
	case b.clients.IsClosed() || conn.IsClosed(err):
		return fmt.Errorf("%s: %w", op, broker.ErrClosed)
	case conn.ContextErr(ctx) != nil && conn.IsLoading(err):
		return fmt.Errorf("%s: %w: %w", op, conn.ContextErr(ctx), err)
	case conn.ContextErr(ctx) != nil:
		return fmt.Errorf("%s: %w", op, conn.ContextErr(ctx))
	case conn.IsRefusal(err, "OOM"):
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

// Prefix returns the beginning of the names of all keys.
func (b *Broker) Prefix() string { return b.cfg.Prefix }

// queuesKey is the key of the set of all queues' names.
func (b *Broker) queuesKey() string { return wire.QueuesKey(b.cfg.Prefix) }

// woken is the list at which takes from several queues wait for runs of a kind. It is
// empty on a cluster, where queues cannot share a list.
func (b *Broker) woken(kind int) string {
	if b.clients.Cluster {
		return ""
	}
	return wire.WokenKey(b.cfg.Prefix, kind)
}

// queue is a queue's keys, and what this process knows of the queue.
type queue struct {
	wire.QueueKeys
	mix uint64 // of its name (mixOf)

	named      atomic.Int64 // when the name was last added to the set, Unix seconds
	mover      mover
	outboxScan outboxScan
	outage     outage
	enqueue    coalescer[*enqueueCall]
	push       pushCoalescer
}

// queue returns the queue of a name. It refuses a name that no queue can have.
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

// keysOf returns a queue of a name that is not shared.
func (b *Broker) keysOf(name string) *queue {
	return &queue{QueueKeys: wire.NewQueueKeys(b.cfg.Prefix, name), mix: mixOf(name)}
}

// checkQueue returns why no queue can have the name, nil if one can.
func checkQueue(name string) error {
	probe := broker.TaskRun{ID: "-", Task: "-", Queue: name}
	return probe.Validate()
}

// mixOf hashes a queue's name. The sum of the hashes identifies a set of names.
func mixOf(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	x := h.Sum64()
	// The finalizer of MurmurHash3: the sums of similar hashes may be alike.
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
