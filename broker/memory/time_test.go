package memory_test

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
)

// inBubble runs a test where time passes only while everyone waits.
func inBubble(t *testing.T, test func(t *testing.T, b *memory.Broker)) {
	synctest.Test(t, func(t *testing.T) { test(t, open(t, memory.Config{})) })
}

// elapse lets time pass in a bubble; the broker need not notice.
func elapse(d time.Duration) { <-time.After(d) }

func TestDelayedRunsAreTakenOnTime(t *testing.T) {
	inBubble(t, func(t *testing.T, b *memory.Broker) {
		start := time.Now()
		day := 24 * time.Hour
		whens := []time.Duration{30 * day, time.Hour, 60 * day, time.Minute, time.Hour + 1, 1, 30*day - 1}
		for i, when := range whens {
			r := newRuns(1)[0]
			r.ID = when.String()
			if i%2 == 0 {
				r.Delay = when
			} else {
				r.Due = start.Add(when)
			}
			require.NoError(t, b.QueueTasks(t.Context(), r))
		}
		s := join(t, b, time.Minute)
		for _, when := range []time.Duration{1, time.Minute, time.Hour, time.Hour + 1, 30*day - 1, 30 * day, 60 * day} {
			runs, err := s.Take(t.Context(), want)
			require.NoError(t, err)
			require.Len(t, runs, 1, "runs due after %v", when)
			require.Equal(t, when.String(), runs[0].ID, "run taken after %v", time.Since(start))
			require.Equal(t, when, time.Since(start), "time until the run was taken")
		}
	})
}

func TestRunsOfOneInstantKeepTheirOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, b *memory.Broker) {
		byInstant := newRuns(3, func(r *broker.TaskRun) { r.Due = time.Now().Add(time.Second) })
		byDelay := newRuns(3, func(r *broker.TaskRun) { r.Delay, r.ID = time.Second, "d"+r.ID })
		for i := range 3 {
			require.NoError(t, b.QueueTasks(t.Context(), byInstant[i], byDelay[i]))
		}
		var got []string
		for len(got) < 6 {
			runs, err := b.GetTaskRuns(t.Context(), []string{"q"}, 6)
			require.NoError(t, err)
			for _, r := range runs {
				got = append(got, r.ID)
			}
		}
		require.Equal(t, []string{"run-0", "drun-0", "run-1", "drun-1", "run-2", "drun-2"}, got)
	})
}

// TestFarAwayIsNoStorm: while nothing is due for centuries, a blocked take
// wakes nobody, and the longest durations do not wrap around.
func TestFarAwayIsNoStorm(t *testing.T) {
	inBubble(t, func(t *testing.T, b *memory.Broker) {
		elapse(time.Hour) // so that now + the longest delay would wrap
		require.NoError(t, b.QueueTasks(t.Context(),
			newRuns(2, func(r *broker.TaskRun) { r.Delay, r.Keep = math.MaxInt64, math.MaxInt64 })...))
		require.NoError(t, b.QueueTasks(t.Context(),
			newRuns(1, func(r *broker.TaskRun) { r.ID, r.Due = "due", time.Date(2200, 12, 31, 0, 0, 0, 0, time.UTC) })...))
		s := join(t, b, math.MaxInt64)
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		runs, err := s.Take(ctx, want)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Empty(t, runs)

		retried := newRuns(1, func(r *broker.TaskRun) { r.ID = "retried" })
		require.NoError(t, b.QueueTasks(t.Context(), retried...))
		runs, err = s.Take(t.Context(), want)
		require.NoError(t, err)
		_, err = s.Finish(t.Context(), broker.Outcome{Run: runs[0], Verdict: broker.Retry, Delay: math.MaxInt64})
		require.NoError(t, err)
		lengths, err := b.QueueLength(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 4, lengths["q"], "runs that wait")
	})
}

func TestLeaseEndsOnTime(t *testing.T) {
	const lease = 10 * time.Second
	inBubble(t, func(t *testing.T, b *memory.Broker) {
		require.NoError(t, b.QueueTasks(t.Context(), newRuns(3)...))
		s := join(t, b, lease)
		elapse(time.Hour) // it holds nothing that could be recovered
		runs, err := s.Take(t.Context(), want)
		require.NoError(t, err)
		recovered := func() int {
			recovered, err := b.Recover(t.Context(), []string{"q"})
			require.NoError(t, err)
			return recovered.Runs
		}
		for range 100 {
			elapse(lease - 1)
			require.Zero(t, recovered(), "runs given back a nanosecond before the lease ends")
			require.NoError(t, s.Renew(t.Context()))
		}
		elapse(lease)
		require.Equal(t, 3, recovered(), "runs given back when the lease ended")

		require.ErrorIs(t, s.Renew(t.Context()), broker.ErrLeaseLost)
		require.ErrorIs(t, s.Renew(t.Context()), broker.ErrLeaseLost, "Renew until it has dealt with the loss")
		outcomes := make([]broker.Outcome, len(runs))
		for i, r := range runs {
			outcomes[i] = broker.Outcome{Run: r}
		}
		done, err := s.Finish(t.Context(), outcomes...)
		require.NoError(t, err)
		require.Len(t, done.Fenced, 3, "fenced runs")
		require.NoError(t, s.Renew(t.Context()), "Renew after the loss was dealt with")
	})
}

