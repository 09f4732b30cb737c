package redis_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// startPair starts a master and a replica that is in step with it.
func startPair(t *testing.T, args ...string) (master, replica *redistest.Server) {
	t.Helper()
	args = append([]string{"--repl-diskless-sync-delay", "0"}, args...)
	master = redistest.Start(t, args...)
	replica = redistest.Start(t, append([]string{"--replicaof", strings.Replace(master.Addr(), ":", " ", 1)}, args...)...)
	t.Cleanup(func() { replica.Thaw() })
	requireConfirmed(t, master)
	return master, replica
}

// requireConfirmed waits until a replica has confirmed all writes of the master so far.
func requireConfirmed(t *testing.T, master *redistest.Server) {
	t.Helper()
	c := raw(t, master).Conn()
	defer c.Close()
	require.Eventually(t, func() bool {
		// The server waits for what this connection has written.
		if c.Set(t.Context(), "written", "1", 0).Err() != nil {
			return false
		}
		n, err := c.Wait(t.Context(), 1, time.Second).Result()
		return err == nil && n > 0
	}, 20*time.Second, 20*time.Millisecond)
}

// lastTick is the last tick that a way has queued: none is queued twice.
var lastTick atomic.Int64

// ways are the ways to queue a run.
func ways(b *redis.Broker) map[string]func(ctx context.Context, id string) error {
	with := func(change func(*broker.TaskRun)) func(context.Context, string) error {
		return func(ctx context.Context, id string) error {
			r := run(id, "q")
			change(r)
			return b.QueueTasks(ctx, r)
		}
	}
	return map[string]func(ctx context.Context, id string) error{
		"plain":    with(func(*broker.TaskRun) {}),
		"large":    with(func(r *broker.TaskRun) { r.Payload = bytes.Repeat([]byte("x"), 20_000) }),
		"own id":   with(func(r *broker.TaskRun) { r.OwnID = true }),
		"recorded": with(func(r *broker.TaskRun) { r.Keep = time.Minute }),
		"delayed":  with(func(r *broker.TaskRun) { r.Delay = time.Hour }),
		"a tick": func(ctx context.Context, id string) error {
			return b.QueueTick(ctx, run(id, "q"), time.Unix(lastTick.Add(1), 0))
		},
	}
}

func TestAcknowledgeByReplica(t *testing.T) {
	t.Parallel()
	master, replica := startPair(t)
	b := open(t, master, redis.Config{Acknowledge: redis.Replica, Timeout: 8 * time.Second})
	for name, queue := range ways(b) {
		t.Run(name, func(t *testing.T) {
			id := func(end string) string { return strings.ReplaceAll(name, " ", "_") + end }
			requireConfirmed(t, master)
			before := length(t, b, "q")
			require.NoError(t, queue(t.Context(), id("-1")))
			require.Equal(t, before+1, storedOn(t, replica), "it is on the replica")

			replica.Freeze()
			start := time.Now()
			err := queue(within(t, 50*time.Millisecond), id("-2"))
			require.ErrorIs(t, err, broker.ErrNotReplicated)
			require.NotErrorIs(t, err, broker.ErrOutcomeUnknown)
			require.Less(t, time.Since(start), 4*time.Second, "the context ends the wait, and not the timeout of 8 s")
			require.Equal(t, before+2, length(t, b, "q"), "it is stored")

			replica.Thaw()
			requireConfirmed(t, master)
			require.NoError(t, queue(t.Context(), id("-3")))
			require.Equal(t, before+3, storedOn(t, replica))
		})
	}
}

// storedOn counts the runs of queue q on a server.
func storedOn(t *testing.T, s *redistest.Server) (n int) {
	t.Helper()
	c := raw(t, s)
	for _, prefix := range prefixes(t, c) {
		n += int(c.LLen(t.Context(), prefix+":{q}:io:1").Val() + c.ZCard(t.Context(), prefix+":{q}:delayed").Val())
	}
	return n
}

func prefixes(t *testing.T, c *goredis.Client) (list []string) {
	t.Helper()
	keys, err := c.Keys(t.Context(), "*:queues").Result()
	require.NoError(t, err)
	for _, key := range keys {
		list = append(list, strings.TrimSuffix(key, ":queues"))
	}
	return list
}

