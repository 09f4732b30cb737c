package redis_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// openURL opens a broker that has its servers to itself.
func openURL(t testing.TB, url string, cfg redis.Config) *redis.Broker {
	t.Helper()
	b, err := redis.Open(t.Context(), url, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// someQueues are enough to have some on every node of a cluster.
func someQueues(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("queue-%d", i)
	}
	return list
}

// slotOf is the hash slot of a queue's keys.
func slotOf(c *redistest.Cluster, queue string) int { return c.Slot("{" + queue + "}") }

// TestClusterOfSixNodes runs the tests that leave the cluster whole.
func TestClusterOfSixNodes(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	for name, test := range map[string]func(*testing.T, *redistest.Cluster){
		"hostile names touch no two slots":     testHostileNamesOnACluster,
		"a user needs few rights":              testFewRightsOnACluster,
		"failovers in agreement lose nothing":  testFailoversInAgreement,
		"a hash slot that moves loses nothing": testMovedSlot,
	} {
		t.Run(name, func(t *testing.T) { test(t, c) })
	}
}

// testFailoversInAgreement has replicas take over their masters under load, one
// after the other.
func testFailoversInAgreement(t *testing.T, c *redistest.Cluster) {
	b := openURL(t, c.URL(), redis.Config{Prefix: prefix(t)})
	queues := someQueues(6)
	l := startLoad(t, b, queues...)
	l.goesOn(100)
	for i := range 5 {
		queue := queues[i]
		start := time.Now()
		c.Failover(slotOf(c, queue))
		over := time.Since(start)
		again := l.goesOn(20, queue)
		t.Logf("failover in %v, work goes on %v after it", over, again)
		require.Less(t, again, resumed)
	}
	l.drain()
	l.requireWhole()
	requireNothingInFlight(t, c.Nodes, prefix(t))
}

// requireNothingInFlight checks that no batch is left on any server.
func requireNothingInFlight(t *testing.T, servers []*redistest.Server, prefix string) {
	t.Helper()
	for _, server := range servers {
		for _, key := range keysOf(t, raw(t, server), prefix) {
			for _, part := range []string{"}:f:", "}:d:", "}:inflight"} {
				require.NotContains(t, key, part, "left on %s", server.Addr())
			}
		}
	}
}

// testMovedSlot moves a queue to other nodes while consumers work on it. In between each
// node has half of its keys.
func testMovedSlot(t *testing.T, c *redistest.Cluster) {
	b := openURL(t, c.URL(), redis.Config{Prefix: prefix(t), Timeout: time.Second})
	queues := someQueues(4)
	slot := slotOf(c, queues[0])
	l := startLoad(t, b, queues...)
	const third = 16384/3 + 1 // hash slots a node
	home, next, last := c.Owner(slot), c.Owner((slot+third)%16384), c.Owner((slot+2*third)%16384)
	for _, to := range []*redistest.Server{next, last, home} {
		l.goesOn(50, queues[0])
		start := time.Now()
		c.MoveSlot(slot, to, func() {
			// Commands with keys of both nodes are refused until the move is over.
			failed, accepted := l.failed(), l.sum(l.accepted, queues[0])
			require.Eventually(t, func() bool {
				return l.failed() > failed || l.sum(l.accepted, queues[0]) > accepted+50
			}, resumed, time.Millisecond)
		})
		over := time.Since(start)
		again := l.goesOn(20, queues[0])
		t.Logf("moved in %v, work goes on %v after it", over, again)
		require.Less(t, again, resumed)
	}
	l.drain()
	l.requireWhole()
	requireNothingInFlight(t, c.Nodes, prefix(t))
}

// testHostileNamesOnACluster calls everything with names that mean something in keys.
func testHostileNamesOnACluster(t *testing.T, c *redistest.Cluster) {
	b := openURL(t, c.URL(), redis.Config{Prefix: prefix(t)})
	names := []string{
		"a:b", "a%3Ab", "{", "}", "{}", "}{", "{}a", "{a}", "{a}b", "a}:io:1", "%", "%7B", "*", "?", "[a-z]",
		`\`, `"`, "'", "a}:x{a", strings.Repeat("{", broker.MaxName), "{}{b}", "$(id)", "../..", "KEYS[1]", "0", "-1",
	}
	var first, second []*broker.TaskRun
	for _, name := range names {
		for _, id := range []string{"{x}", "}:{y"} {
			r := run(id, name)
			r.OwnID, r.Keep = true, time.Minute
			require.NoError(t, b.QueueTasks(t.Context(), r), name)
		}
		require.NoError(t, b.QueueTick(t.Context(), run("tick", name), time.Unix(1, 0)), name)
	}
	for _, node := range c.Nodes {
		require.NotEmpty(t, keysOf(t, raw(t, node), prefix(t)), "keys on %s", node.Addr())
	}

	s := join(t, b, time.Minute)
	want := broker.Want{Queues: names, IO: 1000}
	for len(first) < 3*len(names) {
		got, err := s.Take(within(t, 5*time.Second), want)
		require.NoError(t, err)
		first = append(first, got...)
	}
	require.NoError(t, s.Renew(t.Context()))
	outcomes := make([]broker.Outcome, len(first))
	for i, r := range first {
		outcomes[i] = broker.Outcome{Run: r, Verdict: []broker.Verdict{broker.Retry, broker.Dead, broker.Succeeded}[i%3]}
	}
	done, err := s.Finish(t.Context(), outcomes...)
	require.NoError(t, err)
	require.Empty(t, done.Fenced)
	_, err = b.Recover(t.Context(), names)
	require.NoError(t, err)
	for len(second) < len(names) {
		got, err := b.GetTaskRuns(within(t, 5*time.Second), names, 1000)
		require.NoError(t, err)
		second = append(second, got...)
	}
	for _, name := range names {
		letters, err := b.DeadLetters(t.Context(), name, 10)
		require.NoError(t, err)
		require.Len(t, letters, 1, name)
		_, err = b.Record(t.Context(), name, "{x}")
		require.NoError(t, err)
		last, err := b.LastTick(t.Context(), name, "task")
		require.NoError(t, err)
		require.Equal(t, time.Unix(1, 0).UTC(), last)
	}
	require.NoError(t, s.Close(t.Context()))
	lengths, err := b.QueueLength(t.Context())
	require.NoError(t, err)
	require.Len(t, lengths, len(names))
}
