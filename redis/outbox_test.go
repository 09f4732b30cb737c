package redis_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// TestAQueueThatIsAwayHoldsUpNoOther has more than a page of entries for a queue that
// cannot be reached before entries for others. The first go once that is possible.
func TestAQueueThatIsAwayHoldsUpNoOther(t *testing.T) {
	server := redistest.Start(t)
	base := "app:" + prefix(t)
	limit := func(keys ...string) {
		t.Helper()
		allow(t, server, append([]string{"resetkeys"}, keys...)...)
	}
	limit("~app:*")
	b := openURL(t, "redis://app:pass@"+server.Addr(), redis.Config{Prefix: base})
	s := join(t, b, time.Minute)
	require.NoError(t, b.QueueTasks(t.Context(), run("first", "q")))
	first := takeAll(t, s, "q", 1)
	var next []*broker.TaskRun
	for i := range 150 {
		next = append(next, run(fmt.Sprintf("away-%d", i), []string{"away", "gone"}[i%2]))
	}
	for i := range 60 {
		next = append(next, run(fmt.Sprintf("next-%d", i), []string{"q", "other"}[i%2]))
	}
	limit("~"+base+":queues", "~"+base+":{q}:*", "~"+base+":{other}:*")
	done, err := s.Finish(t.Context(), broker.Outcome{Run: first[0], Next: next})
	require.NoError(t, err)
	require.Empty(t, done.Fenced)
	_, err = b.Recover(t.Context(), []string{"q"})
	require.ErrorContains(t, err, "to queue away: ")
	require.ErrorContains(t, err, "to queue gone: ")
	require.ErrorContains(t, err, "NOPERM")
	limit("~app:*")
	require.Equal(t, 30, length(t, b, "q"))
	require.Equal(t, 30, length(t, b, "other"))
	c := raw(t, server)
	require.EqualValues(t, 150, c.LLen(t.Context(), base+":{q}:outbox").Val())
	require.Empty(t, storedAt(t, c, base+":{q}:dead"))

	_, err = b.Recover(t.Context(), []string{"q"})
	require.NoError(t, err)
	require.Equal(t, 75, length(t, b, "away"))
	require.Equal(t, 75, length(t, b, "gone"))
	require.Zero(t, c.Exists(t.Context(), base+":{q}:outbox").Val())
}

// TestAFrozenNodeHoldsUpNoOtherQueue has two pages of entries for a queue of a node that does
// not reply before one for a queue of another: a pass waits for the first until it times out.
func TestAFrozenNodeHoldsUpNoOtherQueue(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, "--cluster-require-full-coverage", "no", "--cluster-node-timeout", "60000", "--cluster-replica-no-failover", "yes")
	b := openURL(t, c.URL(), redis.Config{Timeout: time.Second})
	owner := func(queue string) *redistest.Server { return c.Owner(slotOf(c, queue)) }
	var away, other string
	for _, queue := range someQueues(30) {
		if owner(queue) == owner("q") {
			other = queue
		} else {
			away = queue
		}
	}
	var next []*broker.TaskRun
	for i := range 150 {
		next = append(next, run(fmt.Sprintf("away-%d", i), away))
	}
	next = append(next, run("next", other))
	require.NoError(t, b.QueueTasks(t.Context(), run("first", "q")))
	s := join(t, b, time.Minute)
	first := takeAll(t, s, "q", 1)
	frozen := owner(away)
	frozen.Freeze()
	t.Cleanup(frozen.Thaw)
	_, err := s.Finish(t.Context(), broker.Outcome{Run: first[0], Next: next})
	require.NoError(t, err)
	_, err = b.Recover(t.Context(), []string{"q"})
	require.ErrorContains(t, err, "to queue "+away)
	require.Equal(t, "next", takeAll(t, join(t, b, time.Minute), other, 1)[0].ID)
}

