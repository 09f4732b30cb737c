package redis_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

func TestScriptFlushIsNotNoticed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b, client := open(t, server, redis.Config{}), raw(t, server)
	ctx, stop := context.WithCancel(t.Context())
	var flushes sync.WaitGroup
	flushes.Go(func() {
		for ctx.Err() == nil {
			_ = client.ScriptFlush(ctx).Err()
		}
	})
	const total = 500
	s := join(t, b, 10*time.Second)
	seen := map[string]int{}
	for i := range total {
		r := run(fmt.Sprint(i), "q")
		r.OwnID = i%2 == 0 // stored by a script
		require.NoError(t, b.QueueTasks(t.Context(), r))
		if i%10 != 9 {
			continue
		}
		got, err := s.Take(within(t, 5*time.Second), broker.Want{Queues: []string{"q"}, IO: 10})
		require.NoError(t, err)
		require.NoError(t, s.Renew(t.Context()))
		for _, r := range got {
			seen[r.ID]++
		}
		done, err := s.Finish(t.Context(), succeeded(got)...)
		require.NoError(t, err)
		require.Empty(t, done.Fenced)
	}
	stop()
	flushes.Wait()
	require.Len(t, seen, total)
	require.Zero(t, length(t, b, "q"))
}

// ledger is what callers of a broker know of the runs.
type ledger struct {
	mu                          sync.Mutex
	accepted, started, finished map[string]int
}

func newLedger() *ledger {
	return &ledger{accepted: map[string]int{}, started: map[string]int{}, finished: map[string]int{}}
}

func (l *ledger) note(m map[string]int, runs ...*broker.TaskRun) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range runs {
		m[r.ID]++
	}
}

func (l *ledger) count(m map[string]int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(m)
}

// missing returns the accepted runs that never were started.
func (l *ledger) missing() (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.accepted {
		if l.started[id] == 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// consume takes and finishes once, as far as the server lets it.
func (l *ledger) consume(ctx context.Context, s broker.Session, max int) {
	got, err := s.Take(ctx, broker.Want{Queues: []string{"q"}, IO: max})
	if err != nil {
		return
	}
	l.note(l.started, got...)
	done, err := s.Finish(ctx, succeeded(got)...)
	if err != nil {
		return
	}
	l.note(l.finished, slices.DeleteFunc(got, func(r *broker.TaskRun) bool { return slices.Contains(done.Fenced, r) })...)
}

// TestKilledServerLosesNothingAcknowledged kills the server under load, with
// every write synced before its reply.
func TestKilledServerLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendfsync", "always")
	b := open(t, server, redis.Config{Timeout: time.Second})
	consumer := join(t, b, 300*time.Millisecond)
	l := newLedger()
	var (
		next    atomic.Int64
		stop    atomic.Bool
		workers sync.WaitGroup
	)
	for range 4 {
		workers.Go(func() {
			for !stop.Load() {
				r := run(fmt.Sprint(next.Add(1)), "q")
				if b.QueueTasks(t.Context(), r) == nil {
					l.note(l.accepted, r)
				}
			}
		})
	}
	workers.Go(func() {
		for !stop.Load() {
			l.consume(within(t, time.Second), consumer, 7)
		}
	})
	for kills := range 3 {
		if kills > 0 {
			server.Kill9()
			server.Restart()
		}
		before := l.count(l.accepted)
		require.Eventually(t, func() bool { return l.count(l.accepted) > before+100 }, 20*time.Second, time.Millisecond)
	}
	stop.Store(true)
	workers.Wait()

	client := raw(t, server)
	require.Eventually(t, func() bool {
		_, err := b.Recover(t.Context(), []string{"q"})
		l.consume(within(t, 200*time.Millisecond), consumer, 500)
		return err == nil && length(t, b, "q") == 0 && client.SCard(t.Context(), prefix(t)+":{q}:inflight").Val() == 0
	}, 20*time.Second, time.Millisecond)
	t.Logf("%d accepted, %d started, %d known to be finished", len(l.accepted), len(l.started), len(l.finished))
	require.Empty(t, l.missing(), "accepted, but never started")
	for id, n := range l.finished {
		require.Equal(t, 1, n, "how often run %s was finished", id)
	}
}

func TestUnreadableEntriesAreIsolated(t *testing.T) {
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	base := prefix(t) + ":{q}:"
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 2)...))
	valid, err := client.LIndex(t.Context(), base+"io:1", 0).Result()
	require.NoError(t, err)
	for _, bad := range []string{"", "x", strings.Repeat("\x01", 300), valid[:len(valid)-3], valid[:12]} {
		require.NoError(t, client.RPush(t.Context(), base+"io:1", bad).Err())
		require.NoError(t, client.ZAdd(t.Context(), base+"delayed", goredis.Z{Score: 1, Member: bad}).Err())
	}
	last := run("last", "q")
	require.NoError(t, b.QueueTasks(t.Context(), last))

	s := join(t, b, 10*time.Second)
	got := takeAll(t, s, "q", 3)
	require.ElementsMatch(t, []string{"run-0", "run-1", "last"}, ids(got))
	dead, err := b.DeadLetters(t.Context(), "q", 100)
	require.NoError(t, err)
	require.Len(t, dead, 10)
	for _, d := range dead {
		require.Nil(t, d.Run)
		require.Equal(t, broker.FailureSchema, d.Failure.Kind)
		require.WithinDuration(t, time.Now(), d.At, time.Minute)
	}
	done, err := s.Finish(t.Context(), succeeded(got)...)
	require.NoError(t, err)
	require.Empty(t, done.Fenced)
	require.Zero(t, client.Exists(t.Context(), base+"inflight").Val(), "no batch is left")
}

