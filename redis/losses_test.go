package redis_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
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

// losses makes connections that lose the replies to chosen requests: the connection breaks
// after the server has executed them.
type losses struct {
	mu    sync.Mutex
	match []byte
	left  int
	lost  int
	then  func() // called when the server has replied, before the loss shows

	cutting []byte  // connections break as they send a request that contains it; nil: none
	stays   bool    // then they do with any other too
	swallow *[]byte // requests that would cut are taken and not sent on, but kept here
	some    float64 // how many of all requests break their connections, half unsent
}

// cut breaks connections before they send a request that contains match. With stays, all
// later ones break too.
func (l *losses) cut(match string, stays bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cutting, l.stays, l.swallow, l.some = []byte(match), stays, nil, 0
}

// restore lets connections work again.
func (l *losses) restore() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cutting, l.swallow, l.some, l.left = nil, nil, 0, 0
}

// fate returns what happens to a request: it is lost unsent, it is swallowed, or its reply
// is lost. The lock is held.
func (l *losses) fate(b []byte) (cut, swallowed, loseReply bool) {
	if l.cutting != nil && bytes.Contains(b, l.cutting) {
		if l.swallow != nil {
			*l.swallow = bytes.Clone(b)
			return false, true, false
		}
		if l.stays {
			l.cutting = []byte{}
		}
		return true, false, false
	}
	if l.some > 0 && rand.Float64() < l.some {
		cut = rand.N(2) == 0
		return cut, false, !cut
	}
	loseReply = l.left > 0 && bytes.Contains(b, l.match)
	if loseReply {
		l.left--
		l.lost++
	}
	return false, false, loseReply
}

// lose breaks the connections of the next n requests that contain match.
func (l *losses) lose(n int, match string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.match, l.left, l.lost, l.then = []byte(match), n, 0, nil
}

// loseAfter is lose once, which happens after then was called.
func (l *losses) loseAfter(match string, then func()) {
	l.lose(1, match)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.then = then
}

func (l *losses) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

func (l *losses) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &lossyConn{Conn: conn, losses: l}, nil
}

type lossyConn struct {
	net.Conn
	losses *losses

	mu        sync.Mutex
	loseReply bool
}

func (c *lossyConn) Write(b []byte) (int, error) {
	c.losses.mu.Lock()
	cut, swallowed, loseReply := c.losses.fate(b)
	c.losses.mu.Unlock()
	if swallowed {
		return len(b), nil
	}
	if cut {
		c.Conn.Close()
		return len(b), nil // as far as the sender can tell
	}
	c.mu.Lock()
	c.loseReply = c.loseReply || loseReply
	c.mu.Unlock()
	return c.Conn.Write(b)
}

func (c *lossyConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loseReply && n > 0 {
		c.losses.mu.Lock()
		then := c.losses.then
		c.losses.mu.Unlock()
		if then != nil {
			then()
		}
		c.Conn.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// openLossy opens a broker whose connections lose replies.
func openLossy(t testing.TB, s *redistest.Server) (*redis.Broker, *losses) {
	t.Helper()
	return openLossyFor(t, s, 3*time.Second)
}

// openLossyFor does so with a timeout.
func openLossyFor(t testing.TB, s *redistest.Server, timeout time.Duration) (*redis.Broker, *losses) {
	t.Helper()
	l := new(losses)
	clean(t, s)
	client := goredis.NewClient(&goredis.Options{Addr: s.Addr(), Dialer: l.dial})
	b, err := redis.New(client, redis.Config{Prefix: prefix(t), Timeout: timeout})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, b.Close())
		require.NoError(t, client.Close(), "the client is the caller's to close")
	})
	return b, l
}

func length(t testing.TB, b *redis.Broker, queue string) int {
	t.Helper()
	lengths, err := b.QueueLength(t.Context())
	require.NoError(t, err)
	return int(lengths[queue])
}

func join(t testing.TB, b *redis.Broker, lease time.Duration) broker.Session {
	t.Helper()
	s, err := b.OpenSession(t.Context(), lease)
	require.NoError(t, err)
	return s
}

func TestLostReplyToQueueTasksIsUnknownAndNotRepeated(t *testing.T) {
	b, l := openLossy(t, shared)
	require.NoError(t, b.QueueTasks(t.Context(), run("first", "q")))
	l.lose(1, "payload of second")
	err := b.QueueTasks(t.Context(), run("second", "q"))
	require.ErrorIs(t, err, broker.ErrOutcomeUnknown)
	require.Equal(t, 1, l.count())
	require.Equal(t, 2, length(t, b, "q"), "the server had stored it, once")
}

