package redis_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis"
	"github.com/taskgen/taskgen/redis/internal/script"
)

var cancelled = broker.RunChange{Cancel: &broker.Failure{Kind: broker.FailureCancelled, Message: "by a test"}}

// changeAll changes all runs that match, in pages, and calls between before each further page.
func changeAll(t *testing.T, b *redis.Broker, queue string, state broker.State, s broker.RunSearch, c broker.RunChange, between func()) (changed int, stayed []broker.Stay) {
	t.Helper()
	for range 10_000 {
		page, err := b.ChangeRuns(t.Context(), queue, state, s, c)
		require.NoError(t, err)
		changed += page.Changed
		stayed = append(stayed, page.Stayed...)
		if s.After = page.After; s.After == "" {
			return changed, stayed
		}
		if between != nil {
			between()
		}
	}
	t.Fatal("the change does not end")
	return 0, nil
}

// TestAChangeEndsEachRunThatMatches cancels each fifth run while others take, queue and put back. The
// runs that stay keep their order.
func TestAChangeEndsEachRunThatMatches(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	const n = 6000
	matches := func(id string) bool { return strings.HasSuffix(id, "3") || strings.HasSuffix(id, "8") }
	for i := 0; i < n; i += 500 {
		var some []*broker.TaskRun
		for j := range 500 {
			r := run(fmt.Sprintf("run-%05d", i+j), "q")
			if j%7 == 0 {
				r.OwnID, r.Keep = true, time.Hour
			}
			some = append(some, r)
		}
		require.NoError(t, b.QueueTasks(t.Context(), some...))
	}
	s := join(t, b, time.Minute)
	done := make(chan struct{})
	taken := map[string]bool{}
	var others sync.WaitGroup
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			if len(taken) < n/4 {
				got, err := s.Take(t.Context(), broker.Want{Queues: []string{"q"}, IO: 1 + rand.IntN(5)})
				if err != nil {
					t.Error(err)
					return
				}
				for _, r := range got {
					taken[r.ID] = true
				}
			}
			if err := b.QueueTasks(t.Context(), run(fmt.Sprintf("new-%05d-0", i), "q")); err != nil {
				t.Error(err)
				return
			}
		}
	})
	changed, stayed := changeAll(t, b, "q", broker.StateQueued, broker.RunSearch{
		Max: 60, Look: 250, Match: func(r *broker.RunInfo) bool { return matches(r.Run.ID) },
	}, cancelled, nil)
	close(done)
	others.Wait()
	t.Logf("%d changed, %d stayed", changed, len(stayed))
	left := pagesOf(t, b, "q", broker.StateQueued, broker.RunSearch{Max: 1000, Look: 10_000}, nil)
	var old []string
	for _, id := range left {
		if strings.HasPrefix(id, "run-") {
			old = append(old, id)
		}
	}
	var want []string
	takenMatching := 0
	for i := range n {
		id := fmt.Sprintf("run-%05d", i)
		if matches(id) && taken[id] {
			takenMatching++
		}
		if !matches(id) && !taken[id] {
			want = append(want, id)
		}
	}
	require.Equal(t, want, old, "runs that do not match stay, in their order")
	require.Equal(t, n/5-takenMatching, changed)
	record, err := b.Record(t.Context(), "q", "run-05528")
	require.NoError(t, err)
	require.Equal(t, cancelled.Cancel, record.Failure)
}

