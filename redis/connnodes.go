package redis

import (
	"context"
	"errors"

	goredis "github.com/redis/go-redis/v9"
)

// byNode parts n keys, by their indexes, by the node that has them.
func (c *clients) byNode(ctx context.Context, n int, key func(i int) string) [][]int {
	cluster, ok := c.work.UniversalClient.(*goredis.ClusterClient)
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
				return "", err // those of no known node are one group
			}
			return node.Options().Addr, nil
		}
		var addr string
		if i == 0 { // the client may have to ask for the slots first
			addr, _ = promptly(ctx, c, ask)
		} else {
			addr, _ = ask(lenient{ctx})
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

// nodeOf returns the client of the server that has a key.
func (c *clients) nodeOf(ctx context.Context, key string) (*goredis.Client, error) {
	switch client := c.work.UniversalClient.(type) {
	case *goredis.Client:
		return client, nil
	case *goredis.ClusterClient:
		return promptly(ctx, c, func(ctx context.Context) (*goredis.Client, error) { return client.MasterForKey(ctx, key) })
	}
	return nil, errors.New("the client is of no kind that is known")
}