func TestLostReplyToQueueTasksWithOwnIDIsRepeated(t *testing.T) {
	b, l := openLossy(t, shared)
	own := run("mine", "q")
	own.OwnID = true
	l.lose(1, "payload of mine")
	require.NoError(t, b.QueueTasks(t.Context(), own), "the token tells it from another's run")
	require.Equal(t, 1, l.count())
	require.Equal(t, 1, length(t, b, "q"))
	require.ErrorIs(t, b.QueueTasks(t.Context(), own), broker.ErrDuplicate)
}

// TestLostReplyToQueueTasksOfARunThatEndedMeanwhile loses the reply, and has
// the run executed to its end before the broker asks again.
func TestLostReplyToQueueTasksOfARunThatEndedMeanwhile(t *testing.T) {
	claims := map[string]func(*broker.TaskRun){
		"own id":     func(r *broker.TaskRun) { r.OwnID = true },
		"unique key": func(r *broker.TaskRun) { r.EnsureRules().Unique = "key" },
	}
	for name, verdict := range map[string]broker.Verdict{
		"succeeded": broker.Succeeded, "dropped": broker.Dropped, "dead": broker.Dead,
	} {
		for what, claim := range claims {
			t.Run(name+" with "+what, func(t *testing.T) {
				b, l := openLossy(t, shared)
				s := join(t, open(t, shared, redis.Config{}), time.Minute)
				end := func() error {
					got, err := s.Take(within(t, time.Second), broker.Want{Queues: []string{"q"}, IO: 10})
					if err == nil {
						_, err = s.Finish(t.Context(), broker.Outcome{Run: got[0], Verdict: verdict})
					}
					return err
				}
				own := run("mine", "q")
				claim(own)
				ended := make(chan error, 1)
				l.loseAfter("payload of mine", func() { ended <- end() })
				require.NoError(t, b.QueueTasks(t.Context(), own))
				require.NoError(t, <-ended)
				require.Equal(t, 1, l.count())
				require.Zero(t, length(t, b, "q"), "it was stored and has ended")
				require.NoError(t, b.QueueTasks(t.Context(), own), "the %s is free", what)
				require.ErrorIs(t, b.QueueTasks(t.Context(), own), broker.ErrDuplicate)
				require.NoError(t, end())
			})
		}
	}
}

func TestLostReplyToTheNameOfAQueue(t *testing.T) {
	b, l := openLossy(t, shared)
	l.lose(2, "sadd")
	require.NoError(t, b.QueueTasks(t.Context(), run("one", "q")))
	require.Equal(t, 2, l.count())
	require.Equal(t, 1, length(t, b, "q"))
}

func TestLostReplyToRenewDoesNotHideALoss(t *testing.T) {
	b, l := openLossy(t, shared)
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 3)...))
	s := join(t, b, 5*time.Millisecond)
	_, err := s.Take(t.Context(), broker.Want{Queues: []string{"q"}, IO: 3})
	require.NoError(t, err)
	require.NoError(t, s.Renew(t.Context())) // the server knows the script now
	require.Eventually(t, func() bool {
		recovered, err := b.Recover(t.Context(), []string{"q"})
		return err == nil && recovered.Runs == 3
	}, 5*time.Second, 5*time.Millisecond)
	l.lose(1, ":lost:")
	err = s.Renew(t.Context())
	require.Equal(t, 1, l.count())
	require.ErrorIs(t, err, broker.ErrLeaseLost)
	require.NoError(t, s.Renew(t.Context()), "Renew has reported the loss")
}

func TestLostReplyToQueueTickQueuesOnce(t *testing.T) {
	b, l := openLossy(t, shared)
	tick := time.Unix(1_700_000_000, 123)
	l.lose(1, "payload of tick")
	err := b.QueueTick(t.Context(), run("tick", "q"), tick)
	require.ErrorIs(t, err, broker.ErrDuplicate, "it was claimed, by the call whose reply was lost")
	require.Equal(t, 1, length(t, b, "q"))
	last, err := b.LastTick(t.Context(), "q", "task")
	require.NoError(t, err)
	require.Equal(t, tick.UTC(), last)
}

