package redis

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// glances are looks at many queues in one command, which is nearly all that an
// idle process sends: is there anything at all? On a cluster it is one command a
// queue, in one round trip for each node.
type glances struct {
	mu    sync.Mutex
	quiet map[string]time.Time // when nothing at all was in a set of queues
}

// How old a glance may be to spare another: at what waits, and at what is in
// flight, which was taken since and whose lease takes its time to end.
const (
	freshGlance     = time.Second
	freshGlanceBack = longestNap + 200*time.Millisecond
)

// note notes that a take found nothing at all in a queue.
func (g *glances) note(q *queue, at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.quiet[q.name] = at
}

// wasQuiet reports whether nothing at all was in the queues a moment ago.
func (g *glances) wasQuiet(queues []*queue, fresh time.Duration) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, ok := g.quiet[setOf(queues)]
	return ok && time.Since(at) < fresh
}

// waiting returns those of the queues in which a run waits, due or not.
func (b *Broker) waiting(ctx context.Context, queues []*queue) ([]*queue, error) {
	if b.glances.wasQuiet(queues, freshGlance) {
		return nil, nil
	}
	keys := func(q *queue) []string { return append(q.fixed[:7:7], q.lines, q.enabling) }
	if quiet, err := b.noneHas(ctx, queues, keys); quiet || err != nil {
		return nil, err
	}
	return b.having(ctx, queues, keys)
}

// inFlight returns those of the queues of which runs are in flight, or in the
// outbox.
func (b *Broker) inFlight(ctx context.Context, queues []*queue) ([]*queue, error) {
	if len(queues) == 1 && b.glances.wasQuiet(queues, freshGlanceBack) {
		return nil, nil
	}
	// With the runs that wait, as takes will ask for these.
	start := time.Now()
	quiet, err := b.noneHas(ctx, queues, func(q *queue) []string {
		return append(q.fixed[:7:7], q.lines, q.flights, q.outbox, q.parking)
	})
	if err != nil {
		return nil, err
	}
	id := setOf(queues)
	b.glances.mu.Lock()
	if quiet {
		b.glances.quiet[id] = start
	} else {
		delete(b.glances.quiet, id)
	}
	b.glances.mu.Unlock()
	if quiet {
		return nil, nil
	}
	return b.having(ctx, queues, func(q *queue) []string { return []string{q.flights, q.outbox, q.parking} })
}

// noneHas reports whether there is no such key in any of the queues, in one
// command where one can ask.
func (b *Broker) noneHas(ctx context.Context, queues []*queue, keys func(*queue) []string) (bool, error) {
	if b.clients.cluster {
		some, err := b.having(ctx, queues, keys)
		return len(some) == 0, err
	}
	var all []string
	for _, q := range queues {
		all = append(all, keys(q)...)
	}
	var n int64
	err := b.persist(ctx, idempotent, func() (err error) {
		n, err = promptly(ctx, b, func(ctx context.Context) (int64, error) {
			return b.clients.work.Exists(ctx, all...).Result()
		})
		return err
	})
	if err != nil {
		return false, b.fail(ctx, "look into queues", err)
	}
	return n == 0, nil
}

// having returns the queues of which such a key exists.
func (b *Broker) having(ctx context.Context, queues []*queue, keys func(*queue) []string) ([]*queue, error) {
	var found []*queue
	err := b.persist(ctx, idempotent, func() error {
		pipe := b.clients.work.Pipeline()
		counts := make([]*goredis.IntCmd, len(queues))
		for i, q := range queues {
			counts[i] = pipe.Exists(ctx, keys(q)...)
		}
		_, err := promptly(ctx, b, pipe.Exec)
		if err != nil && (!b.clients.cluster || ctx.Err() != nil) {
			return err
		}
		found = nil
		for i, q := range queues {
			// Of a queue that cannot be asked its own commands tell why.
			if err != nil && counts[i].Err() != nil || counts[i].Val() > 0 {
				found = append(found, q)
			}
		}
		return nil
	})
	if err != nil {
		return nil, b.fail(ctx, "look into queues", err)
	}
	return found, nil
}

// setOf names a set of queues, whatever their order.
func setOf(queues []*queue) string {
	names := make([]string, len(queues))
	for i, q := range queues {
		names[i] = q.name
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}
