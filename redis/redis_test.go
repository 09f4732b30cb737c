package redis_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	evicting := redistest.Start(t, "--maxmemory-policy", "allkeys-lru")
	locked := redistest.Start(t, "--requirepass", "correct-horse")
	const secret = "s3cr3t"
	for _, c := range []struct {
		name, url string
		cfg       redis.Config
		want      string
	}{
		{"no url", "", redis.Config{}, "parse broker url"},
		{"another scheme", "amqp://user:" + secret + "@host", redis.Config{}, "parse broker url"},
		{"a bad port", "redis://user:" + secret + "@host:port", redis.Config{}, "parse broker url"},
		{"an unescaped password", "redis://user:" + secret + "/" + secret + "@host:1", redis.Config{}, "parse broker url"},
		{"an unescaped percent", "redis://user:%zz" + secret + "@host:1", redis.Config{}, "parse broker url"},
		{"a bad database", "redis://user:" + secret + "@host:1/x" + secret, redis.Config{}, "parse broker url"},
		{"an unknown option", "redis://user:" + secret + "@host:1/?" + secret + "=1", redis.Config{}, "parse broker url"},
		{"a sentinel without master", "redis+sentinel://:" + secret + "@host:1", redis.Config{}, "master_name"},
		{"nobody there", "redis://user:" + secret + "@127.0.0.1:1", redis.Config{}, "ping server"},
		{"a wrong password", "redis://:" + secret + "@" + locked.Addr(), redis.Config{}, "WRONGPASS"},
		{"no password", locked.URL(), redis.Config{}, "NOAUTH"},
		{"a server that evicts", evicting.URL(), redis.Config{}, "maxmemory-policy"},
		{"a prefix with braces", shared.URL(), redis.Config{Prefix: "a{b"}, "Prefix"},
		{"a negative timeout", shared.URL(), redis.Config{Timeout: -1}, "Timeout"},
		{"a negative cap", shared.URL(), redis.Config{MaxDead: -1}, "MaxDead"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := redis.Open(within(t, 5*time.Second), c.url, c.cfg)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), secret)
			require.Nil(t, b)
		})
	}
	b, err := redis.Open(t.Context(), evicting.URL(), redis.Config{AllowEviction: true})
	require.NoError(t, err)
	require.NoError(t, b.Close())
	b, err = redis.Open(t.Context(), "redis://:correct-horse@"+locked.Addr(), redis.Config{})
	require.NoError(t, err)
	require.NoError(t, b.Close())
	b, err = redis.Open(t.Context(), "unix://:correct-horse@"+locked.Dir()+"/redis.sock?db=3", redis.Config{})
	require.NoError(t, err)
	require.NoError(t, b.Close())
}

func TestNewRefusesOtherClients(t *testing.T) {
	ring := goredis.NewRing(&goredis.RingOptions{Addrs: map[string]string{"a": shared.Addr()}})
	defer ring.Close()
	_, err := redis.New(ring, redis.Config{})
	require.ErrorContains(t, err, "*redis.Ring")
}

