package conn

import (
	"context"
	"errors"

	goredis "github.com/redis/go-redis/v9"
)

// ByNode groups n keys, by their indexes, by the node that has them.
func (c *Clients) ByNode(ctx context.Context, n int, key func(i int) string) [][]int {
	cluster, ok := c.Work.library.(*goredis.ClusterClient)
	if !ok || n < 2 {
		all := make([]int, n)
		for i := range all {
			all[i] = i
		}
		return [][]int{all}
	}
	addrs := map[string]int{}
	var groups [][]int
	for i := range n {
		ask := func(ctx context.Context) (string, error) {
			node, err := cluster.MasterForKey(ctx, key(i))
			if err != nil {
				return "", err // keys of no known node are one group
			}
			return node.Options().Addr, nil
		}
		var addr string
		if i == 0 { // the client may have to load its hash slots first
			addr, _ = WithGrace(ctx, c, ask)
		} else {
			addr, _ = ask(graceContext{ctx})
		}
		at, known := addrs[addr]
		if !known {
			at = len(groups)
			addrs[addr] = at
			groups = append(groups, nil)
		}
		groups[at] = append(groups[at], i)
	}
	return groups
}

// NodeOf returns the commands of the server that has a key.
func (c *Clients) NodeOf(ctx context.Context, key string) (Commands, error) {
	switch client := c.Work.library.(type) {
	case *goredis.Client:
		return c.Work.Commands, nil
	case *goredis.ClusterClient:
		node, err := WithGrace(ctx, c, func(ctx context.Context) (*goredis.Client, error) { return client.MasterForKey(ctx, key) })
		return Commands{c, node}, err
	}
	return Commands{}, errUnknownClient
}

// EachMaster calls f with the server, or at the same time with each master of a cluster. It
// returns the first error of f.
func (c *Clients) EachMaster(ctx context.Context, f func(ctx context.Context, addr string, node Commands) error) error {
	switch client := c.Work.library.(type) {
	case *goredis.Client:
		return f(ctx, client.Options().Addr, c.Work.Commands)
	case *goredis.ClusterClient:
		return client.ForEachMaster(ctx, func(ctx context.Context, node *goredis.Client) error {
			return f(ctx, node.Options().Addr, Commands{c, node})
		})
	}
	return errUnknownClient
}

var errUnknownClient = errors.New("the client is of no kind that is known")
