package redis

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/taskgen/taskgen/redis/internal/conn"
)

// Of the tries.
const (
	firstRegister   = 100 * time.Millisecond // until the second; the time doubles
	longestRegister = 10 * time.Second
	maxRegistered   = 1000 // in one command
)

// registerLater has the name added once that is possible.
func (b *Broker) registerLater(q *queue, now int64) {
	last := q.named.Load()
	if !q.named.CompareAndSwap(last, now) {
		return // another call does it
	}
	u := &b.unregistered
	u.mu.Lock()
	defer u.mu.Unlock()
	set(&u.names, q.Name, true)
	if !u.trying {
		u.trying = b.clients.Spawn(b.registerAll)
	}
}

// registerAll adds names until none is left, or the broker is closed.
func (b *Broker) registerAll() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for wait := firstRegister; ; wait = min(2*wait, longestRegister) {
		select {
		case <-timer.C:
		case <-b.clients.Closed:
			return
		}
		for b.registerSome() {
			wait = firstRegister
		}
		if b.unregistered.over() {
			return
		}
		timer.Reset(wait)
	}
}

// registerSome adds some of the names. It reports whether there were any, and it could.
func (b *Broker) registerSome() bool {
	u := &b.unregistered
	u.mu.Lock()
	names := slices.Collect(maps.Keys(u.names))
	u.mu.Unlock()
	names = names[:min(len(names), maxRegistered)]
	if len(names) == 0 || b.addNames(context.Background(), names...) != nil {
		return false
	}
	b.namesBroken.Store(false)
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, name := range names {
		delete(u.names, name)
	}
	return true
}

// addNames adds names to the set.
func (b *Broker) addNames(ctx context.Context, names ...string) error {
	members := make([]any, len(names))
	for i, name := range names {
		members[i] = name
	}
	_, err := b.clients.Queue.SAdd(ctx, b.queuesKey(), members...)
	return err
}

// registerQueue adds the queue's name to the set of names: before the first run of this
// process, and again from time to time, in case the set is lost. If only the set cannot be
// written, the queue is used without.
func (b *Broker) registerQueue(ctx context.Context, q *queue) error {
	now := time.Now().Unix()
	if last := q.named.Load(); last != 0 && now-last < registerEvery {
		return nil
	}
	if b.namesBroken.Load() {
		b.registerLater(q, now)
		return nil
	}
	again := conn.MayRepeat
	if b.clients.Cluster {
		again = func(error) bool { return false } // the set may be on a node that is down
	}
	err := b.clients.Retry(ctx, again, func() error { return b.addNames(ctx, q.Name) })
	switch {
	case err == nil:
		q.named.Store(now)
	case conn.ContextErr(ctx) == nil && b.outlives(err):
		b.goOnUnregistered(ctx, q, now, err)
	default:
		return b.notQueued(ctx, fmt.Errorf("add name of queue %s: %w", q.Name, err), false)
	}
	return nil
}

// goOnUnregistered has queues be used although their names cannot be added.
func (b *Broker) goOnUnregistered(ctx context.Context, q *queue, now int64, err error) {
	b.namesBroken.Store(true)
	b.cfg.Logger.WarnContext(ctx, "cannot add to the names of queues, going on without: patterns and commands may miss new queues",
		"queue", q.Name, "error", b.blame(ctx, err, b.queuesKey()))
	b.registerLater(q, now)
}

// registerEvery is how often a queue's name is added again, in seconds.
const registerEvery = 60

// outlives reports whether queues can be used although their names cannot be added
// to the set: that is on a node of its own, or of a wrong type.
func (b *Broker) outlives(err error) bool {
	return conn.IsWrongType(err) || b.clients.Cluster && conn.IsUnreachable(err)
}
