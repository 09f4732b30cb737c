package redis_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis"
)

var stopped = broker.Failure{Kind: broker.FailureCancelled, Message: "by a person"}

// ownKept is a run with an own id and a record.
func ownKept(id, queue string) *broker.TaskRun {
	r := run(id, queue)
	r.OwnID, r.Keep = true, time.Hour
	return r
}

func record(t *testing.T, b *redis.Broker, queue, id string) *broker.Record {
	t.Helper()
	r, err := b.Record(t.Context(), queue, id)
	require.NoError(t, err)
	return r
}

// heartbeat returns the ids of the runs that a session is to end.
func heartbeat(t *testing.T, s broker.Session, report broker.Report) []string {
	t.Helper()
	cancelled, err := s.(broker.Heartbeater).Heartbeat(t.Context(), report)
	require.NoError(t, err)
	return ids(cancelled)
}

// TestCancelWhereverARunWaits ends runs that are ready, delayed or of a disabled task,
// among more runs than one command searches.
func TestCancelWhereverARunWaits(t *testing.T) {
	t.Parallel()
	for name, place := range map[string]func(t *testing.T, b *redis.Broker, r *broker.TaskRun){
		"ready": func(*testing.T, *redis.Broker, *broker.TaskRun) {},
		"delayed": func(_ *testing.T, _ *redis.Broker, r *broker.TaskRun) {
			r.Delay = time.Hour
		},
		"deferred": func(t *testing.T, b *redis.Broker, _ *broker.TaskRun) {
			require.NoError(t, b.Disable(t.Context(), "q", "task", true))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, shared, redis.Config{})
			for _, id := range []string{"first", "middle", "last"} {
				r := ownKept(id, "q")
				place(t, b, r)
				require.NoError(t, b.QueueTasks(t.Context(), r))
				for i := range 1500 {
					other := run(fmt.Sprintf("%s-%d", id, i), "q")
					other.Delay = r.Delay
					require.NoError(t, b.QueueTasks(t.Context(), other))
				}
			}
			if name == "deferred" {
				takesNothing(t, join(t, b, time.Minute), "q")
			}
			for i, id := range []string{"middle", "last", "first"} {
				told := make(chan *broker.Record, 1)
				go func() {
					r, _ := b.WaitRecord(within(t, 10*time.Second), "q", id)
					told <- r
				}()
				require.NoError(t, b.Cancel(t.Context(), "q", id, stopped))
				got := <-told
				require.Equal(t, broker.StateCancelled, got.State)
				require.Equal(t, &stopped, got.Failure)
				require.Equal(t, 3*1501-i-1, length(t, b, "q"))
				require.ErrorIs(t, b.Cancel(t.Context(), "q", id, stopped), broker.ErrNoRecord, "again")
			}
			dead, err := b.DeadLetters(t.Context(), "q", 10)
			require.NoError(t, err)
			require.Empty(t, dead)
			require.NoError(t, b.QueueTasks(t.Context(), ownKept("first", "q")), "its id is free")
			require.NoError(t, b.Cancel(t.Context(), "q", "last-1499", stopped), "a run without a record")
			require.ErrorIs(t, b.Cancel(t.Context(), "q", "last-1499", stopped), broker.ErrNoRecord)
			require.Equal(t, 3*1501-3, length(t, b, "q"))
		})
	}
}

// TestCancelOfARunInFlight notifies the session until the run has ended. A retry or a
// recovery drops the run.
func TestCancelOfARunInFlight(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(t *testing.T, b *redis.Broker, s broker.Session, r *broker.TaskRun)
		want broker.State
		kind broker.FailureKind
	}{
		"succeeded": {finishAs(broker.Succeeded, 0), broker.StateSucceeded, ""},
		"dead":      {finishAs(broker.Dead, 0), broker.StateFailed, "failed"},
		"retried":   {finishAs(broker.Retry, 0), broker.StateCancelled, "cancelled"},
		"put off":   {finishAs(broker.Retry, time.Hour), broker.StateCancelled, "cancelled"},
		"left": {func(t *testing.T, _ *redis.Broker, s broker.Session, _ *broker.TaskRun) {
			require.NoError(t, s.Close(t.Context()))
		}, broker.StateCancelled, "cancelled"},
		"recovered": {func(t *testing.T, b *redis.Broker, s broker.Session, _ *broker.TaskRun) {
			require.NoError(t, raw(t, shared).ZAdd(t.Context(), prefix(t)+":{q}:leases", z(1, s.ID())).Err())
			_, err := b.Recover(t.Context(), []string{"q"})
			require.NoError(t, err)
		}, broker.StateCancelled, "cancelled"},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, shared, redis.Config{})
			require.NoError(t, b.QueueTasks(t.Context(), run("before", "q"), ownKept("it", "q"), run("after", "q")))
			s := join(t, b, time.Minute)
			got := takeAll(t, s, "q", 3)
			require.Empty(t, heartbeat(t, s, broker.Report{}))
			require.NoError(t, b.Cancel(t.Context(), "q", "it", stopped))
			require.Equal(t, []string{"it"}, heartbeat(t, s, broker.Report{}))
			require.Equal(t, []string{"it"}, heartbeat(t, s, broker.Report{}), "again")
			c.end(t, b, s, got[1])
			require.Empty(t, heartbeat(t, s, broker.Report{}))
			r := record(t, b, "q", "it")
			require.Equal(t, c.want, r.State)
			if c.kind != "" {
				require.Equal(t, c.kind, r.Failure.Kind)
			}
			require.NoError(t, b.QueueTasks(t.Context(), ownKept("it", "q")), "its id is free")
			other := join(t, b, time.Minute)
			list, err := other.Take(within(t, 5*time.Second), broker.Want{Queues: []string{"q"}, IO: 10})
			require.NoError(t, err)
			require.Contains(t, ids(list), "it")
			require.Empty(t, heartbeat(t, other, broker.Report{}), "a later run of the same id is not meant")
		})
	}
}