func takeAll(t testing.TB, s broker.Session, queue string, n int) (all []*broker.TaskRun) {
	t.Helper()
	for len(all) < n {
		got, err := s.Take(within(t, 5*time.Second), broker.Want{Queues: []string{queue}, IO: 100, CPU: 100})
		require.NoError(t, err)
		all = append(all, got...)
	}
	return all
}

func TestUnreadableEntryDoesNotStopRecovery(t *testing.T) {
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	base := prefix(t) + ":{q}:"
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 5)...))
	s := join(t, b, 20*time.Millisecond)
	got, err := s.Take(t.Context(), broker.Want{Queues: []string{"q"}, IO: 5})
	require.NoError(t, err)
	require.NoError(t, client.LSet(t.Context(), base+"f:"+s.ID()+":1", 2, "broken").Err())
	require.Eventually(t, func() bool {
		recovered, err := b.Recover(t.Context(), []string{"q"})
		require.NoError(t, err)
		return recovered.Runs == 4
	}, 5*time.Second, time.Millisecond)
	dead, err := b.DeadLetters(t.Context(), "q", 10)
	require.NoError(t, err)
	require.Len(t, dead, 1)
	require.Equal(t, "broken", string(dead[0].Raw))
	done, err := s.Finish(t.Context(), succeeded(got)...)
	require.NoError(t, err)
	require.Len(t, done.Fenced, 5)
	again := takeAll(t, join(t, b, time.Minute), "q", 4)
	require.Equal(t, []string{"run-0", "run-1", "run-3", "run-4"}, ids(again))
	require.Equal(t, 2, again[0].Deliveries)
}

func TestFullMemoryRefusesOnlyNewRuns(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b, client := open(t, server, redis.Config{}), raw(t, server)
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 30)...))
	s := join(t, b, time.Minute)
	held := takeAll(t, s, "q", 1)[:1]
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "1mb").Err())

	err := b.QueueTasks(t.Context(), run("more", "q"))
	require.ErrorIs(t, err, broker.ErrQueueFull)
	require.ErrorIs(t, b.QueueTasks(t.Context(), run("other", "new")), broker.ErrQueueFull)
	require.NoError(t, s.Renew(t.Context()))
	held[0].Keep = time.Minute
	done, err := s.Finish(t.Context(), broker.Outcome{Run: held[0], Verdict: broker.Retry})
	require.NoError(t, err)
	require.Empty(t, done.Fenced)
	got := takeAll(t, s, "q", 1)
	require.Equal(t, held[0].ID, got[0].ID)
	_, err = s.Finish(t.Context(), succeeded(got)...)
	require.NoError(t, err)
	require.NoError(t, s.Close(t.Context()))
	_, err = b.Recover(t.Context(), []string{"q"})
	require.NoError(t, err)
	require.Equal(t, 29, length(t, b, "q"))

	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "0").Err())
	require.NoError(t, b.QueueTasks(t.Context(), run("more", "q")))
}