// TestMasterKilledWhileItsReplicaIsStopped loses runs, and none of those that
// were acknowledged.
func TestMasterKilledWhileItsReplicaIsStopped(t *testing.T) {
	t.Parallel()
	master, replica := startPair(t)
	with := func(patience time.Duration) *redis.Broker {
		return openURL(t, master.URL(), redis.Config{Prefix: prefix(t), Acknowledge: redis.Replica, Timeout: patience})
	}
	patient, hasty := with(10*time.Second), with(200*time.Millisecond) // a busy machine takes its time
	outcome := map[string]error{}
	queue := func(b *redis.Broker, phase string) {
		for name, queue := range ways(b) {
			id := strings.ReplaceAll(phase+"-"+name, " ", "_")
			outcome[id] = queue(t.Context(), id)
		}
	}
	queue(patient, "copied")
	replica.Freeze()
	queue(hasty, "stopped")
	master.Kill9()
	queue(hasty, "killed")
	replica.Thaw()
	_, err := replica.Do("REPLICAOF", "NO", "ONE")
	require.NoError(t, err)

	c, lost := raw(t, replica), 0
	ready, err := c.LRange(t.Context(), prefix(t)+":{q}:io:1", 0, -1).Result()
	require.NoError(t, err)
	delayed, err := c.ZRange(t.Context(), prefix(t)+":{q}:delayed", 0, -1).Result()
	require.NoError(t, err)
	copied := strings.Join(append(ready, delayed...), "\n")
	for id, err := range outcome {
		switch phase, _, _ := strings.Cut(id, "-"); phase {
		case "copied":
			require.NoError(t, err, id)
			require.Contains(t, copied, id)
		case "stopped":
			require.ErrorIs(t, err, broker.ErrNotReplicated, id)
		default:
			require.Error(t, err, id)
		}
		if err != nil && !strings.Contains(copied, id) {
			lost++
		}
	}
	require.NotZero(t, lost, "nothing was at stake")
}

// TestTooFewReplicasToWrite has the server refuse the call before it writes anything.
func TestTooFewReplicasToWrite(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--min-replicas-to-write", "1")
	client := goredis.NewClient(&goredis.Options{Addr: s.Addr()})
	_, err := s.Do("CONFIG", "SET", "min-replicas-to-write", "0")
	require.NoError(t, err)
	b := openClient(t, client, redis.Config{Prefix: prefix(t), Timeout: 200 * time.Millisecond})
	require.NoError(t, b.QueueTasks(t.Context(), run("first", "q")))
	_, err = s.Do("CONFIG", "SET", "min-replicas-to-write", "1")
	require.NoError(t, err)
	for name, queue := range ways(b) {
		err := queue(t.Context(), "second")
		require.ErrorIs(t, err, broker.ErrQueueFull, name)
		require.ErrorContains(t, err, "min-replicas-to-write")
		require.NotErrorIs(t, err, broker.ErrOutcomeUnknown)
	}
	require.Equal(t, 1, length(t, b, "q"))
}

// TestRepeatedEnqueueIsConfirmed repeats an enqueue whose reply was lost on a
// connection that has written nothing, while the replica has not got it.
func TestRepeatedEnqueueIsConfirmed(t *testing.T) {
	t.Parallel()
	master, replica := startPair(t)
	l := new(losses)
	client := goredis.NewClient(&goredis.Options{Addr: master.Addr(), Dialer: l.dial})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	b, err := redis.New(client, redis.Config{Prefix: prefix(t), Timeout: time.Second, Acknowledge: redis.Replica})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	own := run("first", "q")
	own.OwnID = true
	require.NoError(t, b.QueueTasks(t.Context(), own))
	for id, stopped := range map[string]bool{"second": true, "third": false} {
		if stopped {
			replica.Freeze()
		}
		own = run(id, "q")
		own.OwnID = true
		l.lose(1, "payload of "+id)
		err := b.QueueTasks(t.Context(), own)
		require.Equal(t, 1, l.count())
		if stopped {
			require.ErrorIs(t, err, broker.ErrNotReplicated)
			require.NotErrorIs(t, err, broker.ErrOutcomeUnknown)
		} else {
			require.NoError(t, err)
		}
		replica.Thaw()
		requireConfirmed(t, master)
	}
	require.Equal(t, 3, length(t, b, "q"))
}