func TestLostReplyToTakeReturnsTheSameBatch(t *testing.T) {
	t.Parallel()
	for _, lost := range []int{1, 2, 20} {
		b, l := openLossy(t, shared)
		require.NoError(t, b.QueueTasks(t.Context(), runs("q", 5)...))
		s := join(t, b, 10*time.Second)
		want := broker.Want{Queues: []string{"q"}, IO: 3}
		l.lose(lost, ":inflight")
		var got []*broker.TaskRun
		for len(got) == 0 {
			got, _ = s.Take(within(t, 5*time.Second), want)
			if l.count() >= 3 {
				l.lose(0, "")
			}
		}
		require.Equal(t, []string{"run-0", "run-1", "run-2"}, ids(got), "with %d lost replies", lost)
		require.Equal(t, 1, got[0].Deliveries)
		require.Equal(t, 2, length(t, b, "q"), "no second batch was taken")
		done, err := s.Finish(t.Context(), succeeded(got)...)
		require.NoError(t, err)
		require.Empty(t, done.Fenced)
		rest, err := s.Take(within(t, 5*time.Second), want)
		require.NoError(t, err)
		require.Equal(t, []string{"run-3", "run-4"}, ids(rest))
		_, err = s.Finish(t.Context(), succeeded(rest)...)
		require.NoError(t, err)
	}
}

// TestRepeatedTakeKeepsItsBatchThoughTheServerForgotItsNumber loses the reply to a take,
// and what the server knows of the session's batches, and queues more runs before the take
// is repeated.
func TestRepeatedTakeKeepsItsBatchThoughTheServerForgotItsNumber(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, c *goredis.Client, base, session string){
		"the field is deleted": func(t *testing.T, c *goredis.Client, base, session string) {
			require.NoError(t, c.HDel(t.Context(), base+"takes", session).Err())
		},
		"the field is a number that no take had": func(t *testing.T, c *goredis.Client, base, session string) {
			require.NoError(t, c.HSet(t.Context(), base+"takes", session, "9007199254740993").Err())
		},
		"the field is no number, and the queue is repaired": func(t *testing.T, c *goredis.Client, base, session string) {
			require.NoError(t, c.HSet(t.Context(), base+"takes", session, "x").Err())
			require.NoError(t, c.Set(t.Context(), base+"outbox", "x", 0).Err())
			_, err := open(t, shared, redis.Config{Prefix: strings.TrimSuffix(base, ":{q}:")}).Recover(t.Context(), []string{"q"})
			require.NoError(t, err)
			require.Zero(t, c.Exists(t.Context(), base+"outbox").Val(), "it was quarantined")
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, l := openLossy(t, shared)
			c, base := raw(t, shared), prefix(t)+":{q}:"
			s := join(t, b, 10*time.Second)
			_, err := s.Take(within(t, 50*time.Millisecond), broker.Want{Queues: []string{"q"}, IO: 1})
			require.ErrorIs(t, err, context.DeadlineExceeded) // the server knows the script now
			require.NoError(t, b.QueueTasks(t.Context(), runs("q", 3)...))
			lost := make(chan struct{})
			l.loseAfter(":inflight", func() {
				defer close(lost)
				lose(t, c, base, s.ID())
				require.NoError(t, open(t, shared, redis.Config{Prefix: prefix(t)}).QueueTasks(t.Context(), run("more", "q")))
			})
			var got []*broker.TaskRun
			for len(got) < 4 {
				some, err := s.Take(within(t, 5*time.Second), broker.Want{Queues: []string{"q"}, IO: 10})
				require.NoError(t, err)
				got = append(got, some...)
			}
			<-lost
			require.Equal(t, []string{"run-0", "run-1", "run-2", "more"}, ids(got))
			done, err := s.Finish(t.Context(), succeeded(got)...)
			require.NoError(t, err)
			require.Empty(t, done.Fenced)
		})
	}
}

