package redis_test

import (
	"crypto/tls"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokertest"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// TestContractAsDeployed holds the broker to its contract on Redis as it is run: one
// server and a cluster, TLS, a unix socket, a user of few rights, a client of the caller's
// own. These take turns in one suite, check by check. The soak runs a whole suite on each
// of one server and a cluster, and on one server for a user with all rights and on what
// sentinels watch: once they are connected the latter are a server as any other, and other
// tests connect to them.
func TestContractAsDeployed(t *testing.T) {
	t.Parallel()
	if os.Getenv("TASKGEN_SOAK") == "" {
		holdToContract(t, "one server and a cluster in turn", func(t *testing.T) []opener {
			server, cluster := ofFewRights(t), ofACluster(t)
			return []opener{server[0], cluster[0], server[1], cluster[1], server[2]}
		})
		return
	}
	var suites sync.WaitGroup // a suite waits most of its time
	suites.Go(func() {
		holdToContract(t, "a user of few rights by a URL, by a unix socket and by a client with TLS", ofFewRights)
	})
	suites.Go(func() {
		holdToContract(t, "a cluster by its URL and by a client", ofACluster)
	})
	suites.Go(func() {
		holdToContract(t, "all rights", func(t *testing.T) []opener {
			return []opener{byURL(redistest.Start(t).URL())}
		})
	})
	suites.Go(func() {
		holdToContract(t, "sentinels", func(t *testing.T) []opener {
			s := redistest.StartSentinel(t)
			s.Trust(time.Minute)
			return []opener{byURL(s.URL())}
		})
	})
	suites.Wait()
}

// ofFewRights starts a server and opens brokers by a URL, by a unix socket and by a client
// with TLS, each as a user that has no more rights than a broker needs.
func ofFewRights(t *testing.T) []opener {
	s := redistest.StartTLS(t)
	allow(t, s.Server)
	allowUser(t, s.Server, "auditor", auditRights...)
	allowUser(t, s.Server, "server", riskRights...)
	t.Cleanup(func() { requireNothingRefused(t, s.Server) })
	user := func(t *testing.T) string {
		switch {
		case strings.Contains(t.Name(), "/Auditor/"):
			return "auditor"
		case strings.Contains(t.Name(), "/RiskReporter/"):
			return "server"
		}
		return "app"
	}
	return []opener{
		func(t *testing.T) *redis.Broker { return byURL("redis://" + user(t) + ":pass@" + s.Addr())(t) },
		func(t *testing.T) *redis.Broker { return byURL("unix://" + user(t) + ":pass@" + s.Socket())(t) },
		func(t *testing.T) *redis.Broker {
			return byClient(func() goredis.UniversalClient {
				return goredis.NewClient(&goredis.Options{
					Addr: s.TLSAddr(), TLSConfig: &tls.Config{RootCAs: s.Roots}, Username: user(t), Password: "pass",
				})
			})(t)
		},
	}
}

// ofACluster starts a cluster and opens brokers by its URL and by a client.
func ofACluster(t *testing.T) []opener {
	c := redistest.StartCluster(t)
	for _, node := range c.Nodes { // a busy machine is no failover
		_, err := node.Do("CONFIG", "SET", "cluster-node-timeout", "60000")
		require.NoError(t, err)
	}
	return []opener{
		byURL(c.URL()),
		byClient(func() goredis.UniversalClient {
			return goredis.NewClusterClient(&goredis.ClusterOptions{Addrs: c.Addrs()})
		}),
	}
}

// holdToContract runs the suite as a subtest, with brokers opened in turn.
func holdToContract(t *testing.T, name string, connect func(t *testing.T) []opener) {
	t.Run(name, func(t *testing.T) {
		ways, turn := connect(t), 0
		brokertest.Run(t, func(t *testing.T) broker.Broker {
			turn++
			return ways[turn%len(ways)](t)
		})
	})
}

// opener opens a broker with keys of the test's own.
type opener func(t *testing.T) *redis.Broker

func byURL(url string) opener {
	return func(t *testing.T) *redis.Broker {
		return openURL(t, url, redis.Config{Prefix: "app:" + prefix(t), Timeout: patience})
	}
}

func byClient(client func() goredis.UniversalClient) opener {
	return func(t *testing.T) *redis.Broker {
		return openClient(t, client(), redis.Config{Prefix: "app:" + prefix(t), Timeout: patience})
	}
}

// openClient opens a broker like a client, which it closes before the broker:
// that has connections of its own.
// patience is for a thousand calls at once that each need a connection, which
// sentinels are asked about, on a busy machine.
const patience = 15 * time.Second

func openClient(t testing.TB, client goredis.UniversalClient, cfg redis.Config) *redis.Broker {
	t.Helper()
	b, err := redis.New(client, cfg)
	require.NoError(t, err)
	require.NoError(t, client.Close())
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// rights is all that a broker's user needs whose prefix begins with "app:": the commands
// that the broker sends, and those that its scripts call. A database other than 0 needs
// select too.
var rights = strings.Fields(`
	resetchannels resetkeys ~app:* -@all
	+evalsha +eval
	+get +getrange +set +mset +multi +exec +setrange +del +exists +pexpire +pttl +persist +type +rename
	+rpush +lpush +lpop +lrange +llen +ltrim +lrem +lmove +bzmpop +blmpop
	+sadd +srem +smembers +scard +sscan +sismember
	+hset +hstrlen +hsetnx +hget +hmget +hdel +hgetall +hlen +hscan +hexists +hkeys +hincrby
	+zadd +zrem +zcard +zcount +zscore +zrange +zrangebyscore +zrangebylex +zlexcount +zremrangebyrank
	+setbit +getbit +bitcount +incrby +mget +scan +lset
	+time +ping +info
	+zscan +lpos +lindex`)

// clusterRights is what the user needs in addition on each node of a cluster.
var clusterRights = []string{"+cluster|slots", "+asking"}

// allow makes a user "app" of a server who has these rights and no other.
func allow(t testing.TB, server *redistest.Server, more ...string) {
	t.Helper()
	allowUser(t, server, "app", more...)
}

// auditRights are those that an audit needs in addition.
var auditRights = []string{"+scan", "+type", "+getrange", "+zscan", "+hscan", "+sismember", "+lrem", "+lpos", "+lindex"}

// riskRights are those that the command serve needs in addition, to log the server's risks.
var riskRights = []string{"+config|get"}

// allowUser makes a user with the same rights.
func allowUser(t testing.TB, server *redistest.Server, user string, more ...string) {
	t.Helper()
	command := slices.Concat([]string{"ACL", "SETUSER", user, "reset", "on", ">pass"}, rights, more)
	_, err := server.Do(command...)
	require.NoError(t, err)
}

// requireNothingRefused checks that the server has refused no user anything.
func requireNothingRefused(t *testing.T, servers ...*redistest.Server) {
	t.Helper()
	for _, server := range servers {
		refused, err := server.Do("ACL", "LOG")
		require.NoError(t, err)
		require.Empty(t, refused, "what %s refused", server.Addr())
	}
}

// TestFewRights does all there is as a user of few rights.
func TestFewRights(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	allow(t, s)
	url := "redis://app:pass@" + s.Addr()
	useAll(t, openURL(t, url, redis.Config{Prefix: "app"}), someQueues(3))
	requireNothingRefused(t, s)

	err := openURL(t, url, redis.Config{Prefix: "other"}).QueueTasks(t.Context(), run("one", "q"))
	require.ErrorContains(t, err, "NOPERM", "keys of another prefix")
	require.NotErrorIs(t, err, broker.ErrOutcomeUnknown)
}

// testFewRightsOnACluster is TestFewRights on a cluster.
func testFewRightsOnACluster(t *testing.T, c *redistest.Cluster) {
	for _, node := range c.Nodes {
		allow(t, node, clusterRights...)
	}
	url := strings.Replace(c.URL(), "//", "//app:pass@", 1)
	useAll(t, openURL(t, url, redis.Config{Prefix: "app"}), someQueues(6))
	requireNothingRefused(t, c.Nodes...)
}

// useAll calls every method of a broker, with runs of every kind of end.
func useAll(t *testing.T, b *redis.Broker, queues []string) {
	t.Helper()
	s, late := join(t, b, time.Minute), join(t, b, time.Millisecond)
	for _, queue := range queues {
		list := runs(queue, 10)
		for i, r := range list {
			r.OwnID, r.Keep = i%2 == 0, time.Duration(i%3)*time.Minute
			r.Delay = time.Duration(i%2) * time.Millisecond
			if i%3 == 1 {
				r.Rules = &broker.Rules{Unique: r.ID, UniqueFor: time.Duration(i%4) * time.Hour}
				r.EnsureRules().Limits = []broker.Limit{{Key: "running", Max: 3}, {Key: "rate", Max: 100, Per: time.Minute}}
				r.EnsureRules().Fair = []string{"", "value"}[i%2]
			}
		}
		require.NoError(t, b.QueueTasks(t.Context(), list...))
		require.NoError(t, b.QueueTasks(t.Context(), run("plain", queue)))
		require.ErrorIs(t, b.QueueTasks(t.Context(), list[0]), broker.ErrDuplicate)
		require.NoError(t, b.QueueTick(t.Context(), run("tick", queue), time.Unix(1, 0)))
		last, err := b.LastTick(t.Context(), queue, "task")
		require.NoError(t, err)
		require.Equal(t, time.Unix(1, 0).UTC(), last)
		_, err = b.BeginTicks(t.Context(), queue, "another", last)
		require.NoError(t, err)

		_, err = late.Take(within(t, 5*time.Second), broker.Want{Queues: []string{queue}, IO: 2})
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			recovered, err := b.Recover(t.Context(), queues)
			require.NoError(t, err)
			return recovered.Runs == 2
		}, 5*time.Second, 5*time.Millisecond)
		require.ErrorIs(t, late.Renew(t.Context()), broker.ErrLeaseLost)
	}
	ended := 0
	for ended < 12*len(queues) {
		got, err := s.Take(within(t, 5*time.Second), broker.Want{Queues: queues, IO: 10, CPU: 1})
		require.NoError(t, err)
		require.NoError(t, s.Renew(t.Context()))
		outcomes := make([]broker.Outcome, len(got))
		for i, r := range got {
			verdict := []broker.Verdict{broker.Succeeded, broker.Dead, broker.Dropped, broker.Retry}[i%4]
			outcomes[i] = broker.Outcome{Run: r, Verdict: verdict, Delay: time.Duration(i%8) * time.Millisecond / 4}
			if verdict != broker.Retry {
				ended++
			}
		}
		done, err := s.Finish(t.Context(), outcomes...)
		require.NoError(t, err)
		require.Empty(t, done.Fenced)
	}
	for _, queue := range queues {
		useControls(t, b, queue)
		_, err := b.DeadLetters(t.Context(), queue, 10)
		require.NoError(t, err)
		_, err = b.WaitRecord(within(t, 5*time.Second), queue, "run-1")
		require.NoError(t, err)
	}
	require.NoError(t, b.QueueTasks(t.Context(), run("last", queues[0])))
	_, err := b.GetTaskRuns(within(t, 5*time.Second), queues, 10)
	require.NoError(t, err)
	require.NoError(t, b.QueueTasks(t.Context(), runs(queues[1], 3)...))
	_, err = s.Take(within(t, 5*time.Second), broker.Want{Queues: queues, IO: 10})
	require.NoError(t, err)
	require.NoError(t, s.Close(t.Context()))
	lengths, err := b.QueueLength(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 3, lengths[queues[1]])
}

