package redis

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	goredis "github.com/redis/go-redis/v9"
)

// eachQueue does f for each queue, and returns each one's error. On a cluster the
// queues of different nodes are dealt with at the same time, and once a node cannot be
// reached its other queues are left alone: a node that is down costs the queues of
// the others nothing, and its own the time of one try.
func (b *Broker) eachQueue(ctx context.Context, queues []*queue, f func(i int, q *queue) error) []error {
	errs := make([]error, len(queues))
	eachNode(b.byNode(ctx, queues), func(group []int) {
		for at, i := range group {
			errs[i] = f(i, queues[i])
			if !unreachable(errs[i]) && ctx.Err() == nil {
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

// eachNode does f for each group of queues at the same time, and waits.
func eachNode(groups [][]int, f func(group []int)) {
	if len(groups) == 1 {
		f(groups[0])
		return
	}
	var all sync.WaitGroup
	for _, group := range groups {
		all.Go(func() { f(group) })
	}
	all.Wait()
}

// byNode parts queues, by their indexes, by the node that has them.
func (b *Broker) byNode(ctx context.Context, queues []*queue) [][]int {
	c, ok := b.clients.work.UniversalClient.(*goredis.ClusterClient)
	if !ok || len(queues) < 2 {
		all := make([]int, len(queues))
		for i := range all {
			all[i] = i
		}
		return [][]int{all}
	}
	addrs := map[string]int{}
	var groups [][]int
	for i, q := range queues {
		ask := func(ctx context.Context) (string, error) {
			node, err := c.MasterForKey(ctx, q.Flights)
			if err != nil {
				return "", err // those of no known node are one group
			}
			return node.Options().Addr, nil
		}
		var addr string
		if i == 0 { // the client may have to ask for the slots first
			addr, _ = promptly(ctx, b, ask)
		} else {
			addr, _ = ask(lenient{ctx})
		}
		n, known := addrs[addr]
		if !known {
			n = len(groups)
			addrs[addr] = n
			groups = append(groups, nil)
		}
		groups[n] = append(groups[n], i)
	}
	return groups
}

// unreachable reports whether an error says that a server was not reached, has not
// replied or cannot work, so that the other commands for it fare no better.
func unreachable(err error) bool {
	var network net.Error
	return err != nil && (transient(err) || errors.As(err, &network) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded))
}
