package redis_test

import (
	"slices"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// death is how a master dies, and comes back after another has taken over.
type death struct {
	name        string
	goes, comes func(s *redistest.Server)
	// stale: when it comes back it takes itself for the master. In a cluster it first
	// executes what it was sent while it hung, and refuses to serve once it asks the
	// others. With sentinels it serves whom a sentinel that is late sends to it. What it
	// accepts is lost; it is for the server's min-replicas-to-write to forbid that.
	stale bool
}

func deaths() []death {
	return []death{
		{"killed", (*redistest.Server).Kill9, (*redistest.Server).Restart, false},
		{"hung",
			func(s *redistest.Server) { s.Freeze() },
			func(s *redistest.Server) { s.Thaw() }, true},
	}
}

// TestDeadMasterOfAClusterLosesOnlyWhatItHadNotCopied takes a master away under load. Its
// replica takes over with the writes that it has, which are a moment behind the replies.
func TestDeadMasterOfAClusterLosesOnlyWhatItHadNotCopied(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, "--cluster-node-timeout", "2000")
	queues := someQueues(6)
	for _, death := range deaths() {
		t.Run(death.name, func(t *testing.T) {
			c.WaitStable()
			b := openClient(t, goredis.NewClusterClient(&goredis.ClusterOptions{
				// A client that meets nothing but a dead node asks no other who
				// has taken over but at this interval, by default a minute.
				Addrs: c.Addrs(), ClusterStateReloadInterval: time.Second,
			}), redis.Config{Prefix: prefix(t), Timeout: time.Second})
			victim := c.Owner(slotOf(c, queues[0]))
			var hit []string // queues on the victim
			for _, queue := range queues {
				if c.Owner(slotOf(c, queue)) == victim {
					hit = append(hit, queue)
				}
			}
			l := startLoad(t, b, queues...)
			l.goesOn(100, hit...)
			safe := l.copied(victim, hit)
			death.goes(victim)
			died := time.Now()
			took := l.goesOn(20, hit...)
			t.Logf("work goes on %v after the death", took)
			require.Less(t, took, resumed)
			death.comes(victim)
			back := time.Now()
			l.goesOn(20, hit...)
			l.drain()
			l.requireOnlyMissing(safe, hit, func(f *fate) bool {
				return f.began.Before(died) || death.stale && f.began.Before(back) && f.at.After(back)
			})
		})
	}
}

// TestDeadMasterUnderSentinels is the same with sentinels.
func TestDeadMasterUnderSentinels(t *testing.T) {
	t.Parallel()
	for _, death := range deaths() {
		t.Run(death.name, func(t *testing.T) {
			s := redistest.StartSentinel(t)
			b := openURL(t, s.URL(), redis.Config{Prefix: prefix(t), Timeout: time.Second})
			victim := s.Master()
			l := startLoad(t, b, "a", "b")
			l.goesOn(100)
			safe := l.copied(victim, l.queues)
			death.goes(victim)
			died := time.Now()
			took := l.goesOn(20)
			t.Logf("work goes on %v after the death", took)
			require.Less(t, took, resumed)
			require.NotSame(t, victim, s.Master())
			death.comes(victim)
			l.goesOn(20)
			l.drain()
			l.requireOnlyMissing(safe, l.queues, func(f *fate) bool {
				return f.began.Before(died) || death.stale
			})
		})
	}
}

// copied lets the load go on until the server's replica has confirmed all writes of the
// queues up to then. It returns the fates of that time.
func (l *load) copied(server *redistest.Server, queues []string) map[string]fate {
	l.Helper()
	conn := raw(l, server).Conn()
	defer conn.Close()
	ctx := within(l, resumed)
	for {
		safe := map[string]fate{}
		l.mu.Lock()
		for id, f := range l.fates {
			if slices.Contains(queues, f.queue) {
				safe[id] = *f
			}
		}
		l.mu.Unlock()
		// Replication is in order: what was done before this write is copied
		// when it is.
		require.NoError(l, conn.Set(ctx, "copied:{"+queues[0]+"}", "1", time.Minute).Err())
		n, err := conn.Wait(ctx, 1, time.Second).Result()
		require.NoError(l, err)
		if n > 0 {
			return safe
		}
	}
}

// requireOnlyMissing checks that the load lost nothing and repeated nothing but
// of the queues hit, what was not safe yet and a master without a replica may have accepted.
func (l *load) requireOnlyMissing(safe map[string]fate, hit []string, alone func(*fate) bool) {
	l.Helper()
	lost, repeated := l.wrong()
	l.Logf("%d of the accepted runs are lost, %d were finished again", len(lost), len(repeated))
	for _, id := range lost {
		f := l.fates[id]
		require.Contains(l, hit, f.queue, "queue of the lost run %s", id)
		require.False(l, safe[id].accepted, "run %s is lost, but was copied", id)
		require.True(l, alone(f), "run %s is lost, but was queued with the successor: queued from %v to %v, started %d times",
			id, f.began.Format(time.StampMicro), f.at.Format(time.StampMicro), f.starts)
	}
	for _, id := range repeated {
		require.Contains(l, hit, l.fates[id].queue, "queue of the repeated run %s", id)
		require.Zero(l, safe[id].finishes, "run %s was finished again, but its end was copied", id)
	}
}