// TestARunThatCanNeverBeQueuedBecomesADeadLetter with the reason, its record says so, and
// its neighbours go on.
func TestARunThatCanNeverBeQueuedBecomesADeadLetter(t *testing.T) {
	for _, queue := range []string{"q", "other"} {
		t.Run("for "+queue, func(t *testing.T) {
			b, c := open(t, shared, redis.Config{}), raw(t, shared)
			s := join(t, b, time.Minute)
			require.NoError(t, b.QueueTasks(t.Context(), run("first", "q")))
			first := takeAll(t, s, "q", 1)
			damaged := prefix(t) + ":{" + queue + "}:id:bad"
			require.NoError(t, c.RPush(t.Context(), damaged, "no string").Err())
			next := []*broker.TaskRun{ownKept("a", queue), ownKept("bad", queue), ownKept("b", queue), run("c", "else")}
			for _, r := range next {
				r.ParentID = "first"
			}
			_, err := s.Finish(t.Context(), broker.Outcome{Run: first[0], Next: next})
			require.NoError(t, err)
			require.Equal(t, 2, length(t, b, queue))
			require.Equal(t, 1, length(t, b, "else"))
			require.Zero(t, c.Exists(t.Context(), prefix(t)+":{q}:outbox").Val())
			letters, err := b.DeadLetters(t.Context(), "q", 10)
			require.NoError(t, err)
			require.Len(t, letters, 1)
			require.Equal(t, "bad", letters[0].Run.ID)
			require.Contains(t, letters[0].Failure.Message, "it was to follow run first, and queue "+queue+" cannot take it: ")
			require.Contains(t, letters[0].Failure.Message, "WRONGTYPE")
			require.Equal(t, &letters[0].Failure, record(t, b, queue, "bad").Failure)

			require.NoError(t, c.Del(t.Context(), damaged).Err())
			n, err := b.RequeueDead(t.Context(), "q", "bad")
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.Equal(t, broker.StateQueued, record(t, b, queue, "bad").State)
			got := takeAll(t, s, queue, 3)
			require.ElementsMatch(t, []string{"a", "b", "bad"}, ids(got))
			require.Empty(t, storedAt(t, c, prefix(t)+":{q}:dead"))
		})
	}
}

// TestNewerEnvelopesInTheOutbox leaves them for an hour to a version that can read them,
// and they hold up nothing.
func TestNewerEnvelopesInTheOutbox(t *testing.T) {
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	base := prefix(t) + ":{q}:"
	stored := queueNewer(t, b, c, base, true, ownKept("new", "q"))
	require.NoError(t, c.Del(t.Context(), base+"io:1", base+"id:new", base+"rec:new").Err())
	entry := strings.Repeat("n", 16) + stored
	require.NoError(t, c.RPush(t.Context(), base+"outbox", entry).Err())
	require.NoError(t, b.QueueTasks(t.Context(), run("first", "q")))
	s := join(t, b, time.Minute)
	first := takeAll(t, s, "q", 1)
	_, err := s.Finish(t.Context(), broker.Outcome{Run: first[0], Next: []*broker.TaskRun{run("next", "q"), run("next2", "other")}})
	require.NoError(t, err)
	require.Equal(t, 1, length(t, b, "q"))
	require.Equal(t, 1, length(t, b, "other"))
	require.Equal(t, []string{entry}, storedAt(t, c, base+"outbox"), "it is left as it is")
	require.Empty(t, storedAt(t, c, base+"dead"))
	require.Positive(t, c.PTTL(t.Context(), base+"newer:new").Val())

	require.NoError(t, c.Set(t.Context(), base+"newer:new", "", 59*time.Minute).Err(), "it is known for an hour and a minute")
	_, err = b.Recover(t.Context(), []string{"q"})
	require.NoError(t, err)
	require.Zero(t, c.Exists(t.Context(), base+"outbox").Val())
	letters, err := b.DeadLetters(t.Context(), "q", 10)
	require.NoError(t, err)
	require.Len(t, letters, 1)
	require.Equal(t, stored, string(letters[0].Raw))
	require.Contains(t, letters[0].Failure.Message, "dead retry")

	require.NoError(t, c.RPush(t.Context(), base+"outbox", strings.Repeat("o", 16)+asNewer(stored, true, 1)).Err())
	_, err = b.Recover(t.Context(), []string{"q"})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"new", "next"}, ids(takeAll(t, s, "q", 2)), "what can be read is queued")
}

