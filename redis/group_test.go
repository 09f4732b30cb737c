package redis_test

import (
	"fmt"
	"io"
	"net"
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

// nightly queues a group of two, for the n-th time, with a pending run that has an own id
// and a unique key. As in applications, each try has a group of its own.
func nightly(n int, then string) (*broker.TaskRun, []*broker.TaskRun) {
	gathering, members := group("q", then, 2)
	gathering.EnsureRules().Unique = "key"
	nameGroup(fmt.Sprintf("try-%d", n), gathering, members)
	return gathering, members
}

func nameGroup(name string, gathering *broker.TaskRun, members []*broker.TaskRun) {
	gathering.EnsureLinks().Awaits.ID = name
	for i, m := range members {
		m.ID, m.Payload = fmt.Sprintf("%s-%d", name, i), []byte("payload of member")
		m.EnsureLinks().Group = name
	}
}

// elapse expires all keys that would have expired by then.
func elapse(t testing.TB, client *goredis.Client, d time.Duration) {
	t.Helper()
	for _, key := range keysOf(t, client, prefix(t)) {
		left := client.PTTL(t.Context(), key).Val()
		if left > d {
			require.NoError(t, client.PExpire(t.Context(), key, left-d).Err())
		} else if left > 0 {
			require.NoError(t, client.Del(t.Context(), key).Err())
		}
	}
}

// waiting returns the keys of groups and of pending runs.
func waiting(t testing.TB, client *goredis.Client) (keys []string) {
	t.Helper()
	for _, key := range keysOf(t, client, prefix(t)) {
		kind, _, _ := strings.Cut(key[strings.Index(key, "}:")+2:], ":")
		switch kind {
		case "group", "pending", "id", "u", "rec":
			keys = append(keys, key)
		}
	}
	return keys
}

// requireGroupRuns finishes the members, and takes the run that gathers them.
func requireGroupRuns(t *testing.T, b *redis.Broker, then string) {
	t.Helper()
	s := join(t, b, time.Minute)
	finishAll(t, s, takeAll(t, s, "q", 2))
	got := takeAll(t, s, then, 1)
	require.Equal(t, "gathering", got[0].ID)
	_, err := b.Members(t.Context(), got[0].Links.OrZero().Awaits)
	require.NoError(t, err)
	finishAll(t, s, got)
	require.NoError(t, s.Close(t.Context()))
}

// saysStay is in the request that keeps a pending run.
const saysStay = "\r\nstay\r\n"

// TestGroupCutOff breaks the connection at each step of the storing of a group, once, or
// for so long that the call ends.
func TestGroupCutOff(t *testing.T) {
	t.Parallel()
	for _, then := range []string{"q", "other"} {
		for _, at := range []string{":group:", "pending:", "payload of member", saysStay} {
			t.Run("before "+strings.Trim(at, ":\r\n")+" for "+then, func(t *testing.T) {
				b, l := openLossy(t, shared)
				client := raw(t, shared)
				require.NoError(t, b.QueueTasks(t.Context(), run("first", "q"), run("second", "q")))
				s := join(t, b, time.Minute)
				finishAll(t, s, takeAll(t, s, "q", 2))
				l.cut(at, false)
				gathering, members := nightly(1, then)
				err := b.QueueGroup(t.Context(), gathering, members...)
				l.restore()
				if at == saysStay {
					require.NoError(t, err, "it is stored")
				} else if err != nil {
					// The reservation is gone at once, or in a minute.
					elapse(t, client, 61*time.Second)
					gathering, members = nightly(2, then)
					require.NoError(t, b.QueueGroup(t.Context(), gathering, members...))
				}
				gathering, members = nightly(3, then)
				require.ErrorIs(t, b.QueueGroup(t.Context(), gathering, members...), broker.ErrDuplicate)
				requireGroupRuns(t, b, then)
				_, err = b.Recover(t.Context(), []string{"q", then})
				require.NoError(t, err)
			})
		}
	}
}

// TestGroupWhoseReplyIsLost is stored once, and the call returns nil.
func TestGroupWhoseReplyIsLost(t *testing.T) {
	for _, at := range []string{":group:", "pending:", "payload of member", saysStay} {
		t.Run(strings.Trim(at, ":\r\n"), func(t *testing.T) {
			b, l := openLossy(t, shared)
			l.lose(1, at)
			gathering, members := nightly(1, "other")
			require.NoError(t, b.QueueGroup(t.Context(), gathering, members...))
			require.Equal(t, 1, l.count())
			require.Equal(t, 2, length(t, b, "q"))
			requireGroupRuns(t, b, "other")
		})
	}
}

// TestGroupCutOffBeforeItsMembers leaves nothing once the connection is back.
func TestGroupCutOffBeforeItsMembers(t *testing.T) {
	b, l := openLossy(t, shared)
	l.cut("payload of member", false)
	gathering, members := nightly(1, "other")
	require.ErrorIs(t, b.QueueGroup(t.Context(), gathering, members...), broker.ErrOutcomeUnknown)
	l.restore()
	require.Empty(t, waiting(t, raw(t, shared)))
	require.Zero(t, length(t, b, "q"))
	gathering, members = nightly(2, "other")
	require.NoError(t, b.QueueGroup(t.Context(), gathering, members...))
	requireGroupRuns(t, b, "other")
}

// TestGroupOfADeadProducer has a producer die at each step. Within a minute others decide
// about the rest.
func TestGroupOfADeadProducer(t *testing.T) {
	t.Parallel()
	ways := map[string]func(t *testing.T, b *redis.Broker, then string){
		"recovered": func(t *testing.T, b *redis.Broker, then string) {
			_, err := b.Recover(t.Context(), []string{"q", then})
			require.NoError(t, err)
		},
		"cancelled": func(t *testing.T, b *redis.Broker, then string) {
			require.NoError(t, b.Cancel(t.Context(), then, "gathering", stopped))
		},
		"asked for again": func(*testing.T, *redis.Broker, string) {},
	}
	for _, then := range []string{"q", "other"} {
		for way, see := range ways {
			t.Run("before its members for "+then+" "+way, func(t *testing.T) {
				dying, l := openLossy(t, shared)
				b, client := openWith(t, shared, prefix(t)), raw(t, shared)
				l.cut("payload of member", true)
				gathering, members := nightly(1, then)
				require.Error(t, dying.QueueGroup(t.Context(), gathering, members...))
				require.NotEmpty(t, waiting(t, client))
				gathering, members = nightly(2, then)
				require.ErrorIs(t, b.QueueGroup(t.Context(), gathering, members...), broker.ErrDuplicate, "it may be on its way")
				_, err := b.Recover(t.Context(), []string{"q", then})
				require.NoError(t, err)
				require.Equal(t, broker.StateDelayed, record(t, b, then, "gathering").State)

				elapse(t, client, 61*time.Second)
				see(t, b, then)
				if way != "asked for again" {
					require.Empty(t, waiting(t, client))
				}
				gathering, members = nightly(3, then)
				require.NoError(t, b.QueueGroup(t.Context(), gathering, members...))
				requireGroupRuns(t, b, then)
			})
		}
		for _, later := range []time.Duration{0, 61 * time.Second} {
			t.Run(fmt.Sprintf("behind its members for %s %v later", then, later), func(t *testing.T) {
				dying, l := openLossy(t, shared)
				b, client := openWith(t, shared, prefix(t)), raw(t, shared)
				l.cut(saysStay, true)
				gathering, members := nightly(1, then)
				require.NoError(t, dying.QueueGroup(t.Context(), gathering, members...))
				elapse(t, client, later)
				gathering, members = nightly(2, then)
				require.ErrorIs(t, b.QueueGroup(t.Context(), gathering, members...), broker.ErrDuplicate)
				_, err := b.Recover(t.Context(), []string{"q", then})
				require.NoError(t, err)
				if later > 0 {
					for _, key := range waiting(t, client) {
						require.Negative(t, client.PTTL(t.Context(), key).Val(), key)
					}
					elapse(t, client, 10*365*24*time.Hour)
				}
				requireGroupRuns(t, b, then)
				_, err = b.Recover(t.Context(), []string{"q", then})
				require.NoError(t, err)
			})
		}
	}
}

// TestGroupWhoseMembersComeLate refuses members that were on their way when their group
// was given up.
func TestGroupWhoseMembersComeLate(t *testing.T) {
	for _, who := range []string{"the producer", "the minute"} {
		t.Run("given up by "+who, func(t *testing.T) {
			b, l := openLossy(t, shared)
			client, late := raw(t, shared), []byte(nil)
			first, members := nightly(0, "other")
			require.NoError(t, b.QueueGroup(t.Context(), first, members...)) // the server knows the script now
			requireGroupRuns(t, b, "other")
			l.cut("payload of member", false)
			l.mu.Lock()
			l.swallow = &late
			l.mu.Unlock()
			gathering, members := nightly(1, "other")
			ctx := within(t, 300*time.Millisecond)
			require.ErrorIs(t, b.QueueGroup(ctx, gathering, members...), broker.ErrOutcomeUnknown)
			l.restore()
			if who == "the minute" {
				elapse(t, client, 61*time.Second)
			}
			conn, err := net.Dial("tcp", shared.Addr())
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
			_, err = conn.Write(late)
			require.NoError(t, err)
			reply := make([]byte, len("*1\r\n:4\r\n"))
			_, err = io.ReadFull(conn, reply)
			require.NoError(t, err)
			require.Equal(t, "*1\r\n:4\r\n", string(reply), "it is refused")
			require.Zero(t, length(t, b, "q"))
			gathering, members = nightly(2, "other")
			require.NoError(t, b.QueueGroup(t.Context(), gathering, members...))
			requireGroupRuns(t, b, "other")
		})
	}
}

// TestGroupsUnderRandomCuts stores many groups over connections that break all the time:
// each is stored whole or not at all.
func TestGroupsUnderRandomCuts(t *testing.T) {
	t.Parallel()
	const groups, size, callers = 200, 3, 20
	b, l := openLossy(t, shared)
	other, client := openWith(t, shared, prefix(t)), raw(t, shared)
	ask := func(b *redis.Broker, try, n int) error {
		then := []string{"q", "other"}[n%2]
		gathering, members := group("q", then, size)
		gathering.ID = fmt.Sprintf("gathering-%d", n)
		if n%3 == 0 {
			gathering.EnsureRules().Unique = gathering.ID
		}
		nameGroup(fmt.Sprintf("try-%d-%d", try, n), gathering, members)
		return b.QueueGroup(t.Context(), gathering, members...)
	}
	l.mu.Lock()
	l.some = 0.3
	l.mu.Unlock()
	var all sync.WaitGroup
	errs := make([]error, groups)
	for c := range callers {
		all.Go(func() {
			for n := c; n < groups; n += callers {
				errs[n] = ask(b, 1, n)
			}
		})
	}
	all.Wait()
	l.restore()
	elapse(t, client, 61*time.Second)
	_, err := other.Recover(t.Context(), []string{"q", "other"})
	require.NoError(t, err)
	for _, key := range waiting(t, client) {
		require.Negative(t, client.PTTL(t.Context(), key).Val(), "%s is decided about", key)
	}
	stored := 0
	for n, err := range errs {
		there := client.Exists(t.Context(), fmt.Sprintf("%s:{q}:group:try-1-%d", prefix(t), n)).Val() == 1
		held := client.Exists(t.Context(), fmt.Sprintf("%s:{%s}:pending:gathering-%d", prefix(t), []string{"q", "other"}[n%2], n)).Val() == 1
		require.Equal(t, there, held, "group %d", n)
		require.True(t, there || err != nil, "group %d is not there, though its call had no error", n)
		again := ask(other, 2, n)
		if there {
			stored++
			require.ErrorIs(t, again, broker.ErrDuplicate, "group %d again", n)
		} else {
			require.NoError(t, again, "group %d again, after %v", n, err)
		}
	}
	require.NotZero(t, stored)
	require.Less(t, stored, groups, "some are cut off")
	require.Equal(t, groups*size, length(t, other, "q"), "each group's members, once")
	s := join(t, other, time.Minute)
	finishAll(t, s, takeAll(t, s, "q", groups*size))
	require.Equal(t, groups, length(t, other, "q")+length(t, other, "other"), "what gathers them")
}

// TestGroupWhoseMembersFailIsNotKept fails each command that stores the members, and the
// producer ends there: nothing that was reserved stays for ever.
func TestGroupWhoseMembersFailIsNotKept(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := raw(t, server)
	for script, first := range map[string]int{"enqueue": 3, "commit": 8} { // the commands before these only read
		t.Run(script, func(t *testing.T) {
			b, l := openLossyFor(t, server, 200*time.Millisecond)
			b.Instrument(failing)
			failed := 0
			for n, hit := first, true; hit; n++ {
				require.NoError(t, client.Set(t.Context(), "fail", fmt.Sprintf("%s %d 0", script, n), 0).Err())
				l.cut("\r\ndrop\r\n", true)
				gathering, members := nightly(n, "q")
				gathering.ID, gathering.Rules = fmt.Sprint("gathering-", n), nil
				members[0].Keep = time.Minute
				if script == "commit" {
					members[0].Payload = make([]byte, 2_200_000) // a large call
				}
				err := b.QueueGroup(t.Context(), gathering, members...)
				l.restore()
				hit = client.Del(t.Context(), "fail").Val() == 0
				if key := fmt.Sprintf("%s:{q}:group:try-%d", prefix(t), n); err != nil && !client.HExists(t.Context(), key, "begun").Val() {
					failed++
					require.Positive(t, client.TTL(t.Context(), key).Val(), "command %d", n)
				}
			}
			require.Positive(t, failed)
		})
	}
}

// TestResultsOfAGroupWaitWithTheRunThatGathersThem for most of a year: in a paused queue, and as
// those of a dead letter that is queued again. They go in the step that ends the run.
func TestResultsOfAGroupWaitWithTheRunThatGathersThem(t *testing.T) {
	t.Parallel()
	const long = 300 * 24 * time.Hour
	ends := map[string]func(t *testing.T, b *redis.Broker, s broker.Session, r *broker.TaskRun){
		"succeeds": func(t *testing.T, b *redis.Broker, s broker.Session, r *broker.TaskRun) {
			finishAll(t, s, []*broker.TaskRun{r})
		},
		"expires": func(t *testing.T, b *redis.Broker, s broker.Session, r *broker.TaskRun) {
			_, err := s.Finish(t.Context(), broker.Outcome{Run: r, Verdict: broker.Dropped, Failure: &broker.Failure{Kind: broker.FailureExpired}})
			require.NoError(t, err)
		},
		"is cancelled": func(t *testing.T, b *redis.Broker, s broker.Session, r *broker.TaskRun) {
			require.NoError(t, b.Cancel(t.Context(), r.Queue, r.ID, stopped))
			_, err := s.Finish(t.Context(), broker.Outcome{Run: r, Verdict: broker.Retry, Failure: failedOnce()})
			require.NoError(t, err)
		},
	}
	for end, do := range ends {
		for _, then := range []string{"q", "other"} {
			t.Run(end+" in "+then, func(t *testing.T) {
				t.Parallel()
				b, client := open(t, shared, redis.Config{}), raw(t, shared)
				gathering, members := group("q", then, 2)
				require.NoError(t, b.QueueGroup(t.Context(), gathering, members...))
				s := join(t, b, time.Minute)
				finishAll(t, s, takeAll(t, s, "q", 2))
				require.Eventually(t, func() bool { return length(t, b, then) == 1 }, 10*time.Second, time.Millisecond)
				elapse(t, client, long)
				s = join(t, b, time.Minute)
				got := takeAll(t, s, then, 1)
				requireMembers(t, b, got[0])
				_, err := s.Finish(t.Context(), broker.Outcome{Run: got[0], Verdict: broker.Dead, Failure: failedOnce()})
				require.NoError(t, err)
				elapse(t, client, broker.GroupKept-time.Hour)
				_, err = b.RequeueDead(t.Context(), then, "gathering")
				require.NoError(t, err)
				elapse(t, client, long)
				s = join(t, b, time.Minute)
				got = takeAll(t, s, then, 1)
				requireMembers(t, b, got[0])
				do(t, b, s, got[0])
				require.Eventually(t, func() bool {
					return client.Exists(t.Context(), prefix(t)+":{q}:group:g").Val() == 0
				}, 10*time.Second, time.Millisecond, "the end of the run forgets them")
				require.Zero(t, client.Exists(t.Context(), prefix(t)+":{"+then+"}:outbox").Val())
			})
		}
	}
}

// failedOnce is a failure.
func failedOnce() *broker.Failure { return &broker.Failure{Kind: broker.FailureFailed, Message: "no"} }

func requireMembers(t *testing.T, b *redis.Broker, gathering *broker.TaskRun) {
	t.Helper()
	members, err := b.Members(t.Context(), gathering.Links.Awaits)
	require.NoError(t, err)
	require.Len(t, members, 2)
	require.Equal(t, broker.StateSucceeded, members[0].State)
}

// TestAGroupIsRefusedByName names the member whose id a live run has, in calls of all sizes.
func TestAGroupIsRefusedByName(t *testing.T) {
	t.Parallel()
	for _, size := range []int{3, 4000} {
		b := open(t, shared, redis.Config{Prefix: fmt.Sprint(prefix(t), size)})
		gathering, members := group("q", "q", size)
		for _, m := range members {
			m.OwnID = true
		}
		require.NoError(t, b.QueueTasks(t.Context(), ownKept("member-2", "q")))
		err := b.QueueGroup(t.Context(), gathering, members...)
		require.ErrorContains(t, err, "queue group: run member-2, queued or running, has the same parameters or id")
		var duplicate *broker.DuplicateError
		require.ErrorAs(t, err, &duplicate)
		require.Equal(t, []broker.Duplicate{{Index: 2, ID: "member-2"}}, duplicate.Runs)
	}
}

// TestAnOutboxOfAWrongType is named once by who cannot use it.
func TestAnOutboxOfAWrongTypeIsNamedOnce(t *testing.T) {
	t.Parallel()
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	b.Unrepairable()
	require.NoError(t, c.Set(t.Context(), prefix(t)+":{q}:outbox", "x", 0).Err())
	gathering, members := group("q", "q", 2)
	members[1].Queue, members[1].Links.GroupQueue = "other", "q"
	err := b.QueueGroup(t.Context(), gathering, members...)
	require.ErrorContains(t, err, "rename or delete it")
	require.Equal(t, 1, strings.Count(err.Error(), "rename or delete it"), err)
}