// TestAChangeCancelsRunsOfEveryPlace cancels runs wherever they wait, and those in flight.
func TestAChangeCancelsRunsOfEveryPlace(t *testing.T) {
	t.Parallel()
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	kept := func(id string, change ...func(*broker.TaskRun)) *broker.TaskRun {
		r := run(id, "q")
		r.Keep, r.OwnID, r.EnsureRules().Unique = time.Hour, true, "u-"+id
		for _, f := range change {
			f(r)
		}
		require.NoError(t, b.QueueTasks(t.Context(), r))
		return r
	}
	limited := withLimited("k", 1, 0)
	kept("running", limited)
	s := join(t, b, time.Minute)
	takeAll(t, s, "q", 1)
	kept("held-0", limited)
	kept("held-1", limited, withFair("f"))
	kept("ready")
	kept("cpu", func(r *broker.TaskRun) { r.Kind, r.Priority = broker.CPU, broker.High })
	kept("later", func(r *broker.TaskRun) { r.Delay = time.Hour })
	gathering, members := group("q", "q", 2)
	require.NoError(t, b.QueueGroup(t.Context(), gathering, members...))

	changed, stayed := changeAll(t, b, "q", broker.StateQueued, broker.RunSearch{Max: 2}, cancelled, nil)
	require.Equal(t, 6, changed)
	require.Empty(t, stayed)
	changed, stayed = changeAll(t, b, "q", broker.StateDelayed, broker.RunSearch{}, cancelled, nil)
	require.Equal(t, 1, changed)
	require.Empty(t, stayed)
	changed, stayed = changeAll(t, b, "q", broker.StateRunning, broker.RunSearch{}, cancelled, nil)
	require.Equal(t, 1, changed)
	require.Empty(t, stayed)
	for _, id := range []string{"held-0", "held-1", "ready", "cpu", "later"} {
		record, err := b.Record(t.Context(), "q", id)
		require.NoError(t, err)
		require.True(t, record.State.Ended(), "%s is %s", id, record.State)
		require.Equal(t, cancelled.Cancel, record.Failure)
		kept(id) // its id and its unique key are free
	}
	got := takeAll(t, s, "q", 6) // these, and the run that gathers the members, which have ended
	require.Contains(t, ids(got), "gathering")
	ended, err := s.(broker.Heartbeater).Heartbeat(t.Context(), broker.Report{})
	require.NoError(t, err)
	require.Len(t, ended, 1)
	require.Equal(t, "running", ended[0].ID)
	require.Zero(t, client.Exists(t.Context(), prefix(t)+":{q}:backlogs").Val())
}

// TestRunNowMakesDelayedRunsDue has delayed runs with and without policies and records.
func TestRunNowMakesDelayedRunsDue(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	s := join(t, b, time.Minute)
	takes := make(chan []*broker.TaskRun, 1)
	go func() {
		got, err := s.Take(within(t, 20*time.Second), broker.Want{Queues: []string{"q"}, IO: 10})
		if err != nil {
			t.Error(err)
		}
		takes <- got
	}()
	for i := range 6 {
		r := run(fmt.Sprint("later-", i), "q")
		r.Delay, r.Expire = 24*time.Hour, time.Hour
		if i%2 == 0 {
			r.Keep = time.Hour
		}
		if i%3 == 0 {
			r.EnsureRules().Fair = "f"
		}
		require.NoError(t, b.QueueTasks(t.Context(), r))
	}
	changed, stayed := changeAll(t, b, "q", broker.StateDelayed, broker.RunSearch{Max: 4}, broker.RunChange{RunNow: true}, nil)
	require.Equal(t, 6, changed)
	require.Empty(t, stayed)
	got := <-takes
	if len(got) < 6 {
		got = append(got, takeAll(t, s, "q", 6-len(got))...)
	}
	require.Len(t, got, 6)
	for _, r := range got {
		require.WithinDuration(t, time.Now(), r.Due, time.Minute, "it expires from now on")
		require.Zero(t, r.Attempt)
	}
	_, err := b.ChangeRuns(t.Context(), "q", broker.StateQueued, broker.RunSearch{}, broker.RunChange{RunNow: true})
	require.ErrorContains(t, err, "nothing to change")
	_, err = b.ChangeRuns(t.Context(), "q", broker.StateDelayed, broker.RunSearch{}, broker.RunChange{})
	require.ErrorContains(t, err, "one of both")
}

