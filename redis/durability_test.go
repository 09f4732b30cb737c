package redis_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

func durability(t *testing.T, b *redis.Broker) redis.Durability {
	t.Helper()
	d, err := b.Durability(t.Context())
	require.NoError(t, err)
	return d
}

func TestDurability(t *testing.T) {
	s := redistest.Start(t)
	b := openURL(t, s.URL()+"?durable=required", redis.Config{})
	d := durability(t, b)
	require.Equal(t, redis.AppendOnly, d.Persistence)
	require.Equal(t, "redis "+d.Version+": append-only file, appendfsync everysec, noeviction, no replica", d.String())
	require.True(t, d.Durable())

	set := func(name, value string) {
		_, err := s.Do("CONFIG", "SET", name, value)
		require.NoError(t, err)
	}
	set("appendfsync", "always")
	require.Equal(t, "always", durability(t, b).Fsync)
	set("maxmemory-policy", "allkeys-lru")
	d = durability(t, b)
	require.False(t, d.Durable(), "changed at run time")
	require.Contains(t, d.String(), "allkeys-lru")
	_, err := redis.Open(t.Context(), s.URL(), redis.Config{})
	require.ErrorContains(t, err, "maxmemory-policy is \"allkeys-lru\"")
	set("maxmemory-policy", "noeviction")

	set("appendonly", "no")
	for save, want := range map[string]redis.Persistence{"60 1": redis.Snapshots, "": redis.NoPersistence} {
		set("save", save)
		d = durability(t, b)
		require.Equal(t, want, d.Persistence)
		require.False(t, d.Durable())
		require.Contains(t, d.String(), want.String()+", noeviction")
		_, err = redis.Open(t.Context(), s.URL(), redis.Config{RequireDurable: true})
		require.ErrorContains(t, err, "no append-only file, so a crash loses accepted runs, and Config.RequireDurable is set; "+
			"CONFIG SET appendonly yes")
		_, err = redis.Open(t.Context(), s.URL()+"?durable=required", redis.Config{})
		require.ErrorContains(t, err, "Config.RequireDurable is set")
		_, err = redis.Open(t.Context(), s.URL()+"?durable=perhaps", redis.Config{})
		require.ErrorContains(t, err, `option durable: "perhaps" is not required; write durable=required`)
		openURL(t, s.URL(), redis.Config{})
	}
}

func TestDurabilityCountsReplicas(t *testing.T) {
	t.Parallel()
	master, _ := startPair(t)
	d := durability(t, openURL(t, master.URL(), redis.Config{}))
	require.Equal(t, 1, d.Replicas)
	require.Contains(t, d.String(), ", 1 replica")
}

// TestDurabilityToAUserOfFewRights names what is unknown without a right.
func TestDurabilityToAUserOfFewRights(t *testing.T) {
	s := redistest.Start(t)
	allow(t, s)
	url := "redis://app:pass@" + s.Addr()
	b := openURL(t, url, redis.Config{Prefix: "app", RequireDurable: true})
	require.Contains(t, durability(t, b).String(), "append-only file, appendfsync unknown (CONFIG GET is not permitted)")
	_, err := s.Do("CONFIG", "SET", "appendonly", "no")
	require.NoError(t, err)
	require.Contains(t, durability(t, b).String(), "perhaps snapshots (CONFIG GET is not permitted)")

	allow(t, s, "-info")
	_, err = b.Durability(t.Context())
	require.ErrorContains(t, err, "NOPERM")
	_, err = redis.Open(t.Context(), url, redis.Config{Prefix: "app"})
	require.ErrorContains(t, err, "the user has no right to INFO")
	require.ErrorContains(t, err, "ACL SETUSER … +info")
}

// testDurabilityOfACluster is that of its weakest master.
func testDurabilityOfACluster(t *testing.T, c *redistest.Cluster) {
	b := openURL(t, c.URL(), redis.Config{Prefix: prefix(t), RequireDurable: true})
	d := durability(t, b)
	require.True(t, d.Durable())
	require.Equal(t, 1, d.Replicas)
	weak := c.Owner(slotOf(c, "q"))
	_, err := weak.Do("CONFIG", "SET", "appendonly", "no")
	require.NoError(t, err)
	d = durability(t, b)
	require.False(t, d.Durable())
	require.Equal(t, weak.Addr(), d.Server)
	_, err = redis.Open(t.Context(), c.URL(), redis.Config{RequireDurable: true})
	require.ErrorContains(t, err, "check server "+weak.Addr()+": it has no append-only file")
	_, err = weak.Do("CONFIG", "SET", "appendonly", "yes")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return durability(t, b).Durable() }, 10*time.Second, 20*time.Millisecond)
}