// useControls calls all that reads a queue and operates it.
func useControls(t *testing.T, b *redis.Broker, queue string) {
	t.Helper()
	s := join(t, b, time.Minute)
	require.NoError(t, b.Pause(t.Context(), queue, true))
	require.NoError(t, b.Pause(t.Context(), queue, false))
	e := &broker.Schedule{ID: "entry", Spec: "@daily", Run: run("entry", queue)}
	require.NoError(t, b.PutSchedule(t.Context(), e))
	require.NoError(t, b.PutSchedule(t.Context(), e))
	_, err := b.Schedules(t.Context())
	require.NoError(t, err)
	_, err = b.ScheduleChanges(t.Context())
	require.NoError(t, err)
	require.NoError(t, b.DeleteSchedule(t.Context(), queue, "entry"))
	require.NoError(t, b.Disable(t.Context(), queue, "other", true))
	require.NoError(t, b.QueueTasks(t.Context(), runOf("other", "disabled", queue)))
	takesNothing(t, s, queue)
	for _, state := range []broker.State{
		broker.StateQueued, broker.StateDelayed, broker.StateRunning, broker.StateSucceeded, broker.StateFailed,
	} {
		_, err := b.Runs(t.Context(), queue, state, 10)
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, queueInfo(t, b, queue).Queued)
	require.NoError(t, b.Disable(t.Context(), queue, "other", false))
	got := takeAll(t, s, queue, 1)
	_, err = s.Finish(t.Context(), succeeded(got)...)
	require.NoError(t, err)
}

// TestTLSByURL has a server whose certificate nobody vouches for.
func TestTLSByURL(t *testing.T) {
	t.Parallel()
	s := redistest.StartTLS(t)
	allow(t, s.Server)
	url := func(password string) string { return "rediss://app:" + password + "@" + s.TLSAddr() }
	_, err := redis.Open(t.Context(), url("s3cr3t"), redis.Config{Prefix: "app"})
	require.ErrorContains(t, err, "certificate signed by unknown authority")
	require.NotContains(t, err.Error(), "s3cr3t")
	b := openURL(t, url("pass")+"?skip_verify=true", redis.Config{Prefix: "app"})
	require.NoError(t, b.QueueTasks(t.Context(), run("one", "q")))
	_, err = redis.Open(t.Context(), "redis://"+s.TLSAddr(), redis.Config{})
	require.ErrorContains(t, err, "ping server", "without TLS")
}