// TestConfirmationThatIsCutOff reads the reply that a run is stored, and loses that to
// WAIT.
func TestConfirmationThatIsCutOff(t *testing.T) {
	clean(t, shared)
	var cut atomic.Bool
	client := goredis.NewClient(&goredis.Options{
		Addr: shared.Addr(),
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, network, addr)
			return &cutConn{Conn: conn, cut: &cut}, err
		},
	})
	b := openClient(t, client, redis.Config{Prefix: prefix(t), Acknowledge: redis.Replica, Timeout: 200 * time.Millisecond})
	require.ErrorIs(t, b.QueueTasks(t.Context(), run("first", "q")), broker.ErrNotReplicated, "there is no replica")
	cut.Store(true)
	err := b.QueueTasks(t.Context(), run("second", "q"))
	require.ErrorIs(t, err, broker.ErrNotReplicated)
	require.ErrorContains(t, err, "no confirmation came")
	own := run("third", "q")
	own.OwnID = true
	require.ErrorIs(t, b.QueueTasks(t.Context(), own), broker.ErrNotReplicated)
	require.Equal(t, 3, length(t, b, "q"), "each is stored once")
}

// cutConn breaks before the reply to WAIT.
type cutConn struct {
	net.Conn
	cut     *atomic.Bool
	waiting atomic.Bool
}

func (c *cutConn) Write(b []byte) (int, error) {
	c.waiting.Store(c.cut.Load() && bytes.Contains(b, []byte("\r\nWAIT\r\n")))
	return c.Conn.Write(b)
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.waiting.Load() {
		// The reply that came at once is to the command before it.
		if c.waiting.Store(false); n == 0 {
			return n, err
		}
		c.Conn.Close()
	}
	return n, err
}

func TestAcknowledgeOfAURL(t *testing.T) {
	t.Parallel()
	clean(t, shared)
	url := shared.URL() + "?prefix=" + prefix(t) + "&acknowledge="
	b := openURL(t, url+"replica", redis.Config{Timeout: 600 * time.Millisecond})
	require.ErrorContains(t, b.QueueTasks(t.Context(), run("one", "q")), "0 of 1 replicas confirmed it within 450ms")
	b = openURL(t, url+"memory", redis.Config{})
	require.NoError(t, b.QueueTasks(t.Context(), run("two", "q")))
	b = openURL(t, url+"memory", redis.Config{Acknowledge: redis.Replica, Replicas: 2, Timeout: 600 * time.Millisecond})
	require.ErrorContains(t, b.QueueTasks(t.Context(), run("three", "q")), "0 of 2 replicas", "cfg comes first")

	_, err := redis.Open(t.Context(), url+"disk", redis.Config{})
	require.ErrorContains(t, err, `option acknowledge: "disk" is not memory, replica or fsync`)
	for want, cfg := range map[string]redis.Config{
		"config Acknowledge: 3 is not":     {Acknowledge: 3},
		"config Replicas: -1 is":           {Replicas: -1, Acknowledge: redis.Replica},
		"config Replicas: 1 are of no use": {Replicas: 1},
	} {
		_, err := redis.Open(t.Context(), shared.URL(), cfg)
		require.ErrorContains(t, err, want)
	}
}

func TestAcknowledgeByAUserOfFewRights(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	allow(t, s)
	cfg := redis.Config{Prefix: "app", Acknowledge: redis.Replica, Timeout: 600 * time.Millisecond}
	b := openURL(t, "redis://app:pass@"+s.Addr(), cfg)
	err := b.QueueTasks(t.Context(), run("one", "q"))
	require.ErrorIs(t, err, broker.ErrNotReplicated)
	require.ErrorContains(t, err, "NOPERM")
	allow(t, s, "+wait")
	require.ErrorContains(t, b.QueueTasks(t.Context(), run("two", "q")), "0 of 1 replicas")
}

func TestAcknowledgeIsRefusedToAClientWithALimiter(t *testing.T) {
	client := goredis.NewClient(&goredis.Options{Addr: shared.Addr(), Limiter: unlimited{}})
	defer client.Close()
	_, err := redis.New(client, redis.Config{Acknowledge: redis.Replica})
	require.ErrorContains(t, err, "config Acknowledge: replica cannot be had with a client that has a Limiter")
	b := openClient(t, client, redis.Config{Prefix: prefix(t)})
	clean(t, shared)
	require.NoError(t, b.QueueTasks(t.Context(), run("one", "q")))
	require.Equal(t, 1, length(t, b, "q"))
}

type unlimited struct{}

func (unlimited) Allow() error       { return nil }
func (unlimited) ReportResult(error) {}