// TestOutboxIsReadInPortions: the server cuts off a client for which it has to prepare
// more bytes than allowed.
func TestOutboxIsReadInPortions(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	_, err := server.Do("CONFIG", "SET", "client-output-buffer-limit", "normal 6291456 0 0")
	require.NoError(t, err)
	b := open(t, server, redis.Config{Timeout: time.Minute})
	s := join(t, b, time.Minute)
	require.NoError(t, b.QueueTasks(t.Context(), run("first", "q")))
	first := takeAll(t, s, "q", 1)
	var next []*broker.TaskRun
	for i := range 40 {
		r := run(fmt.Sprintf("next-%d", i), "other")
		r.Payload = make([]byte, 1<<18)
		next = append(next, r)
	}
	_, err = s.Finish(t.Context(), broker.Outcome{Run: first[0], Next: next})
	require.NoError(t, err)
	_, err = b.Recover(t.Context(), []string{"q"})
	require.NoError(t, err)
	require.Equal(t, 40, length(t, b, "other"))
	require.Zero(t, raw(t, server).Exists(t.Context(), prefix(t)+":{q}:outbox").Val())
}

// TestFinishDoesNotWaitForAnotherQueue holds back the reply of the server of a follow-up.
// Other ends in the queue are applied meanwhile.
func TestFinishDoesNotWaitForAnotherQueue(t *testing.T) {
	t.Parallel()
	l := new(losses)
	clean(t, shared)
	client := goredis.NewClient(&goredis.Options{Addr: shared.Addr(), Dialer: l.dial})
	b, err := redis.New(client, redis.Config{Prefix: prefix(t), Timeout: time.Minute})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, b.Close())
		require.NoError(t, client.Close())
	})
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 5)...))
	require.NoError(t, b.QueueTasks(t.Context(), run("known", "other")))
	s := join(t, b, time.Minute)
	got := takeAll(t, s, "q", 5)
	release, reached := make(chan struct{}), make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	t.Cleanup(let) // before the broker is closed
	l.loseAfter("{other}:ticks", func() {
		close(reached)
		<-release
	})
	ctx := within(t, 30*time.Second)
	for i, r := range got {
		next := []*broker.TaskRun{run(fmt.Sprintf("next-%d", i), []string{"other", "q"}[i%2])}
		done, err := s.Finish(ctx, broker.Outcome{Run: r, Next: next})
		require.NoError(t, err)
		require.Empty(t, done.Fenced)
	}
	<-reached
	require.NoError(t, ctx.Err(), "they did not wait for what is held back")
	let()
	require.Eventually(t, func() bool {
		_, err := b.Recover(t.Context(), []string{"q"})
		return err == nil && length(t, b, "other") == 4 && length(t, b, "q") == 2
	}, 20*time.Second, 10*time.Millisecond)
}

// TestNothingIsLostToAQueueThatTakesNothing has a ready list of a wrong type that cannot
// be quarantined. Entries for that list stay in the outbox until it is repaired.
func TestNothingIsLostToAQueueThatTakesNothing(t *testing.T) {
	for _, c := range []struct {
		name, queue string
		// give has something of queue q be on its way to the queue
		give func(t *testing.T, b *redis.Broker, s broker.Session, queue string)
		want int
	}{
		{"followers in their own queue", "q", giveNext, 2},
		{"followers", "other", giveNext, 2},
		{"what gathers a group in its own queue", "q", giveGroup, 1},
		{"what gathers a group", "other", giveGroup, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, client := open(t, shared, redis.Config{}), raw(t, shared)
			b.Unrepairable()
			c.give(t, b, join(t, b, time.Minute), c.queue)
			for range 2 {
				_, err := b.Recover(t.Context(), []string{"q"})
				require.ErrorContains(t, err, "to queue "+c.queue+": ")
				require.ErrorContains(t, err, "WRONGTYPE")
			}
			require.NoError(t, client.Del(t.Context(), damagedList(t, c.queue)).Err())
			_, err := b.Recover(t.Context(), []string{"q"})
			require.NoError(t, err)
			require.Equal(t, c.want, length(t, b, c.queue))
			require.Zero(t, client.Exists(t.Context(), prefix(t)+":{q}:outbox").Val())
			require.Empty(t, storedAt(t, client, prefix(t)+":{q}:dead"))
		})
	}
	t.Run("a dead letter", func(t *testing.T) {
		b, client := open(t, shared, redis.Config{}), raw(t, shared)
		b.Unrepairable()
		s := join(t, b, time.Minute)
		require.NoError(t, b.QueueTasks(t.Context(), run("dead", "q")))
		got := takeAll(t, s, "q", 1)
		_, err := s.Finish(t.Context(), broker.Outcome{Run: got[0], Verdict: broker.Dead, Failure: &broker.Failure{Kind: broker.FailureFailed}})
		require.NoError(t, err)
		damage(t, "q")
		n, err := b.RequeueDead(t.Context(), "q", "dead")
		require.ErrorContains(t, err, "WRONGTYPE")
		require.Zero(t, n)
		require.NoError(t, client.Del(t.Context(), damagedList(t, "q")).Err())
		n, err = b.RequeueDead(t.Context(), "q", "dead")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, 1, length(t, b, "q"))
	})
	t.Run("a tick", func(t *testing.T) {
		b, client := open(t, shared, redis.Config{}), raw(t, shared)
		damage(t, "q")
		tick := time.Now()
		require.ErrorContains(t, b.QueueTick(t.Context(), run("tick", "q"), tick), "WRONGTYPE")
		require.NoError(t, client.Del(t.Context(), damagedList(t, "q")).Err())
		require.NoError(t, b.QueueTick(t.Context(), run("tick", "q"), tick))
		require.Equal(t, 1, length(t, b, "q"))
	})
}