func TestRecordsExpireOnTime(t *testing.T) {
	const keep, total = time.Hour, 100
	inBubble(t, func(t *testing.T, b *memory.Broker) {
		runs := newRuns(total, func(r *broker.TaskRun) { r.Keep = keep })
		require.NoError(t, b.QueueTasks(t.Context(), runs...))
		waited := make(chan error, total)
		for _, r := range runs {
			go func() {
				_, err := b.WaitRecord(t.Context(), "q", r.ID)
				waited <- err
			}()
		}
		synctest.Wait()
		s := join(t, b, time.Minute)
		elapse(2 * keep)
		taken, err := s.Take(t.Context(), want)
		require.NoError(t, err)
		for _, r := range taken {
			_, err := s.Finish(t.Context(), broker.Outcome{Run: r, Result: []byte("r")})
			require.NoError(t, err)
		}
		for range total {
			require.NoError(t, <-waited, "WaitRecord")
		}
		elapse(keep - 1)
		for _, r := range runs {
			rec, err := b.Record(t.Context(), "q", r.ID)
			require.NoError(t, err, "Record a nanosecond before it expires")
			require.Equal(t, []byte("r"), rec.Result)
		}
		elapse(1)
		for _, r := range runs {
			_, err := b.Record(t.Context(), "q", r.ID)
			require.ErrorIs(t, err, broker.ErrNoRecord, "Record when it expires")
		}
		// Ids that were used are free, and an old record's end does not touch a new one's.
		require.NoError(t, b.QueueTasks(t.Context(), runs...))
		for _, r := range runs {
			rec, err := b.Record(t.Context(), "q", r.ID)
			require.NoError(t, err)
			require.Equal(t, broker.StateQueued, rec.State)
		}
	})
}

// TestRecordOfARunTakenForGood: what GetTaskRuns took has no end to wait for.
func TestRecordOfARunTakenForGood(t *testing.T) {
	inBubble(t, func(t *testing.T, b *memory.Broker) {
		require.NoError(t, b.QueueTasks(t.Context(), newRuns(1, func(r *broker.TaskRun) { r.Keep = time.Hour })...))
		waited := make(chan error)
		go func() {
			_, err := b.WaitRecord(t.Context(), "q", "run-0")
			waited <- err
		}()
		synctest.Wait()
		runs, err := b.GetTaskRuns(t.Context(), []string{"q"}, 1)
		require.NoError(t, err)
		require.Equal(t, 1, runs[0].Deliveries)
		require.ErrorIs(t, <-waited, broker.ErrNoRecord)
	})
}

// TestWakesAsManyAsThereAreRuns counts who is still blocked.
func TestWakesAsManyAsThereAreRuns(t *testing.T) {
	const fetchers = 10
	inBubble(t, func(t *testing.T, b *memory.Broker) {
		ctx, cancel := context.WithCancel(t.Context())
		returned := make(chan int, fetchers)
		for range fetchers {
			go func() {
				runs, _ := b.GetTaskRuns(ctx, []string{"other", "q"}, 100)
				returned <- len(runs)
			}()
		}
		synctest.Wait()
		for n := range 3 {
			require.NoError(t, b.QueueTasks(t.Context(), newRuns(1)...))
			synctest.Wait()
			require.Len(t, returned, n+1, "takes that returned after %d runs", n+1)
		}
		require.NoError(t, b.QueueTasks(t.Context(), newRuns(50)...))
		synctest.Wait()
		cancel()
		synctest.Wait()
		sum := 0
		for range fetchers {
			sum += <-returned
		}
		require.Equal(t, 53, sum, "runs taken")
	})
}

// TestGroupsOfDeadLetters are kept for a week, and no longer than the letters.
func TestGroupsOfDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t, memory.Config{MaxDead: 2})
		s := join(t, b, 365*24*time.Hour)
		die := func(id string) broker.Group {
			t.Helper()
			then, member := newRuns(1)[0], newRuns(1)[0]
			then.ID, then.Links = id, &broker.Links{Awaits: broker.Group{ID: "of-" + id, Queue: "q", Size: 1}}
			member.Links = &broker.Links{Group: "of-" + id}
			require.NoError(t, b.QueueGroup(t.Context(), then, member))
			for _, verdict := range []broker.Verdict{broker.Succeeded, broker.Dead} {
				runs, err := s.Take(t.Context(), want)
				require.NoError(t, err)
				_, err = s.Finish(t.Context(), broker.Outcome{Run: runs[0], Verdict: verdict})
				require.NoError(t, err)
			}
			return then.Links.Awaits
		}
		first := die("first")
		elapse(broker.GroupKept - 1)
		require.NoError(t, errOf(b.Members(t.Context(), first)), "Members a week after the death, but for an instant")
		elapse(1)
		require.ErrorIs(t, errOf(b.Members(t.Context(), first)), broker.ErrNoRecord, "Members a week after the death")

		second := die("second")
		n, err := b.RequeueDead(t.Context(), "q", "first", "second")
		require.NoError(t, err)
		require.Equal(t, 2, n)
		elapse(2 * broker.GroupKept)
		require.ErrorIs(t, errOf(b.Members(t.Context(), first)), broker.ErrNoRecord, "Members of one queued again too late")
		require.NoError(t, errOf(b.Members(t.Context(), second)), "Members of one queued again in time")

		runs, err := b.GetTaskRuns(t.Context(), []string{"q"}, 2)
		require.NoError(t, err)
		require.Len(t, runs, 2)
		gone, stays := die("gone"), die("stays")
		die("last")
		require.ErrorIs(t, errOf(b.Members(t.Context(), gone)), broker.ErrNoRecord, "Members of a dead letter that was trimmed")
		require.NoError(t, errOf(b.Members(t.Context(), stays)), "Members of a dead letter that is kept")
	})
}