func TestBatchWhoseReplyWasLostIsReturnedThoughOtherQueuesAreWanted(t *testing.T) {
	b, l := openLossy(t, shared)
	require.NoError(t, b.QueueTasks(t.Context(), runs("a", 3)...))
	require.NoError(t, b.QueueTasks(t.Context(), runs("b", 3)...))
	s := join(t, b, 10*time.Second)
	l.lose(1000, ":inflight")
	_, err := s.Take(t.Context(), broker.Want{Queues: []string{"a"}, IO: 2})
	require.Error(t, err)
	l.lose(0, "")
	got, err := s.Take(t.Context(), broker.Want{Queues: []string{"b"}, IO: 2})
	require.NoError(t, err)
	require.Equal(t, "a", got[0].Queue)
	require.Equal(t, []string{"run-0", "run-1"}, ids(got))
	got, err = s.Take(t.Context(), broker.Want{Queues: []string{"b"}, IO: 2})
	require.NoError(t, err)
	require.Equal(t, "b", got[0].Queue)
	require.Equal(t, 1, length(t, b, "a"), "nothing more was taken from a queue that was not wanted")
}

func TestLostReplyToGetTaskRunsLosesNothing(t *testing.T) {
	for _, match := range []string{":inflight", ":d:"} { // of take, of finish
		b, l := openLossy(t, shared)
		queue := "q" + strings.Trim(match, ":")
		require.NoError(t, b.QueueTasks(t.Context(), runs(queue, 4)...))
		l.lose(1, match)
		got, err := b.GetTaskRuns(t.Context(), []string{queue}, 3)
		require.NoError(t, err)
		require.Equal(t, []string{"run-0", "run-1", "run-2"}, ids(got))
		require.Equal(t, 1, length(t, b, queue))
	}
}

// TestCancelledGetTaskRunsLosesNothing cancels the call after runs were taken, and before
// the server has replied that they are forgotten.
func TestCancelledGetTaskRunsLosesNothing(t *testing.T) {
	b, l := openLossy(t, shared)
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 4)...))
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	l.loseAfter(":d:", func() {
		cancel()
		select {
		case <-release:
		case <-time.After(3 * time.Second):
		}
	})
	start := time.Now()
	_, err := b.GetTaskRuns(ctx, []string{"q"}, 3)
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, time.Since(start), time.Second)
	close(release)
	seen := map[string]int{}
	for len(seen) < 4 {
		got, err := b.GetTaskRuns(within(t, 5*time.Second), []string{"q"}, 3)
		require.NoError(t, err)
		for _, r := range got {
			seen[r.ID]++
		}
	}
	for id, n := range seen {
		require.Equal(t, 1, n, id)
	}
}

func TestLostReplyToFinishAppliesOnce(t *testing.T) {
	b, l := openLossy(t, shared)
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 2)...))
	s := join(t, b, 10*time.Second)
	got, err := s.Take(t.Context(), broker.Want{Queues: []string{"q"}, IO: 2})
	require.NoError(t, err)
	got[0].Attempt = 1
	l.lose(1, "payload of run-0")
	done, err := s.Finish(t.Context(),
		broker.Outcome{Run: got[0], Verdict: broker.Retry, Delay: time.Hour},
		broker.Outcome{Run: got[1], Verdict: broker.Dead, Failure: &broker.Failure{Kind: broker.FailureFailed}})
	require.NoError(t, err)
	require.Equal(t, 1, l.count())
	require.Equal(t, ids(got), ids(done.Fenced), "what the first try applied is fenced in the second")
	require.Equal(t, 1, length(t, b, "q"), "one retry")
	dead, err := b.DeadLetters(t.Context(), "q", 10)
	require.NoError(t, err)
	require.Len(t, dead, 1)
	require.NoError(t, s.Renew(t.Context()), "nothing was lost to another")
}

func TestLostReplyToRecoverGivesBackOnce(t *testing.T) {
	b, l := openLossy(t, shared)
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 3)...))
	s := join(t, b, time.Millisecond)
	_, err := s.Take(t.Context(), broker.Want{Queues: []string{"q"}, IO: 3})
	require.NoError(t, err)
	l.lose(1, "recover")
	require.Eventually(t, func() bool {
		_, err := b.Recover(t.Context(), []string{"q"})
		return err == nil && length(t, b, "q") == 3
	}, 5*time.Second, 5*time.Millisecond)
	require.Equal(t, 1, l.count())
	require.ErrorIs(t, s.Renew(t.Context()), broker.ErrLeaseLost)
	require.NoError(t, s.Renew(t.Context()), "Renew has reported the loss")
}

func succeeded(runs []*broker.TaskRun) []broker.Outcome {
	list := make([]broker.Outcome, len(runs))
	for i, r := range runs {
		list[i] = broker.Outcome{Run: r, Verdict: broker.Succeeded}
	}
	return list
}