// TestAFollowUpThatCannotBeQueuedEndsItsMember has a follow-up whose key has a wrong type, and
// one that cannot be read any more, take the place of a group's member.
func TestAFollowUpThatCannotBeQueuedEndsItsMember(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, c *goredis.Client, base string){
		"given up": func(t *testing.T, c *goredis.Client, base string) {
			require.NoError(t, c.RPush(t.Context(), base+"id:after", "no string").Err())
		},
		"unreadable": func(t *testing.T, c *goredis.Client, base string) {
			entry := c.LIndex(t.Context(), base+"outbox", 0).Val()
			require.NoError(t, c.LSet(t.Context(), base+"outbox", 0, entry[:len(entry)-1]).Err())
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, c := open(t, shared, redis.Config{}), raw(t, shared)
			b.Unrepairable()
			s := join(t, b, time.Minute)
			gathering, members := group("q", "q", 1)
			require.NoError(t, b.QueueGroup(t.Context(), gathering, members...))
			got := takeAll(t, s, "q", 1)
			after := ownKept("after", "q")
			after.Links = &broker.Links{Group: members[0].Links.Group, Member: members[0].Links.Member}
			damage(t, "q") // so that it stays in the outbox for now
			_, err := s.Finish(t.Context(), broker.Outcome{Run: got[0], Next: []*broker.TaskRun{after}})
			require.NoError(t, err)
			spoil(t, c, prefix(t)+":{q}:")
			require.NoError(t, c.Del(t.Context(), damagedList(t, "q")).Err())
			_, err = b.Recover(t.Context(), []string{"q"})
			require.NoError(t, err)
			require.Equal(t, []string{gathering.ID}, ids(takeAll(t, s, "q", 1)))
			ended, err := b.Members(t.Context(), gathering.Links.Awaits)
			require.NoError(t, err)
			require.NotNil(t, ended[0])
			require.Equal(t, broker.StateFailed, ended[0].State)
			letters, err := b.DeadLetters(t.Context(), "q", 10)
			require.NoError(t, err)
			require.Len(t, letters, 1)
			require.Zero(t, c.Exists(t.Context(), prefix(t)+":{q}:outbox").Val())
		})
	}
}

func damagedList(t *testing.T, queue string) string { return prefix(t) + ":{" + queue + "}:io:1" }

func damage(t *testing.T, queue string) {
	t.Helper()
	require.NoError(t, raw(t, shared).Set(t.Context(), damagedList(t, queue), "no list", 0).Err())
}

func giveNext(t *testing.T, b *redis.Broker, s broker.Session, queue string) {
	require.NoError(t, b.QueueTasks(t.Context(), run("first", "q")))
	first := takeAll(t, s, "q", 1)
	damage(t, queue)
	_, err := s.Finish(t.Context(), broker.Outcome{Run: first[0], Next: []*broker.TaskRun{ownKept("a", queue), run("b", queue)}})
	require.NoError(t, err)
}