// TestConcurrentQueueingWithCancels checks the replies to callers that share commands: a
// run that was accepted is there once, and one that was refused is not.
func TestConcurrentQueueingWithCancels(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	var (
		callers                     sync.WaitGroup
		mu                          sync.Mutex
		accepted, refused, doubtful = map[string]bool{}, map[string]bool{}, map[string]bool{}
	)
	for c := range 32 {
		callers.Go(func() {
			for i := range 50 {
				r := run(fmt.Sprintf("%d-%d", c, i), "q")
				r.OwnID = i%7 == 0
				ctx, cancel := context.WithCancel(t.Context())
				if i%2 == 0 {
					ctx, cancel = context.WithTimeout(t.Context(), rand.N(2*time.Millisecond))
				}
				err := b.QueueTasks(ctx, r)
				cancel()
				mu.Lock()
				switch {
				case err == nil:
					accepted[r.ID] = true
				case errors.Is(err, broker.ErrOutcomeUnknown):
					doubtful[r.ID] = true
				default:
					refused[r.ID] = true
				}
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	t.Logf("%d accepted, %d refused, %d unknown", len(accepted), len(refused), len(doubtful))
	seen := map[string]int{}
	for n := length(t, b, "q"); len(seen) < n; {
		got, err := b.GetTaskRuns(within(t, 5*time.Second), []string{"q"}, 1000)
		require.NoError(t, err)
		for _, r := range got {
			seen[r.ID]++
		}
	}
	require.Zero(t, length(t, b, "q"))
	for id := range accepted {
		require.Equal(t, 1, seen[id], "accepted run %s", id)
	}
	for id, n := range seen {
		require.Equal(t, 1, n, "run %s", id)
		require.False(t, refused[id], "run %s was refused with an error that says it is not stored", id)
	}
}

// TestFinishGoesThroughAllQueues breaks one queue's dead letters: outcomes in
// other queues are applied, and not fenced when the caller tries again.
func TestFinishGoesThroughAllQueues(t *testing.T) {
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	queues := []string{"a", "b", "c"}
	s := join(t, b, time.Minute)
	var outcomes []broker.Outcome
	for _, queue := range queues {
		require.NoError(t, b.QueueTasks(t.Context(), runs(queue, 2)...))
		for _, r := range takeAll(t, s, queue, 2) {
			outcomes = append(outcomes, broker.Outcome{Run: r, Verdict: broker.Dead})
		}
	}
	for _, queue := range queues[:2] {
		require.NoError(t, client.Set(t.Context(), prefix(t)+":{"+queue+"}:dead", "no list", 0).Err())
	}
	_, err := s.Finish(t.Context(), outcomes...)
	require.ErrorContains(t, err, "queue a")
	require.ErrorContains(t, err, "queue b")
	letters, err := b.DeadLetters(t.Context(), "c", 10)
	require.NoError(t, err)
	require.Len(t, letters, 2, "dead letters of the queue that works")
	for _, queue := range queues[:2] {
		require.NoError(t, client.Del(t.Context(), prefix(t)+":{"+queue+"}:dead").Err())
	}
	done, err := s.Finish(t.Context(), outcomes...)
	require.NoError(t, err)
	require.Empty(t, done.Fenced, "each was applied once, by one of the two calls")
	for _, queue := range queues {
		letters, err := b.DeadLetters(t.Context(), queue, 10)
		require.NoError(t, err)
		require.Len(t, letters, 2, "dead letters of queue %s", queue)
	}
	done, err = s.Finish(t.Context(), outcomes...)
	require.NoError(t, err)
	require.Len(t, done.Fenced, len(outcomes), "now they are known to the caller")
}

func TestEnvelopeOfUnknownKindIsBuried(t *testing.T) {
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	list := prefix(t) + ":{q}:cpu:1"
	r := run("strange", "q")
	r.Kind = broker.CPU
	require.NoError(t, b.QueueTasks(t.Context(), r))
	e, err := client.LPop(t.Context(), list).Bytes()
	require.NoError(t, err)
	require.NoError(t, client.RPush(t.Context(), list, bytes.Replace(e, []byte("\xa1k\x01"), []byte("\xa1k\x05"), 1)).Err())
	_, err = join(t, b, time.Minute).Take(within(t, 200*time.Millisecond), broker.Want{Queues: []string{"q"}, IO: 1, CPU: 1})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	letters, err := b.DeadLetters(t.Context(), "q", 10)
	require.NoError(t, err)
	require.Len(t, letters, 1)
	require.ErrorContains(t, errors.New(letters[0].Failure.Message), "unknown kind 5")
}