// TestAChangeWhoseReplyIsLostIsDoneOnce loses the reply to each script of changes.
func TestAChangeWhoseReplyIsLostIsDoneOnce(t *testing.T) {
	t.Parallel()
	b, l := openLossy(t, shared)
	scripts, err := script.Load()
	require.NoError(t, err)
	later := run("later", "q")
	later.Delay = time.Hour
	require.NoError(t, b.QueueTasks(t.Context(), append(runs("q", 100), later)...))

	l.lose(1, scripts.EndRuns.Digest)
	changed, stayed := changeAll(t, b, "q", broker.StateQueued, broker.RunSearch{
		Match: func(r *broker.RunInfo) bool { return strings.HasSuffix(r.Run.ID, "5") },
	}, cancelled, nil)
	require.Equal(t, 10, changed)
	require.Empty(t, stayed)
	require.Equal(t, 1, l.lost)
	l.lose(1, scripts.RunNow.Digest)
	changed, stayed = changeAll(t, b, "q", broker.StateDelayed, broker.RunSearch{}, broker.RunChange{RunNow: true}, nil)
	require.Equal(t, 1, changed)
	require.Empty(t, stayed)
	require.Equal(t, 1, l.lost)
	require.Equal(t, 91, length(t, b, "q"))
	s := join(t, b, time.Minute)
	takeAll(t, s, "q", 91)
	l.lose(1, scripts.CancelRuns.Digest)
	changed, stayed = changeAll(t, b, "q", broker.StateRunning, broker.RunSearch{}, cancelled, nil)
	require.Equal(t, 91, changed)
	require.Empty(t, stayed)
	ended, err := s.(broker.Heartbeater).Heartbeat(t.Context(), broker.Report{})
	require.NoError(t, err)
	require.Len(t, ended, 91)
	require.Equal(t, 1, l.lost)
}

// TestAChangeOfDeadLetters deletes some and queues the others again, but one that cannot be read
// and one whose id lives.
func TestAChangeOfDeadLetters(t *testing.T) {
	t.Parallel()
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	var all []string
	for i := range 250 {
		all = append(all, fmt.Sprintf("dead-%03d", i))
	}
	deadIn(t, b, "q", all...)
	require.NoError(t, client.LSet(t.Context(), prefix(t)+":{q}:dead", 17, "unreadable").Err())
	own := run("own", "q")
	own.OwnID = true
	require.NoError(t, b.QueueTasks(t.Context(), own))
	s := join(t, b, time.Minute)
	_, err := s.Finish(t.Context(), broker.Outcome{Run: takeAll(t, s, "q", 1)[0], Verdict: broker.Dead, Failure: &broker.Failure{Kind: broker.FailureFailed}})
	require.NoError(t, err)
	require.NoError(t, b.QueueTasks(t.Context(), own))

	change := func(d broker.DeadSearch, c broker.DeadChange) (changed int, stayed []broker.Stay) {
		for {
			page, err := b.ChangeDead(t.Context(), "q", d, c)
			require.NoError(t, err)
			require.LessOrEqual(t, page.Changed+len(page.Stayed), d.Max)
			changed, stayed = changed+page.Changed, append(stayed, page.Stayed...)
			if d.After = page.After; d.After == "" {
				return changed, stayed
			}
		}
	}
	changed, stayed := change(broker.DeadSearch{Max: 7, Look: 40, Match: func(l *broker.DeadLetter) bool { return strings.HasSuffix(l.ID, "5") }}, broker.Delete)
	require.Equal(t, 25, changed)
	require.Empty(t, stayed)
	changed, stayed = change(broker.DeadSearch{Max: 30}, broker.Requeue)
	require.Equal(t, 224, changed)
	require.Len(t, stayed, 2)
	for _, stay := range stayed {
		if stay.ID == "own" {
			require.Equal(t, "its id is that of a live run", stay.Why)
		} else {
			require.Contains(t, stay.Why, "cannot be read")
		}
	}
	require.Equal(t, 225, length(t, b, "q"))
	changed, stayed = change(broker.DeadSearch{Max: 30}, broker.Delete)
	require.Equal(t, 2, changed)
	require.Empty(t, stayed)
}