func giveGroup(t *testing.T, b *redis.Broker, s broker.Session, queue string) {
	gathering, members := group("q", queue, 1)
	require.NoError(t, b.QueueGroup(t.Context(), gathering, members...))
	got := takeAll(t, s, "q", 1)
	damage(t, queue)
	_, err := s.Finish(t.Context(), succeeded(got)...)
	require.NoError(t, err)
}

// TestAQueueThatTakesNothingIsReportedOnce has many entries for it.
func TestAQueueThatTakesNothingIsReportedOnce(t *testing.T) {
	b := open(t, shared, redis.Config{})
	b.Unrepairable()
	s := join(t, b, time.Minute)
	require.NoError(t, b.QueueTasks(t.Context(), run("first", "q")))
	first := takeAll(t, s, "q", 1)
	damage(t, "other")
	_, err := s.Finish(t.Context(), broker.Outcome{Run: first[0], Next: runs("other", 50)})
	require.NoError(t, err)
	client := raw(t, shared)
	_, err = b.Recover(t.Context(), []string{"q"})
	require.Equal(t, 1, strings.Count(err.Error(), "WRONGTYPE"), "%v", err)
	require.EqualValues(t, 50, client.LLen(t.Context(), prefix(t)+":{q}:outbox").Val())
}

// TestADeadLetterOfAnotherQueueStaysUntilThatHasIt has a live run in its way, other
// entries stuck in the outbox, and replies lost.
func TestADeadLetterOfAnotherQueueStaysUntilThatHasIt(t *testing.T) {
	b, l := openLossy(t, shared)
	client := raw(t, shared)
	s := join(t, b, time.Minute)
	require.NoError(t, b.QueueTasks(t.Context(), run("first", "q"), run("second", "q")))
	got := takeAll(t, s, "q", 2)
	damaged := prefix(t) + ":{other}:id:bad"
	require.NoError(t, client.RPush(t.Context(), damaged, "no string").Err())
	_, err := s.Finish(t.Context(), broker.Outcome{Run: got[0], Next: []*broker.TaskRun{ownKept("bad", "other"), ownKept("good", "other")}})
	require.NoError(t, err)
	stays := func() {
		t.Helper()
		letters, err := b.DeadLetters(t.Context(), "q", 10)
		require.NoError(t, err)
		require.Len(t, letters, 1)
		require.Equal(t, "bad", letters[0].ID)
	}
	n, err := b.RequeueDead(t.Context(), "q", "bad")
	require.ErrorContains(t, err, "run bad to queue other: ")
	require.ErrorContains(t, err, "WRONGTYPE")
	require.Zero(t, n)
	stays()

	require.NoError(t, client.Del(t.Context(), damaged).Err())
	require.NoError(t, b.QueueTasks(t.Context(), ownKept("bad", "other")))
	require.Equal(t, 2, length(t, b, "other"))
	for range 2 {
		n, err := b.RequeueDead(t.Context(), "q", "bad")
		requireDuplicates(t, err, broker.Duplicate{Index: 0, ID: "bad"})
		require.Zero(t, n)
		stays()
	}
	finishAll(t, s, takeAll(t, s, "other", 2))

	require.NoError(t, client.Set(t.Context(), prefix(t)+":{stuck}:policy", "no hash", 0).Err())
	_, err = s.Finish(t.Context(), broker.Outcome{Run: got[1], Next: []*broker.TaskRun{run("stuck", "stuck")}})
	require.NoError(t, err)
	l.lose(1000, "lrem")
	n, err = b.RequeueDead(within(t, time.Second), "q", "bad")
	l.lose(0, "none")
	require.Error(t, err, "it is not known whether the letter is gone")
	require.Zero(t, n)
	require.Equal(t, 1, length(t, b, "other"))
	_, err = b.RequeueDead(t.Context(), "q", "bad")
	require.NoError(t, err, "others that are stuck are no matter of this")
	require.Equal(t, 1, length(t, b, "other"), "it is queued once")
	require.Equal(t, broker.StateQueued, record(t, b, "other", "bad").State)
	require.Empty(t, storedAt(t, client, prefix(t)+":{q}:dead"))
	for _, key := range keysOf(t, client, prefix(t)) {
		require.False(t, strings.Contains(key, "}:moved:") && client.PTTL(t.Context(), key).Val() < 0, "%s stays", key)
	}
}

