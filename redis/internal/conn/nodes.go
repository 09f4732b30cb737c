package conn

import (
	"context"
	"errors"

	goredis "github.com/redis/go-redis/v9"
)

// ByNode groups n keys, by their indexes, by the node that has them.
func (c *Clients) ByNode(ctx context.Context, n int, key func(i int) string) [][]int {
	cluster, ok := c.Work.UniversalClient.(*goredis.ClusterClient)
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

// NodeOf returns the client of the server that has a key.
func (c *Clients) NodeOf(ctx context.Context, key string) (*goredis.Client, error) {
	switch client := c.Work.UniversalClient.(type) {
	case *goredis.Client:
		return client, nil
	case *goredis.ClusterClient:
		return WithGrace(ctx, c, func(ctx context.Context) (*goredis.Client, error) { return client.MasterForKey(ctx, key) })
	}
	return nil, errors.New("the client is of no kind that is known")
}
