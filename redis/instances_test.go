package redis_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis"
)

func instance(id string) *broker.Instance {
	return &broker.Instance{
		ID: id, Role: broker.RoleConsumer, Host: "host", PID: 42, Version: "v1.2.3", Started: time.Unix(1_700_000_000, 5).UTC(), Stopping: true,
		Queues: map[string]int{"q": 3, "other": 1}, More: 2, Address: "10.0.0.7:8080", Session: "session", Children: 4,
		Slots: [2]broker.Slots{{Total: 10, Busy: 3}, {Total: 2, Busy: 1}},
	}
}

// TestInstancesExpireByTheServersClock sets back when some were seen, and what else can be wrong
// with one.
func TestInstancesExpireByTheServersClock(t *testing.T) {
	t.Parallel()
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	key := prefix(t) + ":instances"
	require.NoError(t, b.Announce(t.Context(), instance("a")))
	stored := c.HGet(t.Context(), key, "a").Val()
	at := func(ms int64) string { return fmt.Sprintf("%013d", ms) + stored[13:] }
	now := c.Time(t.Context()).Val().UnixMilli()
	require.NoError(t, c.HSet(t.Context(), key,
		"old", at(now-31_000), "ahead", at(now+600_000), "late", at(now-20_000),
		"cut", stored[:len(stored)-1], "empty", "", "no time", "x"+stored[1:], "an id", stored, "long", stored+strings.Repeat("x", 1<<20),
	).Err())
	found, err := b.Instances(t.Context())
	require.NoError(t, err)
	require.Len(t, found, 2)
	for i, id := range []string{"a", "late"} {
		want := instance(id)
		want.Seen = found[i].Seen
		require.Equal(t, want, found[i])
	}
	require.WithinRange(t, found[0].Seen, time.UnixMilli(now-1000), time.UnixMilli(now))
	require.Equal(t, time.UnixMilli(now-20_000).UTC(), found[1].Seen)

	// Announcements remove what has expired, however it got there.
	require.Eventually(t, func() bool {
		require.NoError(t, b.Announce(t.Context(), instance("a")))
		left := c.HKeys(t.Context(), key).Val()
		return !strings.Contains(strings.Join(left, ","), "old") && !strings.Contains(strings.Join(left, ","), "ahead")
	}, 10*time.Second, time.Millisecond)
	require.InDelta(t, broker.InstanceKept.Seconds(), c.TTL(t.Context(), key).Val().Seconds(), 5)

	require.NoError(t, b.Withdraw(t.Context(), "a"))
	require.NoError(t, b.Withdraw(t.Context(), "a"), "again")
	found, err = b.Instances(t.Context())
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, "late", found[0].ID)
}

// TestManyInstancesAreRead reads more than one page, in the order of hosts and processes.
func TestManyInstancesAreRead(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	const n = 130
	for i := range n {
		one := instance(fmt.Sprintf("id-%d", i))
		one.Host, one.PID = fmt.Sprintf("host-%d", i%3), i
		if i == 7 {
			for q := range 2 * broker.MaxInstanceQueues {
				one.Queues[fmt.Sprintf("%04d-%s", q, strings.Repeat("q", broker.MaxName-5))] = 1 << 40
			}
		}
		require.NoError(t, b.Announce(t.Context(), one))
	}
	found, err := b.Instances(t.Context())
	require.NoError(t, err)
	require.Len(t, found, n)
	for i := 1; i < n; i++ {
		a, b := found[i-1], found[i]
		require.True(t, a.Host < b.Host || a.Host == b.Host && a.PID < b.PID, "%s %d before %s %d", a.Host, a.PID, b.Host, b.PID)
		if b.PID == 7 {
			require.Len(t, b.Queues, broker.MaxInstanceQueues)
			require.Equal(t, broker.MaxInstanceQueues+2+2, b.More)
		}
	}
	require.Error(t, b.Announce(t.Context(), &broker.Instance{ID: "two words", Role: broker.RoleConsumer}))
}

// TestInstancesOnAKeyOfAWrongType names the key.
func TestInstancesOnAKeyOfAWrongType(t *testing.T) {
	t.Parallel()
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	require.NoError(t, c.Set(t.Context(), prefix(t)+":instances", "x", 0).Err())
	_, err := b.Instances(t.Context())
	require.ErrorContains(t, err, prefix(t)+":instances")
	require.ErrorContains(t, b.Announce(t.Context(), instance("a")), prefix(t)+":instances")
	require.ErrorContains(t, b.Withdraw(t.Context(), "a"), prefix(t)+":instances")
}