// TestADeadLetterOfAnotherQueueIsQueuedOnce loses the reply to the step that queues it, so
// that the letter is there for the next call.
func TestADeadLetterOfAnotherQueueIsQueuedOnce(t *testing.T) {
	b, l := openLossy(t, shared)
	client := raw(t, shared)
	s := join(t, b, time.Minute)
	require.NoError(t, b.QueueTasks(t.Context(), run("first", "q")))
	damaged := prefix(t) + ":{other}:rec:bad"
	require.NoError(t, client.RPush(t.Context(), damaged, "no string").Err())
	bad := run("bad", "other")
	bad.Keep = time.Hour
	_, err := s.Finish(t.Context(), broker.Outcome{Run: takeAll(t, s, "q", 1)[0], Next: []*broker.TaskRun{bad}})
	require.NoError(t, err)
	require.NoError(t, client.Del(t.Context(), damaged).Err())
	l.lose(1000, "pexpire")
	n, err := b.RequeueDead(within(t, time.Second), "q", "bad")
	l.lose(0, "none")
	require.Error(t, err)
	require.Zero(t, n)
	require.Equal(t, 1, length(t, b, "other"))
	require.Len(t, storedAt(t, client, prefix(t)+":{q}:dead"), 1)
	finishAll(t, s, takeAll(t, s, "other", 1))
	n, err = b.RequeueDead(t.Context(), "q", "bad")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Zero(t, length(t, b, "other"), "it has run")
	require.Empty(t, storedAt(t, client, prefix(t)+":{q}:dead"))
}

// TestManyEntriesThatStayAreReadInParts has far more entries stay than one pass reads. New
// entries go at once, and all are read in turn, though not by each recovery.
func TestManyEntriesThatStayAreReadInParts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t) // whose commands nobody else counts
	b, client := open(t, server, redis.Config{}), raw(t, server)
	b.Unrepairable()
	s := join(t, b, time.Minute)
	const many = 2000
	outbox := prefix(t) + ":{q}:outbox"
	require.NoError(t, client.Set(t.Context(), prefix(t)+":{away}:policy", "no hash", 0).Err())
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 3)...))
	got := takeAll(t, s, "q", 3)
	end := func(next ...*broker.TaskRun) {
		t.Helper()
		done, err := s.Finish(t.Context(), broker.Outcome{Run: got[0], Next: next})
		require.NoError(t, err)
		require.Empty(t, done.Fenced)
		got = got[1:]
	}
	next := runs("away", many)
	next[3*many/4].Queue = "healthy" // far from both ends
	end(next...)
	left := func() int { return int(client.LLen(t.Context(), outbox).Val()) }
	require.Eventually(t, func() bool { // nothing else shows what it did
		read := calls(t, client, "lrange")[0]
		_, err := b.Recover(t.Context(), []string{"q"})
		require.True(t, err == nil || strings.Contains(err.Error(), "WRONGTYPE"), "%v", err)
		return calls(t, client, "lrange")[0]-read < 100
	}, 20*time.Second, time.Millisecond, "some recoveries read nothing")

	before, known := calls(t, client, "lrange")[0], left()
	end(runs("new", 400)...)
	require.Eventually(t, func() bool { return length(t, b, "new") == 400 }, 20*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return left() == known }, 20*time.Second, time.Millisecond)
	require.Less(t, calls(t, client, "lrange")[0]-before, 1400, "entries read for those that are new")

	require.Eventually(t, func() bool {
		before := calls(t, client, "lrange")[0]
		_, _ = b.Recover(t.Context(), []string{"q"})
		require.LessOrEqual(t, calls(t, client, "lrange")[0]-before, 1400, "entries read by one recovery")
		return length(t, b, "healthy") == 1
	}, 60*time.Second, 20*time.Millisecond)
	require.Equal(t, many-1, left())

	require.NoError(t, client.Del(t.Context(), prefix(t)+":{away}:policy").Err())
	require.Eventually(t, func() bool {
		_, err := b.Recover(t.Context(), []string{"q"})
		require.NoError(t, err)
		return left() == 0
	}, 60*time.Second, 20*time.Millisecond)
	require.Equal(t, many-1, length(t, b, "away"))
}
