package redis_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// regress is a way for a server to go back in time: everything between remember and forget
// is lost.
type regress struct {
	name  string
	start func(t *testing.T) (url string, remember, forget func())
}

func regresses() []regress {
	return []regress{
		{"a replica that lags takes over", func(t *testing.T) (string, func(), func()) {
			master, replica := startPair(t)
			address := redistest.StartAddress(t, master)
			return address.URL(), func() {
					requireConfirmed(t, master)
					require.NoError(t, raw(t, replica).Do(t.Context(), "REPLICAOF", "NO", "ONE").Err())
				}, func() {
					master.Kill9()
					address.MoveTo(replica)
				}
		}},
		{"the append-only file loses its end", func(t *testing.T) (string, func(), func()) {
			server := redistest.Start(t, "--appendfsync", "always")
			var file string
			var size int64
			return server.URL(), func() {
					files, err := filepath.Glob(filepath.Join(server.Dir(), "appendonlydir", "*.incr.aof"))
					require.NoError(t, err)
					require.Len(t, files, 1)
					info, err := os.Stat(files[0])
					require.NoError(t, err)
					file, size = files[0], info.Size()
				}, func() {
					server.Kill9()
					require.NoError(t, os.Truncate(file, size+50)) // in the middle of a command
					server.Restart()
				}
		}},
	}
}

// past is a queue of a server that goes back in time, and the session that works on it.
type past struct {
	*testing.T
	b       *redis.Broker
	session broker.Session
	long    []*broker.TaskRun // goes on meanwhile
	forget  func()
}

const shortLease = 2 * time.Second

func newPast(t *testing.T, r regress) (p *past, remember func()) {
	url, remember, forget := r.start(t)
	b := openURL(t, url, redis.Config{Timeout: time.Second})
	p = &past{T: t, b: b, session: join(t, b, shortLease), forget: forget}
	require.NoError(t, b.QueueTasks(t.Context(), run("long", "q")))
	p.long = p.take(1)
	return p, remember
}

func (p *past) take(n int) []*broker.TaskRun {
	p.Helper()
	got, err := p.session.Take(within(p, 5*time.Second), broker.Want{Queues: []string{"q"}, IO: n})
	require.NoError(p, err)
	require.Len(p, got, n)
	return got
}

func (p *past) finish(outcomes ...broker.Outcome) {
	p.Helper()
	done, err := p.session.Finish(within(p, 5*time.Second), outcomes...)
	require.NoError(p, err)
	require.Empty(p, done.Fenced)
}

// renewUntil renews the lease as a consumer does, until a condition holds.
func (p *past) renewUntil(is func() bool, what string) {
	p.Helper()
	limit := within(p, shortLease)
	for {
		ctx, cancel := context.WithTimeout(p.Context(), shortLease/3)
		err := p.session.Renew(ctx)
		cancel()
		if err != nil {
			require.NotErrorIs(p, err, broker.ErrLeaseLost)
		}
		if is() {
			return
		}
		require.NoError(p, limit.Err(), "not within a lease: %s", what)
		select {
		case <-time.After(shortLease / 20):
		case <-limit.Done():
		}
	}
}

func (p *past) state(id string) broker.State {
	p.Helper()
	record, err := p.b.Record(within(p, 5*time.Second), "q", id)
	require.NoError(p, err)
	return record.State
}

// requireInOrder checks that the queue is whole, and that the end of the long run still
// counts.
func (p *past) requireInOrder() {
	p.Helper()
	report, err := p.b.Audit(within(p, 10*time.Second), "q", false)
	require.NoError(p, err)
	require.Zero(p, report.Faults(), "%+v", report)
	p.finish(succeeded(p.long)...)
	require.NoError(p, p.session.Renew(within(p, 5*time.Second)))
	info, err := p.b.Queue(within(p, 5*time.Second), "q")
	require.NoError(p, err)
	require.Zero(p, info.Running, "runs in flight")
}

// holdsAll is a short run of which the server keeps all that can be kept.
func holdsAll(id string) *broker.TaskRun {
	r := run(id, "q")
	r.OwnID, r.Keep = true, time.Minute
	r.EnsureRules().Unique = "key-" + id
	r.Rules.Limits = []broker.Limit{{Key: "limit-" + id, Max: 1}}
	return r
}

