package memory_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
)

func TestInstancesAreListedForAsLongAsTheyAnnounceThemselves(t *testing.T) {
	inBubble(t, func(t *testing.T, b *memory.Broker) {
		requireListed := func(want ...string) {
			t.Helper()
			list, err := b.Instances(t.Context())
			require.NoError(t, err)
			var got []string
			for _, i := range list {
				got = append(got, i.ID)
			}
			require.Equal(t, want, got)
		}
		announce := func(id string) {
			require.NoError(t, b.Announce(t.Context(), &broker.Instance{ID: id, Role: broker.RoleConsumer}))
		}
		announce("a")
		elapse(broker.InstanceKept - 1)
		announce("b")
		requireListed("a", "b")
		elapse(1)
		requireListed("b")
		announce("b")
		elapse(broker.InstanceKept - 1)
		requireListed("b")
		elapse(1)
		requireListed()
	})
}

func TestTalliesAreDroppedAfterThreeDays(t *testing.T) {
	inBubble(t, func(t *testing.T, b *memory.Broker) {
		add := func(task string) {
			require.NoError(t, b.AddTallies(t.Context(), []broker.Tally{{Queue: "q", Task: task, Minute: time.Now(), Succeeded: 1}}))
		}
		stored := func() (tasks []string) {
			list, err := b.Tallies(t.Context(), []string{"q"}, time.Now().Add(-30*24*time.Hour), time.Now().Add(time.Hour))
			require.NoError(t, err)
			for _, tally := range list {
				tasks = append(tasks, tally.Task)
			}
			return tasks
		}
		add("old")
		elapse(broker.TalliesKept)
		add("new")
		require.Equal(t, []string{"old", "new"}, stored(), "after three days")
		elapse(time.Minute)
		add("newer")
		require.Equal(t, []string{"new", "newer"}, stored(), "a minute later")
	})
}

// TestTimesAreKnown, so that the checks of the contract that need them are not skipped.
func TestTimesAreKnown(t *testing.T) {
	b := open(t, memory.Config{})
	run := newRuns(1, func(r *broker.TaskRun) { r.Keep, r.QueuedAt = time.Hour, time.Now() })[0]
	require.NoError(t, b.QueueTasks(t.Context(), run))
	rec, err := b.Record(t.Context(), "q", run.ID)
	require.NoError(t, err)
	require.True(t, run.QueuedAt.Equal(rec.QueuedAt))
	info, err := b.Queue(t.Context(), "q")
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), info.Oldest, time.Minute)
}

// TestPagesContinueWhereOthersLooked interleaves searches, each of which goes on where it was,
// though they share the mark that saves them the way.
func TestPagesContinueWhereOthersLooked(t *testing.T) {
	const n, keep = 100, time.Hour
	b := open(t, memory.Config{})
	require.NoError(t, b.QueueTasks(t.Context(), newRuns(n, func(r *broker.TaskRun) { r.Keep = keep })...))
	s := join(t, b, time.Minute)
	search := func(state broker.State) {
		t.Helper()
		after, found := [3]string{}, [3][]string{}
		for page := range n {
			for i := range after {
				if page > 0 && after[i] == "" || page%(i+1) != 0 {
					continue
				}
				p, err := b.FindRuns(t.Context(), "q", state, broker.RunSearch{After: after[i], Max: 2 + i})
				require.NoError(t, err)
				for _, info := range p.Runs {
					found[i] = append(found[i], info.Run.ID)
				}
				after[i] = p.After
			}
		}
		for i := range found {
			require.Len(t, found[i], n, "runs of search %d that are %s", i, state)
			require.ElementsMatch(t, found[0], found[i], "runs of search %d that are %s", i, state)
			require.Empty(t, after[i])
		}
	}
	search(broker.StateQueued)
	runs, err := s.Take(t.Context(), want)
	require.NoError(t, err)
	search(broker.StateRunning)
	outcomes := make([]broker.Outcome, len(runs))
	for i, r := range runs {
		outcomes[i] = broker.Outcome{Run: r, Verdict: broker.Dropped, Failure: &broker.Failure{Kind: broker.FailureCancelled}}
	}
	_, err = s.Finish(t.Context(), outcomes...)
	require.NoError(t, err)
	search(broker.StateCancelled)
}

// TestForgedCursors are read as others are: they find something or nothing, and end.
func TestForgedCursors(t *testing.T) {
	b := open(t, memory.Config{})
	require.NoError(t, b.QueueTasks(t.Context(), newRuns(9, func(r *broker.TaskRun) { r.Keep = time.Hour })...))
	s := join(t, b, time.Minute)
	runs, err := s.Take(t.Context(), broker.Want{Queues: []string{"q"}, IO: 6})
	require.NoError(t, err)
	for i, r := range runs[:4] {
		_, err := s.Finish(t.Context(), broker.Outcome{Run: r, Verdict: broker.Verdict(i), Delay: time.Hour})
		require.NoError(t, err)
	}
	numbers := []string{"0", "-1", "3", "9223372036854775807", "-9223372036854775808"}
	for _, state := range []broker.State{broker.StateQueued, broker.StateDelayed, broker.StateRunning, broker.StateSucceeded, broker.StateFailed} {
		first, err := b.FindRuns(t.Context(), "q", state, broker.RunSearch{Look: 1})
		require.NoError(t, err)
		name, _, _ := strings.Cut(first.After, ":")
		if name == "" {
			continue // there is one
		}
		for _, n := range numbers {
			for _, m := range numbers {
				for _, id := range []string{"", "\xff", s.ID(), strings.Repeat(":", 100)} {
					_, err := b.FindRuns(t.Context(), "q", state, broker.RunSearch{After: strings.Join([]string{name, n, m, n, m, id}, ":")})
					require.NoError(t, err, "%s runs after %s, %s", state, n, m)
				}
			}
		}
	}
}

// TestMatchMayCallTheBroker: it is called without the lock, and what it changes is seen.
func TestMatchMayCallTheBroker(t *testing.T) {
	b := open(t, memory.Config{})
	require.NoError(t, b.QueueTasks(t.Context(), newRuns(10)...))
	failure := broker.Failure{Kind: broker.FailureCancelled}
	page, err := b.ChangeRuns(t.Context(), "q", broker.StateQueued, broker.RunSearch{Match: func(i *broker.RunInfo) bool {
		if i.Run.ID == "run-3" || i.Run.ID == "run-5" {
			require.NoError(t, b.Cancel(t.Context(), "q", i.Run.ID, failure))
		}
		return true
	}}, broker.RunChange{Cancel: &failure})
	require.NoError(t, err)
	require.Equal(t, 8, page.Changed)
	require.Equal(t, fmt.Sprint([]broker.Stay{{ID: "run-3", Why: "it is no longer queued"}, {ID: "run-5", Why: "it is no longer queued"}}), fmt.Sprint(page.Stayed))
}