// TestAcknowledgeByFsync uses a server of 7.2 or newer, or is refused by an older one.
func TestAcknowledgeByFsync(t *testing.T) {
	s := redistest.Start(t, "--appendfsync", "no")
	cfg := redis.Config{Prefix: prefix(t), Acknowledge: redis.Fsync, Timeout: 2 * time.Second}
	if version(t, s) < 702 {
		_, err := redis.Open(t.Context(), s.URL(), cfg)
		require.ErrorContains(t, err, "Config.Acknowledge Fsync needs 7.2 or newer; upgrade it, or ask for Replica")
		b := openClient(t, goredis.NewClient(&goredis.Options{Addr: s.Addr()}), cfg)
		require.ErrorIs(t, b.QueueTasks(t.Context(), run("one", "q")), broker.ErrNotReplicated, "New does not ask")
		return
	}
	b := openURL(t, s.URL(), cfg)
	_, err := s.Do("CONFIG", "SET", "appendfsync", "everysec")
	require.NoError(t, err)
	for name, queue := range ways(b) {
		require.NoError(t, queue(t.Context(), strings.ReplaceAll(name, " ", "_")), name)
	}
	more := cfg
	more.Replicas = 1
	require.ErrorContains(t, openURL(t, s.URL(), more).QueueTasks(t.Context(), run("one", "q")), "0 of 1 replicas")
	stored := length(t, b, "q")
	s.Kill9()
	s.Restart()
	require.Equal(t, stored, storedOn(t, s))

	_, err = s.Do("CONFIG", "SET", "appendonly", "no")
	require.NoError(t, err)
	_, err = redis.Open(t.Context(), s.URL(), cfg)
	require.ErrorContains(t, err, "Config.Acknowledge Fsync is set; CONFIG SET appendonly yes")
}

// version is that of a server, 702 for 7.2.
func version(t *testing.T, s *redistest.Server) int {
	t.Helper()
	info, err := raw(t, s).InfoMap(t.Context(), "server").Result()
	require.NoError(t, err)
	var major, minor int
	_, err = fmt.Sscanf(info["Server"]["redis_version"], "%d.%d", &major, &minor)
	require.NoError(t, err)
	return 100*major + minor
}

// requireNoneLost checks that each accepted run was finished.
func (l *load) requireNoneLost() {
	l.Helper()
	lost, repeated := l.wrong()
	require.Empty(l, lost, "accepted, but never started or never finished")
	l.Logf("%d were finished again", len(repeated))
}

// TestDeadMasterOfAClusterLosesNothingThatWasAcknowledged kills a master under load. Its
// replica has all runs of which callers got no error.
func TestDeadMasterOfAClusterLosesNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, "--cluster-node-timeout", "2000")
	t.Run("audit", func(t *testing.T) { testAuditOnACluster(t, c) })
	t.Run("lost groups", func(t *testing.T) { testLostGroupsOnACluster(t, c) })
	t.Run("durability", func(t *testing.T) { testDurabilityOfACluster(t, c) })
	for _, death := range deaths() {
		t.Run(death.name, func(t *testing.T) {
			c.WaitStable()
			b := openURL(t, c.URL(), redis.Config{Prefix: prefix(t), Timeout: time.Second, Acknowledge: redis.Replica})
			queues := someQueues(6)
			victim := c.Owner(slotOf(c, queues[0]))
			l := startLoad(t, b, queues...)
			l.goesOn(100, queues[0])
			death.goes(victim)
			took := l.resumes(queues[0])
			t.Logf("work goes on %v after the death", took)
			require.Less(t, took, resumed)
			death.comes(victim)
			c.WaitStable() // until it has a replica, nothing is acknowledged
			l.goesOn(20, queues[0])
			l.drain()
			l.requireNoneLost()
		})
	}
}

// resumes waits until runs are finished again in a queue whose master is gone:
// nothing is acknowledged while its successor has no replica.
func (l *load) resumes(queue string) time.Duration {
	l.Helper()
	start, before := time.Now(), l.sum(l.finished, queue)
	l.await("work in "+queue+" goes on", func() bool { return l.sum(l.finished, queue) >= before+2 })
	return time.Since(start)
}

// TestDeadMasterUnderSentinelsLosesNothingThatWasAcknowledged is the same with
// sentinels.
func TestDeadMasterUnderSentinelsLosesNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t)
	b := openURL(t, s.URL(), redis.Config{Prefix: prefix(t), Timeout: time.Second, Acknowledge: redis.Replica})
	victim := s.Master()
	l := startLoad(t, b, "a", "b")
	l.goesOn(100)
	victim.Kill9()
	took := l.resumes("a")
	t.Logf("work goes on %v after the death", took)
	require.Less(t, took, resumed)
	victim.Restart()
	l.goesOn(20)
	l.drain()
	l.requireNoneLost()
}