// TestForgottenEndsAreAppliedAgain has runs end in every way, in batches of one and of
// several. The server forgets the ends while the session holds another run.
func TestForgottenEndsAreAppliedAgain(t *testing.T) {
	t.Parallel()
	for _, r := range regresses() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			p, remember := newPast(t, r)
			names := []string{"good", "dead", "retried", "dropped"}
			var all []*broker.TaskRun
			for _, kind := range []string{"alone", "among"} {
				for _, name := range names {
					all = append(all, holdsAll(kind+"-"+name))
				}
			}
			require.NoError(t, p.b.QueueTasks(t.Context(), all...))
			plain := runs("q", 3)
			require.NoError(t, p.b.QueueTasks(t.Context(), plain...))
			var batches [][]*broker.TaskRun
			for range names {
				batches = append(batches, p.take(1))
			}
			batches = append(batches, p.take(len(names)), p.take(len(plain)))
			remember()
			failure := &broker.Failure{Kind: broker.FailureFailed, Message: "on purpose"}
			for _, batch := range batches {
				for _, r := range batch {
					o := broker.Outcome{Run: r, Verdict: broker.Succeeded, Result: []byte{0xc0}}
					switch r.ID[max(0, len(r.ID)-4):] {
					case "dead":
						o = broker.Outcome{Run: r, Verdict: broker.Dead, Failure: failure}
					case "ried":
						r.Attempt++
						o = broker.Outcome{Run: r, Verdict: broker.Retry, Delay: time.Hour, Failure: failure}
					case "pped":
						o = broker.Outcome{Run: r, Verdict: broker.Dropped, Failure: failure}
					}
					p.finish(o)
				}
			}
			p.forget()
			p.renewUntil(func() bool {
				info, err := p.b.Queue(t.Context(), "q")
				return err == nil && info.Running == 1
			}, "only the long run is in flight")
			for _, kind := range []string{"alone", "among"} {
				require.Equal(t, broker.StateSucceeded, p.state(kind+"-good"))
				require.Equal(t, broker.StateFailed, p.state(kind+"-dead"))
				require.Equal(t, broker.StateDelayed, p.state(kind+"-retried"))
				require.Equal(t, broker.StateFailed, p.state(kind+"-dropped"))
				for _, name := range names {
					again := holdsAll(kind + "-" + name)
					again.ID += "-again"
					if err := p.b.QueueTasks(t.Context(), again); name == "retried" {
						require.ErrorIs(t, err, broker.ErrDuplicate, "a retried run keeps its key")
					} else {
						require.NoError(t, err, "the key is free")
					}
				}
			}
			letters, err := p.b.DeadLetters(t.Context(), "q", 10)
			require.NoError(t, err)
			require.Len(t, letters, 2)
			p.finish(succeeded(p.take(6))...) // whose limits allow it
			p.requireInOrder()
		})
	}
}

// TestForgottenEndsOfPartsOfABatchAreAppliedAgain has some runs of a batch end, and the
// server forget it, while others of the batch are still executed.
func TestForgottenEndsOfPartsOfABatchAreAppliedAgain(t *testing.T) {
	t.Parallel()
	for _, renew := range []bool{true, false} {
		for _, r := range regresses() {
			t.Run(fmt.Sprintf("%s, renewed %v", r.name, renew), func(t *testing.T) {
				t.Parallel()
				p, remember := newPast(t, r)
				require.NoError(t, p.b.QueueTasks(t.Context(), holdsAll("good"), holdsAll("retried"), holdsAll("rest")))
				batch := p.take(3)
				remember()
				p.finish(broker.Outcome{Run: batch[0], Verdict: broker.Succeeded, Result: []byte{0xc0}})
				batch[1].Attempt++
				p.finish(broker.Outcome{Run: batch[1], Verdict: broker.Retry})
				p.forget()
				succeeds := func() bool {
					record, err := p.b.Record(t.Context(), "q", "good")
					return err == nil && record.State == broker.StateSucceeded
				}
				if renew {
					p.renewUntil(succeeds, "the run is ended again")
					p.finish(succeeded(batch[2:])...)
				} else {
					p.finish(succeeded(batch[2:])...)
					p.renewUntil(succeeds, "the run is ended again")
				}
				retried := p.take(1)
				require.Equal(t, "retried", retried[0].ID)
				require.Equal(t, 1, retried[0].Attempt)
				p.finish(succeeded(retried)...)
				p.requireInOrder()
			})
		}
	}
}