func finishAs(verdict broker.Verdict, delay time.Duration) func(*testing.T, *redis.Broker, broker.Session, *broker.TaskRun) {
	return func(t *testing.T, _ *redis.Broker, s broker.Session, r *broker.TaskRun) {
		t.Helper()
		o := broker.Outcome{Run: r, Verdict: verdict, Delay: delay}
		if verdict != broker.Succeeded {
			o.Failure = &broker.Failure{Kind: broker.FailureFailed}
		}
		done, err := s.Finish(t.Context(), o)
		require.NoError(t, err)
		require.Empty(t, done.Fenced)
	}
}

// TestCancelRaces takes and retries a run while it is cancelled, finished and recovered,
// 200 times, or 1000 with TASKGEN_SOAK: it has one end, and is nowhere then.
func TestCancelRaces(t *testing.T) {
	t.Parallel()
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	rounds := 200
	if os.Getenv("TASKGEN_SOAK") != "" {
		rounds = 1000
	}
	counts := map[string]int{}
	for i := range rounds {
		id := fmt.Sprintf("run-%d", i)
		require.NoError(t, b.QueueTasks(t.Context(), ownKept(id, "q")))
		s := join(t, b, time.Minute)
		got := takeAll(t, s, "q", 1)
		var all sync.WaitGroup
		var cancelled, recovered error
		fenced := 0
		verdict := []broker.Verdict{broker.Succeeded, broker.Dead, broker.Retry}[i%3]
		all.Go(func() { cancelled = b.Cancel(context.Background(), "q", id, stopped) })
		all.Go(func() {
			done, err := s.Finish(context.Background(), broker.Outcome{Run: got[0], Verdict: verdict, Failure: &broker.Failure{Kind: broker.FailureFailed}})
			if err == nil {
				fenced = len(done.Fenced)
			}
		})
		if i%2 == 0 {
			all.Go(func() {
				recovered = errors.Join(
					client.ZAdd(context.Background(), prefix(t)+":{q}:leases", z(1, s.ID())).Err(),
					func() error { _, err := b.Recover(context.Background(), []string{"q"}); return err }(),
				)
			})
		}
		all.Wait()
		require.NoError(t, recovered)
		if cancelled != nil {
			require.ErrorIs(t, cancelled, broker.ErrNoRecord)
		}
		require.NoError(t, s.Close(t.Context()))
		r := record(t, b, "q", id)
		ended := r.State.Ended()
		waits := length(t, b, "q")
		require.Equal(t, ended, waits == 0, "round %d: it is %s and %d wait", i, r.State, waits)
		if !ended { // it was given back before it was cancelled, or not cancelled at all
			require.Error(t, cancelled, "round %d: a cancel that was accepted ends it", i)
			require.NoError(t, b.Cancel(t.Context(), "q", id, stopped))
		}
		counts[fmt.Sprint(ended, cancelled == nil, fenced)]++
		require.NoError(t, b.QueueTasks(t.Context(), ownKept(id, "q")), "round %d: its id is free", i)
		require.NoError(t, b.Cancel(t.Context(), "q", id, stopped))
	}
	t.Logf("ended, cancelled, fenced: %v", counts)
	for _, key := range []string{"inflight", "io:1", "delayed"} {
		require.Zero(t, client.Exists(t.Context(), prefix(t)+":{q}:"+key).Val(), key)
	}
}

