package redis_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// asNewer is a stored run of another version: of its envelope, or of itself.
func asNewer(stored string, envelope bool, version byte) string {
	b := []byte(stored)
	at := 9 + int(b[8])
	if b[1]&12 != 0 {
		at += 2 + int(b[at])<<8 + int(b[at+1])
	}
	if !envelope {
		at = 0
	}
	b[at] = version
	return string(b)
}

// queueNewer queues a run as a newer version would store it.
func queueNewer(t *testing.T, b *redis.Broker, c *goredis.Client, base string, envelope bool, r *broker.TaskRun) string {
	t.Helper()
	require.NoError(t, b.QueueTasks(t.Context(), r))
	key := base + "io:1"
	list, err := c.LRange(t.Context(), key, -1, -1).Result()
	require.NoError(t, err)
	stored := asNewer(list[0], envelope, 2)
	require.NoError(t, c.LSet(t.Context(), key, -1, stored).Err())
	return stored
}

// rich is a run with all fields set.
func rich(id string) *broker.TaskRun {
	r := ownKept(id, "q")
	r.EnsureRules().Unique = "key"
	r.Rules.Limits = []broker.Limit{{Key: "limit", Max: 1}}
	return r
}

// TestNewerEnvelopeIsLeftToOthers has consumers that cannot read a run pass it on, more
// and more seldom, until one that can takes it as it was queued.
func TestNewerEnvelopeIsLeftToOthers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	allow(t, server)
	b := openURL(t, "redis://app:pass@"+server.Addr(), redis.Config{Prefix: "app:" + prefix(t)})
	c, base := raw(t, server), "app:"+prefix(t)+":{q}:"
	stored := queueNewer(t, b, c, base, true, rich("new"))
	var all sync.WaitGroup
	sessions := []broker.Session{join(t, b, time.Minute), join(t, b, time.Minute), join(t, b, time.Minute)}
	for _, s := range sessions {
		all.Go(func() {
			got, err := s.Take(within(t, 2*time.Second), broker.Want{Queues: []string{"q"}, IO: 10})
			require.Error(t, err)
			require.Empty(t, ids(got))
		})
	}
	all.Wait()
	for _, s := range sessions {
		require.NoError(t, s.Renew(t.Context()), "what its time was too short for is done now")
	}
	stats, err := c.Info(t.Context(), "commandstats").Result()
	require.NoError(t, err)
	calls := regexp.MustCompile(`cmdstat_pttl:calls=(\d+)`).FindStringSubmatch(stats)
	require.NotNil(t, calls)
	n, err := strconv.Atoi(calls[1])
	require.NoError(t, err)
	require.Greater(t, n, 1, "times it was handed out")
	require.Less(t, n, 12, "times it was handed out in two seconds")

	require.Equal(t, []string{stored}, storedAt(t, c, base+"delayed"), "its bytes")
	require.Empty(t, storedAt(t, c, base+"dead"))
	require.Zero(t, c.Exists(t.Context(), base+"running", base+"inflight").Val(), "it counts at no limit")
	require.False(t, record(t, b, "q", "new").State.Ended())
	require.ErrorIs(t, b.QueueTasks(t.Context(), ownKept("new", "q")), broker.ErrDuplicate)
	require.NoError(t, c.Del(t.Context(), base+"delayed").Err())
	require.NoError(t, c.ZAdd(t.Context(), base+"delayed", z(0, asNewer(stored, true, 1))).Err())
	got := takeAll(t, join(t, b, time.Minute), "q", 1)
	require.Equal(t, 1, got[0].Deliveries, "no delivery was counted")
	require.Zero(t, got[0].Attempt)
	redistest.RequireNothingRefused(t, server)
}

// TestNewerEnvelopeForWhichNobodyCame becomes a dead letter, which a newer version
// can queue again.
func TestNewerEnvelopeForWhichNobodyCame(t *testing.T) {
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	base := prefix(t) + ":{q}:"
	stored := queueNewer(t, b, c, base, true, rich("new"))
	require.NoError(t, c.Set(t.Context(), base+"newer:new", "", 59*time.Minute).Err(), "it is known for an hour and a minute")
	s := join(t, b, time.Minute)
	require.Empty(t, takeFor(t, s, 10, 150*time.Millisecond))
	letters, err := b.DeadLetters(t.Context(), "q", 10)
	require.NoError(t, err)
	require.Len(t, letters, 1)
	require.Equal(t, stored, string(letters[0].Raw))
	require.Equal(t, broker.FailureSchema, letters[0].Failure.Kind)
	require.Contains(t, letters[0].Failure.Message, "envelope of version 2")
	require.Contains(t, letters[0].Failure.Message, "dead retry")
	require.Equal(t, broker.StateFailed, record(t, b, "q", "new").State)
	requireRequeuedByANewer(t, b, c, base, letters[0].ID, "new")
}

// TestNewerStoredRun becomes a dead letter at once, because scripts cannot move it.
func TestNewerStoredRun(t *testing.T) {
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	base := prefix(t) + ":{q}:"
	ready := queueNewer(t, b, c, base, false, run("ready", "q"))
	delayed := asNewer(asNewer(ready, false, 1), false, 3)
	require.NoError(t, c.ZAdd(t.Context(), base+"delayed", z(0, delayed)).Err())
	s := join(t, b, time.Minute)
	require.Empty(t, takeFor(t, s, 10, 150*time.Millisecond))
	letters, err := b.DeadLetters(t.Context(), "q", 10)
	require.NoError(t, err)
	require.Len(t, letters, 2)
	for _, letter := range letters {
		require.Contains(t, []string{ready, delayed}, string(letter.Raw))
		require.Contains(t, letter.Failure.Message, "newer version")
		require.Contains(t, letter.Failure.Message, "dead retry")
	}
	require.Equal(t, int64(2), c.LLen(t.Context(), base+"dead").Val())
	require.NoError(t, c.LTrim(t.Context(), base+"dead", 1, 1).Err())
	requireRequeuedByANewer(t, b, c, base, letters[1].ID, "ready")
}