// TestForgottenEndsThatNobodyRemembersStartAgain has a server forget more ends than a
// session remembers.
func TestForgottenEndsThatNobodyRemembersStartAgain(t *testing.T) {
	t.Parallel()
	p, remember := newPast(t, regresses()[0])
	const n, size = 12, 500_000 // of the results together more than is remembered
	var all []*broker.TaskRun
	for i := range n {
		all = append(all, holdsAll(fmt.Sprint("run-", i)))
	}
	require.NoError(t, p.b.QueueTasks(t.Context(), all...))
	var batches [][]*broker.TaskRun
	for range n / 2 {
		batches = append(batches, p.take(1))
	}
	batches = append(batches, p.take(n/2))
	remember()
	for _, batch := range batches {
		for _, r := range batch[:min(len(batch), n/2-1)] {
			p.finish(broker.Outcome{Run: r, Verdict: broker.Succeeded, Result: make([]byte, size)})
		}
	}
	p.forget()
	p.renewUntil(func() bool {
		info, err := p.b.Queue(t.Context(), "q")
		if err != nil || info.Running != 2 {
			return false
		}
		for _, r := range all[:n-1] {
			if s := p.state(r.ID); s != broker.StateQueued && s != broker.StateSucceeded {
				return false
			}
		}
		return true
	}, "all have ended or wait")
	p.finish(succeeded(batches[n/2][n/2-1:])...)
	for length(t, p.b, "q") > 0 {
		p.finish(succeeded(p.take(1))...)
	}
	for _, r := range all {
		require.Equal(t, broker.StateSucceeded, p.state(r.ID))
	}
	p.requireInOrder()
}

// TestRenewalsListManyBatchesNowAndThen has thousands of batches of other sessions in
// flight, which each renewal would otherwise list.
func TestRenewalsListManyBatchesNowAndThen(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b, client := open(t, server, redis.Config{}), raw(t, server)
	require.NoError(t, b.QueueTasks(t.Context(), run("long", "q"), run("short", "q")))
	s := join(t, b, time.Minute)
	for range 2 {
		got, err := s.Take(t.Context(), broker.Want{Queues: []string{"q"}, IO: 1})
		require.NoError(t, err)
		if got[0].ID == "short" {
			finishAll(t, s, got)
		}
	}
	others := make([]any, 5000)
	for i := range others {
		others[i] = fmt.Sprintf("other:%d", i)
	}
	base := prefix(t) + ":{q}:"
	require.NoError(t, client.SAdd(t.Context(), base+"inflight", others...).Err())
	renew := func(n int) (listings int) {
		require.NoError(t, client.ConfigResetStat(t.Context()).Err())
		for range n {
			require.NoError(t, s.Renew(t.Context()))
		}
		stats, err := client.InfoMap(t.Context(), "commandstats").Result()
		require.NoError(t, err)
		_, _ = fmt.Sscanf(stats["Commandstats"]["cmdstat_sscan"], "calls=%d", &listings)
		return listings
	}
	require.Positive(t, renew(2), "at the begin")
	require.Zero(t, renew(10))
	// A server that went back in time has closed all connections.
	id := s.ID()
	require.NoError(t, client.RPush(t.Context(), base+"f:"+id+":2", "forgotten").Err())
	require.NoError(t, client.SAdd(t.Context(), base+"inflight", id+":2").Err())
	require.NoError(t, client.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err())
	require.Positive(t, renew(1), "anew")
	require.False(t, client.SIsMember(t.Context(), base+"inflight", id+":2").Val(), "it is ended again")
	require.NoError(t, client.Del(t.Context(), base+"inflight").Err())
}

// TestForgottenTakesAreLost has a server forget that a run was taken. The run waits again,
// so that the session must not finish it.
func TestForgottenTakesAreLost(t *testing.T) {
	t.Parallel()
	p, remember := newPast(t, regresses()[0])
	require.NoError(t, p.b.QueueTasks(t.Context(), run("short", "q")))
	remember()
	p.take(1)
	p.forget()
	require.Eventually(t, func() bool {
		err := p.session.Renew(t.Context())
		if err != nil {
			require.ErrorIs(t, err, broker.ErrLeaseLost)
		}
		return err != nil
	}, shortLease, 10*time.Millisecond)
}