// TestCancelsOfEndedRunsAreForgotten cancels runs as they end otherwise, and the session
// that lives on keeps none of the cancels.
func TestCancelsOfEndedRunsAreForgotten(t *testing.T) {
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	s := join(t, b, time.Minute)
	noted := func() int64 { return client.HLen(t.Context(), prefix(t)+":{q}:cancel:"+s.ID()).Val() }
	for range 2 {
		require.NoError(t, b.QueueTasks(t.Context(), run("it", "q"), run("other", "q")))
		got := takeAll(t, s, "q", 2)
		require.NoError(t, b.Cancel(t.Context(), "q", "it", stopped))
		finishAll(t, s, got[:1])
		require.Empty(t, heartbeat(t, s, broker.Report{}))
		require.EqualValues(t, 1, noted(), "as long as something of its batch is left")
		finishAll(t, s, got[1:])
		require.NoError(t, b.QueueTasks(t.Context(), run("live", "q")))
		live := takeAll(t, s, "q", 1)
		require.NoError(t, b.Cancel(t.Context(), "q", "live", stopped))
		require.Equal(t, []string{"live"}, heartbeat(t, s, broker.Report{}))
		require.EqualValues(t, 1, noted(), "that of the run it holds")
		finishAll(t, s, live)
		require.NoError(t, b.QueueTasks(t.Context(), run("last", "q")))
		live = takeAll(t, s, "q", 1)
		require.Empty(t, heartbeat(t, s, broker.Report{}))
		require.Zero(t, noted())
		finishAll(t, s, live)
	}
}

// TestHeartbeat stores progress and the last runs, but nothing of runs that have
// ended.
func TestHeartbeat(t *testing.T) {
	b := open(t, shared, redis.Config{})
	require.NoError(t, b.QueueTasks(t.Context(), ownKept("one", "q"), ownKept("two", "q"), run("unkept", "q")))
	s := join(t, b, time.Minute)
	got := takeAll(t, s, "q", 3)
	progress := func(r *broker.TaskRun, done int64, note string) broker.ProgressReport {
		return broker.ProgressReport{Run: r, Progress: broker.Progress{Done: done, Total: 10, Note: note}}
	}
	at := time.Now()
	last := broker.LastRun{Queue: "q", Task: "task", ID: "one", Started: at.UTC(), Took: time.Second, Failure: "failed"}
	elsewhere := last
	elsewhere.Queue = "other"
	heartbeat(t, s, broker.Report{
		Progress: []broker.ProgressReport{progress(got[0], 1, "a\x00\xff"), progress(got[1], 2, ""), progress(got[2], 3, "x")},
		Last:     []broker.LastRun{last, elsewhere},
	})
	require.Equal(t, &broker.Progress{Done: 1, Total: 10, Note: "a\x00\xff"}, record(t, b, "q", "one").Progress)
	require.Equal(t, &broker.Progress{Done: 2, Total: 10}, record(t, b, "q", "two").Progress)
	older := last
	older.Started, older.ID = at.Add(-time.Second), "older"
	heartbeat(t, s, broker.Report{Progress: []broker.ProgressReport{progress(got[0], 5, "")}, Last: []broker.LastRun{older}})
	require.EqualValues(t, 5, record(t, b, "q", "one").Progress.Done)
	require.Equal(t, map[string]broker.LastRun{"task": last}, queueInfo(t, b, "q").Last)
	require.Equal(t, map[string]broker.LastRun{"task": elsewhere}, queueInfo(t, b, "other").Last)

	_, err := s.Finish(t.Context(), succeeded(got[:1])...)
	require.NoError(t, err)
	heartbeat(t, s, broker.Report{Progress: []broker.ProgressReport{progress(got[0], 9, ""), progress(got[1], 9, "")}})
	require.Equal(t, broker.StateSucceeded, record(t, b, "q", "one").State)
	require.EqualValues(t, 5, record(t, b, "q", "one").Progress.Done)
	require.EqualValues(t, 9, record(t, b, "q", "two").Progress.Done)
}

// TestCancelAmongLargeRuns cancels runs, waiting and in flight, behind more bytes than one
// command reads.
func TestCancelAmongLargeRuns(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{Timeout: 20 * time.Second}) // for a reply of 23 MiB on a busy machine
	s := join(t, b, time.Minute)
	sizes := []int{700 << 10, 10, 700 << 10, 600 << 10, 300 << 10, 10}
	for name, take := range map[string]bool{"waiting": false, "in flight": true} {
		queue := map[bool]string{true: "taken", false: "waits"}[take]
		var list []*broker.TaskRun
		for i := range 60 {
			r := run(fmt.Sprint("run-", i), queue)
			r.Payload = make([]byte, sizes[i%len(sizes)])
			list = append(list, r)
		}
		for _, r := range list {
			require.NoError(t, b.QueueTasks(t.Context(), r))
		}
		if take {
			takeAll(t, s, queue, len(list))
		}
		var want []string
		for _, i := range []int{0, 1, 31, 58, 59} {
			require.NoError(t, b.Cancel(t.Context(), queue, list[i].ID, stopped), "%s, run %d", name, i)
			want = append(want, list[i].ID)
		}
		require.ErrorIs(t, b.Cancel(t.Context(), queue, "unknown", stopped), broker.ErrNoRecord, name)
		if take {
			require.ElementsMatch(t, want, heartbeat(t, s, broker.Report{}))
		} else {
			require.Equal(t, len(list)-len(want), length(t, b, queue))
		}
	}
}