func TestHostileNames(t *testing.T) {
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	names := []string{
		"a:b", "a%3Ab", "a%3ab", "{", "}", "{}", "}{", "{a}", "a}:io:1", "a", "%", "%7B", "*", "?", "[a-z]",
		`\`, `"`, "'", "a}:x{a", strings.Repeat("{", broker.MaxName), "$(id)", "../..", "KEYS[1]", "0", "-1",
	}
	for _, name := range names {
		r := run("id:"+name, name)
		r.OwnID, r.Keep = true, time.Minute
		require.NoError(t, b.QueueTasks(t.Context(), r), name)
		require.ErrorIs(t, b.QueueTasks(t.Context(), r), broker.ErrDuplicate, name)
	}
	lengths, err := b.QueueLength(t.Context())
	require.NoError(t, err)
	require.Len(t, lengths, len(names))
	s := join(t, b, time.Minute)
	for _, name := range names {
		require.EqualValues(t, 1, lengths[name], name)
		got, err := s.Take(within(t, time.Second), broker.Want{Queues: []string{name}, IO: 10})
		require.NoError(t, err)
		require.Equal(t, []string{"id:" + name}, ids(got))
		_, err = s.Finish(t.Context(), broker.Outcome{Run: got[0], Result: []byte(name)})
		require.NoError(t, err)
		record, err := b.Record(t.Context(), name, "id:"+name)
		require.NoError(t, err)
		require.Equal(t, name, string(record.Result))
	}
	for _, key := range keysOf(t, client, prefix(t)) {
		if key == prefix(t)+":queues" {
			continue
		}
		tag := key[strings.Index(key, "{")+1:]
		tag = tag[:strings.Index(tag, "}")]
		require.NotEmpty(t, tag, key)
		require.NotContains(t, tag, ":", key)
	}
	for _, bad := range []string{"", " ", "a b", "a\x00", "é", "a\r\nb", strings.Repeat("a", broker.MaxName+1)} {
		require.Error(t, b.QueueTasks(t.Context(), run("x", bad)))
		_, err := b.Record(t.Context(), bad, "x")
		require.Error(t, err)
		_, err = s.Take(t.Context(), broker.Want{Queues: []string{bad}, IO: 1})
		require.Error(t, err)
		_, err = b.Recover(t.Context(), []string{bad})
		require.Error(t, err)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	list := runs("q", 40)
	for i, r := range list {
		r.OwnID = i%2 == 0
		if i%3 == 0 {
			r.Keep = time.Millisecond
		}
		if i%5 == 0 {
			r.Delay = time.Millisecond
		}
	}
	require.NoError(t, b.QueueTasks(t.Context(), list...))
	first, err := b.GetTaskRuns(within(t, time.Second), []string{"q"}, 5)
	require.NoError(t, err)
	s := join(t, b, time.Minute)
	left := len(list) - len(first)
	for left > 0 {
		got, err := s.Take(within(t, 5*time.Second), broker.Want{Queues: []string{"q"}, IO: 7})
		require.NoError(t, err)
		for _, r := range got {
			verdict := []broker.Verdict{broker.Succeeded, broker.Dropped, broker.Retry}[rand.N(3)]
			_, err := s.Finish(t.Context(), broker.Outcome{Run: r, Verdict: verdict})
			require.NoError(t, err)
			if verdict != broker.Retry {
				left--
			}
		}
	}
	require.NoError(t, s.Close(t.Context()))
	require.NoError(t, b.Close())
	require.Eventually(t, func() bool {
		keys := slices.DeleteFunc(keysOf(t, client, prefix(t)), func(key string) bool {
			if strings.Contains(key, ":id:") {
				left, err := client.PTTL(t.Context(), key).Result()
				return err == nil && left != -1 && left <= 10*time.Second // of a run that has ended
			}
			return strings.HasSuffix(key, ":queues") || strings.Contains(key, ":wake:") || strings.Contains(key, ":idle:")
		})
		return len(keys) == 0
	}, 5*time.Second, 10*time.Millisecond, "keys: %v", keysOf(t, client, prefix(t)))
}

func TestDeadLettersAreCapped(t *testing.T) {
	b, client := open(t, shared, redis.Config{MaxDead: 3}), raw(t, shared)
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 5)...))
	s := join(t, b, time.Minute)
	for _, r := range takeAll(t, s, "q", 5) {
		_, err := s.Finish(t.Context(), broker.Outcome{Run: r, Verdict: broker.Dead, Failure: &broker.Failure{Kind: broker.FailureFailed, Message: "\xff"}})
		require.NoError(t, err)
	}
	dead, err := b.DeadLetters(t.Context(), "q", 10)
	require.NoError(t, err)
	require.Len(t, dead, 3)
	require.Equal(t, "run-4", dead[0].Run.ID)
	require.Equal(t, broker.Failure{Kind: broker.FailureFailed, Message: "\xff"}, dead[0].Failure)
	require.Equal(t, "2", client.Get(t.Context(), prefix(t)+":{q}:trimmed").Val(), "trimmed dead letters are counted")
}

