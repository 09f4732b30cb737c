package redis_test

import (
	"bytes"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis"
)

// logged returns a logger and what it has logged.
func logged() (*slog.Logger, func() string) {
	var out lockedBuffer
	return slog.New(slog.NewTextHandler(&out, nil)), out.String
}

// badNames are names that no queue can have.
func badNames() []string {
	return []string{"bad name", "", "nul\x00", "tab\t", "é", strings.Repeat("x", broker.MaxName+1), strings.Repeat("long ", 10_000)}
}

func TestABadNameOfAQueueIsSkippedAndLoggedOnce(t *testing.T) {
	logger, text := logged()
	b := open(t, shared, redis.Config{Logger: logger})
	require.NoError(t, b.QueueTasks(t.Context(), run("a", "good")))
	require.NoError(t, b.PutSchedule(t.Context(), &broker.Schedule{ID: "e", Spec: "@every 1h", Run: run("e", "good")}))
	server := raw(t, shared)
	for _, name := range badNames() {
		require.NoError(t, server.SAdd(t.Context(), prefix(t)+":queues", name).Err())
	}
	var all sync.WaitGroup
	for range 8 { // as the parts of a process do when it starts
		all.Go(func() { _, _ = b.QueueNames(t.Context()) })
	}
	all.Wait()
	for range 2 {
		lengths, err := b.QueueLength(t.Context())
		require.NoError(t, err)
		require.Equal(t, map[string]int64{"good": 1}, lengths)
		entries, err := b.Schedules(t.Context())
		require.NoError(t, err)
		require.Len(t, entries, 1)
		changes, err := b.ScheduleChanges(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"good"}, slices.Collect(maps.Keys(changes)))
	}
	require.Equal(t, 1, strings.Count(text(), "names that no queue can have"), text())
	require.Contains(t, text(), `skipped=7`)
	require.Contains(t, text(), `\"bad name\"`)
	require.Contains(t, text(), "SREM "+prefix(t)+":queues")
	require.Less(t, len(text()), 5000)
}

func TestQueuesWorkThoughTheirNamesAreNoSet(t *testing.T) {
	logger, text := logged()
	b := open(t, shared, redis.Config{Logger: logger})
	require.NoError(t, raw(t, shared).Set(t.Context(), prefix(t)+":queues", "x", 0).Err())
	require.NoError(t, b.QueueTasks(t.Context(), run("a", "q"), run("b", "q")))
	got, err := join(t, b, time.Minute).Take(within(t, 5*time.Second), broker.Want{Queues: []string{"q"}, IO: 2})
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.Contains(t, text(), "the key "+prefix(t)+":queues is a string, not a set")
	_, err = b.QueueLength(t.Context())
	require.ErrorContains(t, err, "the key "+prefix(t)+":queues is a string, not a set")
}

// TestAKeyOfAWrongTypeHidesNothingElse sets each key of a queue to a wrong type, and reads
// that queue and another.
func TestAKeyOfAWrongTypeHidesNothingElse(t *testing.T) {
	b := open(t, shared, redis.Config{})
	server := raw(t, shared)
	for _, queue := range []string{"bad", "good"} {
		require.NoError(t, b.QueueTasks(t.Context(), run("a", queue), run("b", queue)))
	}
	for _, key := range []string{"io:0", "cpu:2", "delayed", "backlogs", "deferred", "dead", "inflight", "disabled", "last"} {
		name := prefix(t) + ":{bad}:" + key
		require.NoError(t, server.SetNX(t.Context(), name, "x", 0).Err())
		says := "the key " + name + " is a string, not a "

		info, err := b.Queue(t.Context(), "bad")
		require.ErrorContains(t, err, says)
		require.EqualValues(t, 2, info.Queued, key)
		lengths, err := b.QueueLength(t.Context())
		require.EqualValues(t, 2, lengths["good"], key)
		require.Contains(t, lengths, "bad", key)
		if slices.Contains([]string{"io:0", "cpu:2", "delayed", "backlogs", "deferred"}, key) {
			require.ErrorContains(t, err, says)
			found, err := b.Runs(t.Context(), "bad", broker.StateQueued, 10)
			require.ErrorContains(t, err, says)
			require.Len(t, found, 2, key)
		}
		if key == "dead" {
			_, err := b.DeadLetters(t.Context(), "bad", 10)
			require.ErrorContains(t, err, says)
		}
		require.NoError(t, server.Del(t.Context(), name).Err())
	}
}

// TestOneRecordOfAWrongTypeHidesNoOther lists records of runs that have ended.
func TestOneRecordOfAWrongTypeHidesNoOther(t *testing.T) {
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	ids := endedRuns(t, b, join(t, b, time.Minute), "q", 2, 1)
	bad := prefix(t) + ":{q}:rec:" + ids[0]
	require.NoError(t, c.Del(t.Context(), bad).Err())
	require.NoError(t, c.RPush(t.Context(), bad, "x").Err())
	found, err := b.Runs(t.Context(), "q", broker.StateSucceeded, 10)
	require.ErrorContains(t, err, "the key "+bad+" is a list, not a string")
	require.Len(t, found, 1)
	require.Equal(t, ids[1], found[0].Run.ID)
}

// TestChangesOfSchedulesOutliveOneThatIsNoNumber sets the number of one queue to a text.
func TestChangesOfSchedulesOutliveOneThatIsNoNumber(t *testing.T) {
	logger, text := logged()
	b := open(t, shared, redis.Config{Logger: logger})
	for _, queue := range []string{"bad", "list", "good"} {
		require.NoError(t, b.PutSchedule(t.Context(), &broker.Schedule{ID: "e", Spec: "@every 1h", Run: run("e", queue)}))
	}
	server := raw(t, shared)
	require.NoError(t, server.Set(t.Context(), prefix(t)+":{bad}:schedules:changes", "abc", 0).Err())
	require.NoError(t, server.Del(t.Context(), prefix(t)+":{list}:schedules").Err())
	require.NoError(t, server.RPush(t.Context(), prefix(t)+":{list}:schedules", "abc").Err())
	for range 2 {
		changes, err := b.ScheduleChanges(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 1, changes["good"])
		require.NotContains(t, changes, "bad")
		entries, err := b.Schedules(t.Context())
		require.ErrorContains(t, err, "the key "+prefix(t)+":{list}:schedules is a list, not a hash")
		require.Len(t, entries, 2)
	}
	require.Equal(t, 1, strings.Count(text(), "{bad}:schedules:changes"), text())
}

// lockedBuffer is a buffer that goroutines may log to at the same time.
type lockedBuffer struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.String()
}

// TestAQueueIsNamedOnceThatIsPossible although no further run is queued.
func TestAQueueIsNamedOnceThatIsPossible(t *testing.T) {
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	names := prefix(t) + ":queues"
	require.NoError(t, client.Set(t.Context(), names, "no set", 0).Err())
	require.NoError(t, b.QueueTasks(t.Context(), run("one", "q")))
	require.NoError(t, b.QueueTasks(t.Context(), run("one", "other")))
	require.NoError(t, client.Del(t.Context(), names).Err())
	require.Eventually(t, func() bool {
		return client.SCard(t.Context(), names).Val() == 2
	}, 15*time.Second, 10*time.Millisecond)
}
