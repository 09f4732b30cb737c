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
	firstNaming    = 100 * time.Millisecond // until the second; the time doubles
	longestNaming  = 10 * time.Second
	namesAnnounced = 1000 // in one command
)

// announceLater has the name added as soon as that is possible.
func (b *Broker) announceLater(q *queue, now int64) {
	last := q.named.Load()
	if !q.named.CompareAndSwap(last, now) {
		return // another call does it
	}
	u := &b.unnamed
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.names == nil {
		u.names = map[string]bool{}
	}
	u.names[q.Name] = true
	if !u.trying {
		u.trying = b.clients.Spawn(b.nameAll)
	}
}

// nameAll adds names until none is left, or the broker is closed.
func (b *Broker) nameAll() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for wait := firstNaming; ; wait = min(2*wait, longestNaming) {
		select {
		case <-timer.C:
		case <-b.clients.Closed:
			return
		}
		for b.nameSome() {
			wait = firstNaming
		}
		if b.unnamed.over() {
			return
		}
		timer.Reset(wait)
	}
}

// nameSome adds some of the names, and reports whether it could, and there were any.
func (b *Broker) nameSome() bool {
	u := &b.unnamed
	u.mu.Lock()
	names := slices.Collect(maps.Keys(u.names))
	u.mu.Unlock()
	names = names[:min(len(names), namesAnnounced)]
	if len(names) == 0 || b.addNames(context.Background(), names...) != nil {
		return false
	}
	b.nameless.Store(false)
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
	_, err := conn.WithGrace(ctx, b.clients, func(ctx context.Context) (int64, error) {
		return b.clients.Queue.SAdd(ctx, b.queuesKey(), members...).Result()
	})
	return err
}

// announce adds the queue's name to the set of all of them, before the first
// run of this process and now and then again, should the set be lost. Where the set
// cannot be added to, though the queue can, the queue goes on without.
func (b *Broker) announce(ctx context.Context, q *queue) error {
	now := time.Now().Unix()
	if last := q.named.Load(); last != 0 && now-last < announceEvery {
		return nil
	}
	if b.nameless.Load() {
		b.announceLater(q, now)
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
		b.nameless.Store(true)
		b.cfg.Logger.WarnContext(ctx, "cannot add to the names of queues, going on without: patterns and commands may miss new queues",
			"queue", q.Name, "error", b.blame(ctx, err, b.queuesKey()))
		b.announceLater(q, now)
	default:
		return b.notQueued(ctx, fmt.Errorf("add name of queue %s: %w", q.Name, err), false)
	}
	return nil
}

// announceEvery is how often, in seconds, a queue's name is added again.
const announceEvery = 60

// outlives reports whether queues can be used although their names cannot be added
// to the set: that is on a node of its own, or of a wrong type.
func (b *Broker) outlives(err error) bool {
	return conn.IsWrongType(err) || b.clients.Cluster && conn.IsUnreachable(err)
}
