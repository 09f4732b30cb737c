// Package contracttest_test holds the Redis broker to the contract of package broker. It is
// apart from package redis, as its checks take turns: so they begin early and run beside that
// package's other tests.
package contracttest_test

import (
	"crypto/tls"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokertest"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestContractAsDeployed holds the broker to its contract on Redis as it is run: one
// server and a cluster, TLS, a unix socket, a user of few rights, a client of the caller's
// own. These take turns in one suite, check by check. The soak runs a whole suite on each
// of one server and a cluster, and on one server for a user with all rights and on what
// sentinels watch: once they are connected the latter are a server as any other, and other
// tests connect to them.
func TestContractAsDeployed(t *testing.T) {
	if os.Getenv("TASKGEN_SOAK") == "" {
		holdToContract(t, "one server and a cluster in turn", func(t *testing.T) []opener {
			server, cluster := ofFewRights(t), ofACluster(t)
			return []opener{server[0], cluster[0], server[1], cluster[1], server[2]}
		})
		return
	}
	// A suite waits most of its time. More than two at once would need more than the second
	// in which a woken take has to return: that is half of what a take polls after.
	var suites sync.WaitGroup
	suites.Go(func() {
		holdToContract(t, "a user of few rights by a URL, by a unix socket and by a client with TLS", ofFewRights)
	})
	suites.Go(func() {
		holdToContract(t, "a cluster by its URL and by a client", ofACluster)
	})
	suites.Wait()
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
	redistest.AllowUser(t, s.Server, "app")
	redistest.AllowUser(t, s.Server, "auditor", redistest.AuditRights()...)
	redistest.AllowUser(t, s.Server, "server", redistest.RiskRights()...)
	t.Cleanup(func() { redistest.RequireNothingRefused(t, s.Server) })
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
			t.Cleanup(func() { require.False(t, t.Skipped(), "the Redis broker has all that a check may need") })
			return ways[turn%len(ways)](t)
		})
	})
}

// opener opens a broker with keys of the test's own.
type opener func(t *testing.T) *redis.Broker

func byURL(url string) opener {
	return func(t *testing.T) *redis.Broker {
		b, err := redis.Open(t.Context(), url, config(t))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, b.Close()) })
		return b
	}
}

func byClient(client func() goredis.UniversalClient) opener {
	return func(t *testing.T) *redis.Broker {
		c := client()
		b, err := redis.New(c, config(t))
		require.NoError(t, err)
		require.NoError(t, c.Close(), "the broker has connections of its own")
		t.Cleanup(func() { require.NoError(t, b.Close()) })
		return b
	}
}

// config has a prefix of the test's own, whose name is unique.
func config(t *testing.T) redis.Config {
	return redis.Config{
		Prefix: "app:test/" + strings.NewReplacer(" ", "_", "{", "(", "}", ")").Replace(t.Name()),
		// For a thousand calls at once that each need a connection, which sentinels are
		// asked about, on a busy machine.
		Timeout: 15 * time.Second,
	}
}
