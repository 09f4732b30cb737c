package redis_test

import (
	"context"
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

// lostTree is a group in the queue h whose first member, in the queue then, gathers a group of two
// in the queue q.
type lostTree struct {
	b      *redis.Broker
	raw    goredis.UniversalClient
	then   string
	inner  *broker.TaskRun
	queues []string
}

func queueLostTree(t *testing.T, b *redis.Broker, c goredis.UniversalClient, then string) *lostTree {
	t.Helper()
	inner, members := group("q", then, 2)
	inner.EnsureRules().Unique = "key"
	links := inner.EnsureLinks()
	links.Group, links.GroupQueue, links.Members = "outer", "h", members
	for _, m := range members {
		m.Links.GroupQueue = "q"
	}
	plain := run("plain", "h")
	plain.Links = &broker.Links{Group: "outer", Member: 1}
	outer := ownKept("outermost", "o")
	outer.EnsureLinks().Awaits = broker.Group{ID: "outer", Queue: "h", Size: 2}
	require.NoError(t, b.QueueGroup(t.Context(), outer, inner, plain))
	tree := &lostTree{b: b, raw: c, then: then, inner: inner, queues: []string{"h", "o", "q"}}
	if then != "q" {
		tree.queues = append(tree.queues, then)
	}
	require.Eventually(t, func() bool {
		return length(t, b, "q") == 2 && c.Exists(t.Context(), tree.pending()).Val() == 1
	}, 10*time.Second, time.Millisecond)
	return tree
}

func (tr *lostTree) pending() string { return tr.key(tr.then, "pending:gathering") }

// key returns a key of a queue, of a test.
func (tr *lostTree) key(queue, rest string) string {
	return tr.b.Prefix() + ":{" + queue + "}:" + rest
}

// audit returns how many faults audits of all queues find, and how many of them are lost groups.
func (tr *lostTree) audit(t *testing.T, repair bool) (faults, groups int) {
	t.Helper()
	for _, name := range tr.queues {
		report, err := tr.b.Audit(t.Context(), name, repair)
		require.NoError(t, err)
		faults, groups = faults+report.Faults(), groups+report.LostGroups
	}
	return faults, groups
}

// groupLosses are ways in which a group and the run that awaits it lose each other.
var groupLosses = map[string]struct {
	lose func(t *testing.T, tr *lostTree)
	ends bool // the run ends without an audit
}{
	"the group is deleted": {lose: func(t *testing.T, tr *lostTree) {
		require.NoError(t, tr.raw.Del(t.Context(), tr.key("q", "group:g")).Err())
	}},
	"the group is of a wrong type": {lose: func(t *testing.T, tr *lostTree) {
		require.NoError(t, tr.raw.Set(t.Context(), tr.key("q", "group:g"), "x", 0).Err())
	}},
	"the group is another": {lose: func(t *testing.T, tr *lostTree) {
		key := tr.key("q", "group:g")
		require.NoError(t, tr.raw.HSet(t.Context(), key, "begun", strings.Repeat("0", 16)).Err())
		require.NoError(t, tr.raw.PExpire(t.Context(), key, time.Hour).Err())
	}},
	"the group has lost the run": {lose: func(t *testing.T, tr *lostTree) {
		require.NoError(t, tr.raw.HDel(t.Context(), tr.key("q", "group:g"), "then").Err())
	}},
	"the pending run is deleted": {lose: func(t *testing.T, tr *lostTree) {
		require.NoError(t, tr.raw.Del(t.Context(), tr.pending()).Err())
	}},
	"the pending run is deleted and the members end": {ends: true, lose: func(t *testing.T, tr *lostTree) {
		require.NoError(t, tr.raw.Del(t.Context(), tr.pending()).Err())
		s := join(t, tr.b, time.Minute)
		finishAll(t, s, takeAll(t, s, "q", 2))
		require.NoError(t, s.Close(t.Context()))
	}},
}

// TestAnAuditReportsThatItMayNotReadGroups, as it cannot find lost ones.
func TestAnAuditReportsThatItMayNotReadGroups(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	keys := redis.Config{Prefix: "app:" + prefix(t)}
	groupLosses["the pending run is deleted"].lose(t, queueLostTree(t, open(t, s, keys), raw(t, s), "q"))
	allow(t, s, append(redistest.AuditRights(), "-hget")...)
	b := openURL(t, "redis://app:pass@"+s.Addr(), keys)
	_, err := b.Audit(t.Context(), "q", false)
	require.ErrorContains(t, err, "look for the runs that await groups: NOPERM")
}

// TestALostGroupEndsTheRunThatAwaitsIt loses a group within another.
func TestALostGroupEndsTheRunThatAwaitsIt(t *testing.T) {
	t.Parallel()
	for name, l := range groupLosses {
		for _, then := range []string{"q", "other"} {
			t.Run(name+" for "+then, func(t *testing.T) {
				t.Parallel()
				b := open(t, shared, redis.Config{})
				tree := queueLostTree(t, b, raw(t, shared), then)
				loseTree(t, tree, l.lose, l.ends)
				for _, key := range withoutRecords(keysOf(t, raw(t, shared), prefix(t))) {
					kind, _, _ := strings.Cut(key[strings.Index(key, "}:")+2:], ":")
					if kind == "group" || kind == "pending" || kind == "moved" {
						require.Positive(t, raw(t, shared).PTTL(t.Context(), key).Val(), "%s stays", key)
					}
				}
			})
		}
	}
}

// testLostGroupsOnACluster has the queues of a group on different nodes.
func testLostGroupsOnACluster(t *testing.T, c *redistest.Cluster) {
	client := goredis.NewClusterClient(&goredis.ClusterOptions{Addrs: []string{c.Owner(0).Addr()}, DisableIdentity: true})
	defer func() { require.NoError(t, client.Close()) }()
	for name, l := range groupLosses {
		t.Run(name, func(t *testing.T) {
			b := openURL(t, c.URL(), redis.Config{Prefix: prefix(t)})
			loseTree(t, queueLostTree(t, b, client, "other"), l.lose, l.ends)
		})
	}
	t.Run("at work", func(t *testing.T) {
		b, auditor := openURL(t, c.URL(), redis.Config{Prefix: prefix(t)}), openURL(t, c.URL(), redis.Config{Prefix: prefix(t)})
		auditWhileTreesGo(t, b, auditor, func() {}, func() {})
	})
}

// loseTree checks what becomes of a tree that loses something.
func loseTree(t *testing.T, tree *lostTree, lose func(*testing.T, *lostTree), ends bool) {
	t.Helper()
	b, then := tree.b, tree.then
	_, groups := tree.audit(t, true)
	require.Zero(t, groups, "nothing is lost yet")
	waited := make(chan *broker.Record, 1)
	go func() {
		r, _ := b.WaitRecord(t.Context(), then, "gathering")
		waited <- r
	}()
	lose(t, tree)
	if !ends {
		_, counted := tree.audit(t, false)
		require.Equal(t, 1, counted)
		require.Equal(t, broker.StateDelayed, record(t, b, then, "gathering").State, "counted only")
		_, repaired := tree.audit(t, true)
		require.Equal(t, 1, repaired)
	}
	require.Equal(t, broker.FailureLost, (<-waited).Failure.Kind)
	r := record(t, b, then, "gathering")
	require.Equal(t, broker.StateFailed, r.State)
	require.Equal(t, broker.FailureLost, r.Failure.Kind)
	require.Equal(t, "task", r.Task)
	require.Empty(t, deadOf(t, b, tree.queues...))
	faults, groups := tree.audit(t, true)
	require.Zero(t, groups, faults)

	s := join(t, b, time.Minute)
	if !ends {
		finishAll(t, s, takeAll(t, s, "q", 2)) // members of a group that is gone
	}
	finishAll(t, s, takeAll(t, s, "h", 1))
	outermost := takeAll(t, s, "o", 1)
	members, err := b.Members(t.Context(), outermost[0].Links.Awaits)
	require.NoError(t, err)
	require.Equal(t, "gathering", members[0].ID)
	require.Equal(t, broker.FailureLost, members[0].Failure.Kind)
	require.Equal(t, broker.StateSucceeded, members[1].State)
	finishAll(t, s, outermost)
	again := ownKept("gathering", then)
	again.EnsureRules().Unique = "key"
	require.NoError(t, b.QueueTasks(t.Context(), again), "its id and its unique key are free")
	finishAll(t, s, takeAll(t, s, then, 1))
	for _, name := range tree.queues {
		require.Zero(t, length(t, b, name), name)
	}
	faults, _ = tree.audit(t, true)
	require.Zero(t, faults)
	require.NoError(t, s.Close(t.Context()))
}

// deadOf returns the ids of the dead letters of queues.
func deadOf(t *testing.T, b *redis.Broker, queues ...string) (list []string) {
	t.Helper()
	for _, name := range queues {
		letters, err := b.DeadLetters(t.Context(), name, 10)
		require.NoError(t, err)
		for _, l := range letters {
			list = append(list, l.ID)
		}
	}
	return list
}

// TestALostGroupCanBeCancelled before an audit finds it.
func TestALostGroupCanBeCancelled(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	tree := queueLostTree(t, b, raw(t, shared), "other")
	require.NoError(t, tree.raw.Del(t.Context(), tree.key("q", "group:g")).Err())
	require.NoError(t, b.Cancel(t.Context(), "other", "gathering", stopped))
	require.Equal(t, broker.FailureCancelled, record(t, b, "other", "gathering").Failure.Kind)
	_, groups := tree.audit(t, true)
	require.Zero(t, groups)
}

// TestACancelledRunIsNotLostWithItsGroup cancels a run that awaits a group, and keeps the group from
// being forgotten with it: an audit forgets it, and counts nothing.
func TestACancelledRunIsNotLostWithItsGroup(t *testing.T) {
	t.Parallel()
	forgets := map[string]func(t *testing.T, tr *lostTree){
		"nothing": func(*testing.T, *lostTree) {},
		"the place in the outer group": func(t *testing.T, tr *lostTree) {
			require.NoError(t, tr.raw.HDel(t.Context(), tr.key("h", "group:outer"), "0").Err())
		},
		"the record": func(t *testing.T, tr *lostTree) {
			require.NoError(t, tr.raw.Del(t.Context(), tr.key(tr.then, "rec:gathering")).Err())
		},
	}
	for name, forget := range forgets {
		for _, then := range []string{"q", "other"} {
			t.Run("for "+then+" the server forgets "+name, func(t *testing.T) {
				t.Parallel()
				b, c := open(t, shared, redis.Config{}), raw(t, shared)
				tree := queueLostTree(t, b, c, then)
				group := tree.key("q", "group:g")
				left := c.Dump(t.Context(), group).Val()
				require.NoError(t, b.Cancel(t.Context(), then, "gathering", stopped))
				require.Zero(t, c.Exists(t.Context(), group).Val())
				require.Eventually(t, func() bool { return c.HExists(t.Context(), tree.key("h", "group:outer"), "0").Val() },
					10*time.Second, time.Millisecond)
				require.NoError(t, c.Restore(t.Context(), group, 0, left).Err())
				forget(t, tree)
				_, groups := tree.audit(t, false)
				require.Zero(t, groups)
				require.EqualValues(t, 1, c.Exists(t.Context(), group).Val(), "it is only looked at")
				_, groups = tree.audit(t, true)
				require.Zero(t, groups)
				require.Empty(t, b.Damaged())
				again, members := groupAgain(then)
				require.NoError(t, b.QueueGroup(t.Context(), again, members...), "nothing is in its way")
			})
		}
	}
}

// groupAgain makes a group with the name that the inner group of a lostTree has.
func groupAgain(then string) (*broker.TaskRun, []*broker.TaskRun) {
	gathering, members := group("q", then, 2)
	for _, m := range members {
		m.ID += "-again"
	}
	return gathering, members
}

// TestACancelWhoseReplyIsLostForgetsTheGroup at once.
func TestACancelWhoseReplyIsLostForgetsTheGroup(t *testing.T) {
	t.Parallel()
	for _, then := range []string{"q", "other"} {
		t.Run(then, func(t *testing.T) {
			t.Parallel()
			b, l := openLossy(t, shared)
			gathering, members := group("q", then, 2)
			require.NoError(t, b.QueueGroup(t.Context(), gathering, members...))
			l.lose(1, stopped.Message)
			require.NoError(t, b.Cancel(t.Context(), then, "gathering", stopped))
			require.Equal(t, 1, l.count())
			require.Zero(t, raw(t, shared).Exists(t.Context(), prefix(t)+":{q}:group:g").Val())
			requireNoLostGroups(t, b, "q", then)
			again, members := groupAgain(then)
			require.NoError(t, b.QueueGroup(t.Context(), again, members...))
		})
	}
}

// TestForgetGroup leaves groups that other runs await, and those whose runs have gone on.
func TestForgetGroup(t *testing.T) {
	t.Parallel()
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	mine, other := strings.Repeat("1", 16), strings.Repeat("2", 16)
	for _, at := range []struct {
		what, then, token string
		stays             bool
	}{
		{"the run was cancelled", mine, mine, false},
		{"another run awaits it", other, mine, true},
		{"the run has gone on", "", mine, true},
		{"it was gathered", "", "", false},
		{"it was gathered before, and a run awaits it", other, "", true},
	} {
		key := prefix(t) + ":{q}:group:g"
		require.NoError(t, c.HSet(t.Context(), key, "left", 1).Err())
		if at.then != "" {
			require.NoError(t, c.HSet(t.Context(), key, "then", "+"+at.then+"stored run").Err())
		}
		_, err := c.Eval(t.Context(), b.ScriptText("forgetgroup"), []string{key}, at.token).Result()
		require.NoError(t, err)
		require.Equal(t, at.stays, c.Del(t.Context(), key).Val() == 1, at.what)
	}
}

// TestAuditsOfGroupsAtWork audits all the time while trees of groups come, are cancelled and go,
// over connections that break. It finds nothing, and ends none.
func TestAuditsOfGroupsAtWork(t *testing.T) {
	t.Parallel()
	for _, some := range []float64{0, 0.03} {
		t.Run(fmt.Sprint(some), func(t *testing.T) {
			t.Parallel()
			b, l := openLossy(t, shared)
			auditWhileTreesGo(t, b, openWith(t, shared, prefix(t)), func() {
				l.mu.Lock()
				l.some = some
				l.mu.Unlock()
			}, l.restore)
		})
	}
}

// auditWhileTreesGo queues and executes trees by one broker, and audits by another.
func auditWhileTreesGo(t *testing.T, b, auditor *redis.Broker, begin, end func()) {
	t.Helper()
	const trees = 60
	c := &treeConsumer{taken: map[string]int{}, ended: map[string]bool{}}
	ctx, stop := context.WithCancel(within(t, 100*time.Second))
	var audits, consumers sync.WaitGroup
	n := 0
	audits.Go(func() {
		for ; ctx.Err() == nil; n++ {
			for _, name := range treeQueues {
				report, err := auditor.Audit(context.WithoutCancel(ctx), name, true)
				if err != nil || report.LostGroups > 0 {
					t.Errorf("audit: %+v, %v", report, err)
				}
			}
		}
	})
	var mu sync.Mutex
	results := map[string]string{}
	begin()
	for range 3 {
		consumers.Go(func() {
			for ctx.Err() == nil {
				_ = c.consume(ctx, b, []string{"none"})
			}
		})
	}
	for i := range trees {
		tr := newTree(fmt.Sprint("t", i), 1+i%4)
		if err := b.QueueGroup(ctx, tr.root, tr.members...); err != nil {
			continue
		}
		if i%5 == 0 { // its members go on, and their group is gone
			_ = b.Cancel(ctx, tr.root.Queue, tr.root.ID, stopped)
			continue
		}
		mu.Lock()
		results[tr.root.ID] = want(tr.root.ID, tr.members)
		mu.Unlock()
	}
	roots := make([]string, 0, len(results))
	for root := range results {
		roots = append(roots, root)
	}
	require.Greater(t, len(roots), trees/3)
	require.Eventually(t, func() bool { return c.haveEnded(roots) }, 90*time.Second, 10*time.Millisecond)
	end()
	stop()
	consumers.Wait()
	audits.Wait()
	require.Positive(t, n)
	for root, want := range results {
		require.Equal(t, want, string(record(t, auditor, "a", root).Result))
	}
}

// TestAuditsLeaveGroupsOnTheirWay has a producer stop at each step of the storing of a group, small
// and large, and then keeps the run in the outbox for which the members have ended.
func TestAuditsLeaveGroupsOnTheirWay(t *testing.T) {
	t.Parallel()
	for _, at := range []string{":group:", "pending:", "payload of member", saysStay} {
		for _, size := range []int{2, 4000} {
			t.Run(fmt.Sprint("before ", strings.Trim(at, ":\r\n"), " of ", size), func(t *testing.T) {
				t.Parallel()
				b, l := openLossy(t, shared)
				require.NoError(t, b.QueueTasks(t.Context(), run("first", "q")))
				gathering, members := group("q", "other", size)
				for i, m := range members {
					m.Payload = []byte("payload of member")
					m.EnsureRules().Unique = fmt.Sprint("key-", i)
				}
				l.cut(at, false)
				_ = b.QueueGroup(t.Context(), gathering, members...)
				requireNoLostGroups(t, openWith(t, shared, prefix(t)), "q", "other")
				l.restore()
			})
		}
	}
	t.Run("in the outbox", func(t *testing.T) {
		t.Parallel()
		b, c := open(t, shared, redis.Config{}), raw(t, shared)
		b.Unrepairable()
		gathering, members := group("q", "other", 2)
		require.NoError(t, b.QueueGroup(t.Context(), gathering, members...))
		damage(t, "other")
		s := join(t, b, time.Minute)
		finishAll(t, s, takeAll(t, s, "q", 2))
		outbox := prefix(t) + ":{q}:outbox"
		require.EqualValues(t, 1, c.LLen(t.Context(), outbox).Val())
		requireNoLostGroups(t, b, "q", "other")
		require.NoError(t, c.Del(t.Context(), damagedList(t, "other")).Err())
		_, err := b.Recover(t.Context(), []string{"q", "other"})
		require.NoError(t, err)
		finishAll(t, s, takeAll(t, s, "other", 1))
	})
	t.Run("gone from the outbox", func(t *testing.T) {
		t.Parallel()
		b, c := open(t, shared, redis.Config{}), raw(t, shared)
		b.Unrepairable()
		gathering, members := group("q", "other", 2)
		require.NoError(t, b.QueueGroup(t.Context(), gathering, members...))
		damage(t, "other")
		s := join(t, b, time.Minute)
		finishAll(t, s, takeAll(t, s, "q", 2))
		require.NoError(t, c.Del(t.Context(), prefix(t)+":{q}:outbox", damagedList(t, "other")).Err())
		report, err := b.Audit(t.Context(), "other", true)
		require.NoError(t, err)
		require.Equal(t, 1, report.LostGroups)
		require.Equal(t, broker.FailureLost, record(t, b, "other", "gathering").Failure.Kind)
	})
}

func requireNoLostGroups(t *testing.T, b *redis.Broker, queues ...string) {
	t.Helper()
	for _, name := range queues {
		report, err := b.Audit(t.Context(), name, true)
		require.NoError(t, err)
		require.Zero(t, report.LostGroups, name)
	}
}
