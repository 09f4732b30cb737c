package redis_test

import (
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/redis"
)

// TestServerIsThatOfTheClient: the broker tells middleware where it is.
func TestServerIsThatOfTheClient(t *testing.T) {
	for _, c := range []struct {
		client  goredis.UniversalClient
		address string
		port    int
	}{
		{goredis.NewClient(&goredis.Options{Addr: "redis.example:7000", Username: "u", Password: "p"}), "redis.example", 7000},
		{goredis.NewClient(&goredis.Options{Addr: "[::1]:6379"}), "::1", 6379},
		{goredis.NewClient(&goredis.Options{Network: "unix", Addr: "/run/redis.sock"}), "/run/redis.sock", 0},
		{goredis.NewFailoverClient(&goredis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{"one.example:26379"}}), "", 0},
		{goredis.NewClusterClient(&goredis.ClusterOptions{Addrs: []string{"one.example:7001", "two.example:7002"}}), "one.example", 7001},
	} {
		b, err := redis.New(c.client, redis.Config{})
		require.NoError(t, err)
		t.Cleanup(func() { _ = b.Close(); _ = c.client.Close() })
		address, port := b.Server()
		require.Equal(t, c.address, address)
		require.Equal(t, c.port, port)
	}
}