// TestLeastPrivileges runs the broker as a user that may touch only its prefix
// and is no administrator.
func TestLeastPrivileges(t *testing.T) {
	server := redistest.Start(t)
	admin := raw(t, server)
	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "app", "on", ">pass", "resetchannels",
		"~taskgen:*", "-@all", "+@read", "+@write", "+@scripting", "+@connection", "+info", "+time").Err())
	b, err := redis.Open(t.Context(), "redis://app:pass@"+server.Addr(), redis.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	r := run("one", "q")
	r.OwnID, r.Keep = true, time.Minute
	require.NoError(t, b.QueueTasks(t.Context(), r))
	s := join(t, b, time.Minute)
	got := takeAll(t, s, "q", 1)
	require.NoError(t, s.Renew(t.Context()))
	_, err = s.Finish(t.Context(), succeeded(got)...)
	require.NoError(t, err)
	_, err = b.Recover(t.Context(), []string{"q"})
	require.NoError(t, err)
	_, err = b.WaitRecord(t.Context(), "q", "one")
	require.NoError(t, err)
	require.NoError(t, s.Close(t.Context()))
}

// TestCluster runs the broker on a cluster of one node, which refuses commands with keys
// of several hash slots as any does.
func TestCluster(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--cluster-enabled", "yes")
	require.NoError(t, raw(t, server).ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	var b *redis.Broker
	require.Eventually(t, func() bool {
		var err error
		b, err = redis.Open(t.Context(), "redis+cluster://"+server.Addr(), redis.Config{})
		if err != nil {
			return false
		}
		if err = b.QueueTasks(t.Context(), run("probe", "probe")); err != nil {
			require.NoError(t, b.Close())
		}
		return err == nil
	}, 10*time.Second, 50*time.Millisecond)
	t.Cleanup(func() { require.NoError(t, b.Close()) })

	queues := []string{"a", "{b}", "c:d"}
	s := join(t, b, time.Minute)
	for _, queue := range queues {
		ended := make(chan error, 1)
		go func() {
			got, err := s.Take(within(t, 5*time.Second), broker.Want{Queues: queues, IO: 10})
			if err == nil && got[0].Queue != queue {
				err = fmt.Errorf("taken from %s", got[0].Queue)
			}
			if err == nil {
				_, err = s.Finish(t.Context(), succeeded(got)...)
			}
			ended <- err
		}()
		awaitBlocked(t, raw(t, server), len(queues))
		r := run("one", queue)
		r.OwnID, r.Keep = true, time.Minute
		start := time.Now()
		require.NoError(t, b.QueueTasks(t.Context(), r))
		record, err := b.WaitRecord(within(t, 5*time.Second), queue, "one")
		require.NoError(t, err)
		require.Equal(t, broker.StateSucceeded, record.State)
		require.NoError(t, <-ended)
		require.Less(t, time.Since(start), time.Second)
	}
	// The node of the set of names may have come up after that of the first queue, whose name no
	// further run adds.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		lengths, err := b.QueueLength(t.Context())
		require.NoError(c, err)
		require.EqualValues(c, map[string]int64{"a": 0, "{b}": 0, "c:d": 0, "probe": 1}, lengths)
	}, 15*time.Second, 10*time.Millisecond)
	require.NoError(t, b.QueueTick(t.Context(), run("tick", "a"), time.Unix(1, 0)))
	require.NoError(t, b.QueueTasks(t.Context(), runs("a", 10)...))
	require.NoError(t, s.Close(t.Context()))
	_, err := b.Recover(t.Context(), queues)
	require.NoError(t, err)
}

func TestAPrefixInTheURLKeepsApplicationsApart(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	open := func(url string, cfg redis.Config) *redis.Broker {
		b, err := redis.Open(ctx, url, cfg)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, b.Close()) })
		return b
	}
	name := prefix(t)
	one := open(shared.URL()+"?prefix="+name+"1", redis.Config{})
	two := open(shared.URL()+"?prefix="+name+"2", redis.Config{})
	same := open(shared.URL(), redis.Config{Prefix: name + "1"})
	own := open(shared.URL()+"?prefix="+name+"2", redis.Config{Prefix: name + "1"})
	require.NoError(t, one.QueueTasks(ctx, &broker.TaskRun{ID: "a", Task: "t", Queue: "q"}))
	for b, want := range map[*redis.Broker]int64{one: 1, two: 0, same: 1, own: 1} {
		lengths, err := b.QueueLength(ctx)
		require.NoError(t, err)
		require.Equal(t, want, lengths["q"])
	}
	_, err := redis.Open(ctx, shared.URL()+"?prefix=%7Ba%7D", redis.Config{})
	require.ErrorContains(t, err, "Prefix")
}