// requireRequeuedByANewer checks that the only dead letter stays if a version that cannot
// read it requeues it. A version that can queues it, which is this one once the bytes are
// of its version.
func requireRequeuedByANewer(t *testing.T, b *redis.Broker, c *goredis.Client, base, letter, id string) {
	t.Helper()
	n, err := b.RequeueDead(t.Context(), "q", letter, id)
	require.NoError(t, err)
	require.Zero(t, n)
	entry := storedAt(t, c, base+"dead")[0]
	at := strings.LastIndex(entry, string([]byte{byte(len(id))})+id) - 8 // where the stored begins
	stored := asNewer(asNewer(entry[at:], false, 1), true, 1)
	require.NoError(t, c.LSet(t.Context(), base+"dead", 0, entry[:at]+stored).Err())
	n, err = b.RequeueDead(t.Context(), "q", id)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	got := takeAll(t, join(t, b, time.Minute), "q", 1)
	require.Equal(t, []string{id}, ids(got))
	require.Equal(t, fmt.Sprint("payload of ", id), string(got[0].Payload))
}

func TestCancelOfARunOfANewerVersion(t *testing.T) {
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	base := prefix(t) + ":{q}:"
	queueNewer(t, b, c, base, true, rich("new"))
	s := join(t, b, time.Minute)
	require.Empty(t, takeFor(t, s, 10, 150*time.Millisecond))
	require.Eventually(t, func() bool { return len(storedAt(t, c, base+"delayed")) == 1 }, 10*time.Second, time.Millisecond, "it is left to others")
	require.NoError(t, b.Cancel(t.Context(), "q", "new", stopped))
	require.Equal(t, &stopped, record(t, b, "q", "new").Failure)
	require.Empty(t, storedAt(t, c, base+"delayed"))
	require.Empty(t, storedAt(t, c, base+"dead"), "its end was asked for")
	require.NoError(t, b.QueueTasks(t.Context(), rich("new")), "its id and its key are free")
	require.Equal(t, []string{"new"}, ids(takeAll(t, s, "q", 1)), "its place at the limit too")
}

func TestAuditLeavesRunsOfANewerVersion(t *testing.T) {
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	queueNewer(t, b, c, prefix(t)+":{q}:", true, rich("new"))
	report, err := b.Audit(t.Context(), "q", true)
	require.NoError(t, err)
	require.Equal(t, maintenance.Report{Repaired: true, Runs: 1}, report)
	require.Equal(t, 1, length(t, b, "q"))
}

// TestMemberThatCannotBeRead ends a member by its dead letter, if the damage leaves its
// number in the group to be read.
func TestMemberThatCannotBeRead(t *testing.T) {
	t.Parallel()
	damage := map[string]func(stored string) string{
		"cut off in its parameters": func(e string) string { return e[:len(e)-4] },
		"with text for a number":    func(e string) string { return strings.Replace(e, "\xa1j\x01", "\xa1j\xa0", 1) },
		"with bytes left over":      func(e string) string { return e + "more" },
	}
	find := map[string]func(t *testing.T, b *redis.Broker, s broker.Session){
		"taken": func(t *testing.T, _ *redis.Broker, s broker.Session) {
			require.Empty(t, takeFor(t, s, 10, 150*time.Millisecond))
		},
		"cancelled": func(t *testing.T, b *redis.Broker, _ broker.Session) {
			require.NoError(t, b.Cancel(t.Context(), "q", "member-0", stopped))
		},
		"audited": func(t *testing.T, b *redis.Broker, _ broker.Session) {
			for _, repair := range []bool{false, true} {
				report, err := b.Audit(t.Context(), "q", repair)
				require.NoError(t, err)
				require.Equal(t, maintenance.Report{Repaired: repair, Runs: 1, Unreadable: 1}, report)
			}
		},
	}
	for what, damage := range damage {
		for how, find := range find {
			t.Run(what+" and "+how, func(t *testing.T) {
				b, c := open(t, shared, redis.Config{}), raw(t, shared)
				then, members := group("q", "other", 2)
				members[0].Schema = 1
				require.NoError(t, b.QueueGroup(t.Context(), then, members...))
				s := join(t, b, time.Minute)
				key := prefix(t) + ":{q}:io:1"
				bad := damage(storedAt(t, c, key)[0])
				require.NoError(t, c.LSet(t.Context(), key, 0, bad).Err())
				// The other one is behind it, and out of the way.
				require.NoError(t, c.LMove(t.Context(), key, prefix(t)+":other", "RIGHT", "LEFT").Err())
				find(t, b, s)
				require.Equal(t, bad, string(letters(t, b)[0].Raw))
				require.NoError(t, c.LMove(t.Context(), prefix(t)+":other", key, "LEFT", "LEFT").Err())
				finishAll(t, s, takeAll(t, s, "q", 1))
				require.Equal(t, []string{"gathering"}, ids(takeAll(t, s, "other", 1)))
				records, err := b.Members(t.Context(), then.Links.Awaits)
				require.NoError(t, err)
				require.Equal(t, broker.FailureSchema, records[0].Failure.Kind)
				require.Equal(t, broker.StateSucceeded, records[1].State)
			})
		}
	}
}

// letters are the dead letters of the queue.
func letters(t *testing.T, b *redis.Broker) []*broker.DeadLetter {
	t.Helper()
	list, err := b.DeadLetters(t.Context(), "q", 10)
	require.NoError(t, err)
	require.NotEmpty(t, list)
	return list
}
