package redis

import (
	"context"

	"github.com/taskgen/taskgen/redis/internal/conn"
)

// eachQueue calls f for each queue, and returns the error of each. On a cluster it calls f
// for the queues of different nodes at the same time. Once a node cannot be reached, it
// skips the node's other queues: a node that is down costs the queues of other nodes
// nothing, and its own the time of one try.
func (b *Broker) eachQueue(ctx context.Context, queues []*queue, f func(i int, q *queue) error) []error {
	errs := make([]error, len(queues))
	each(b.byNode(ctx, queues), func(_ int, group []int) {
		for at, i := range group {
			errs[i] = f(i, queues[i])
			if !conn.IsUnreachable(errs[i]) && ctx.Err() == nil {
				continue
			}
			for _, rest := range group[at+1:] {
				if errs[rest] = errs[i]; errs[rest] == nil {
					errs[rest] = ctx.Err()
				}
			}
			return
		}
	})
	return errs
}

// queuesNamed returns the queues of the names.
func (b *Broker) queuesNamed(names []string) ([]*queue, error) {
	queues := make([]*queue, len(names))
	for i, name := range names {
		q, err := b.queue(name)
		if err != nil {
			return nil, err
		}
		queues[i] = q
	}
	return queues, nil
}

// pick returns the queues with the given indexes.
func pick(queues []*queue, indexes []int) []*queue {
	picked := make([]*queue, len(indexes))
	for n, i := range indexes {
		picked[n] = queues[i]
	}
	return picked
}

// byNode groups queues, by their indexes, by the node that has them.
func (b *Broker) byNode(ctx context.Context, queues []*queue) [][]int {
	return b.clients.ByNode(ctx, len(queues), func(i int) string { return queues[i].InFlight })
}

// nodeOf returns the commands of the server that has the queue.
func (b *Broker) nodeOf(ctx context.Context, q *queue) (conn.Commands, error) {
	return b.clients.NodeOf(ctx, q.InFlight)
}
