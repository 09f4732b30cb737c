package memory

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

// TestNothingIsLeftOfRuns: what the broker keeps for limits, turns, keys and
// groups goes with the runs it was for.
func TestNothingIsLeftOfRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		s, err := b.OpenSession(t.Context(), time.Hour)
		require.NoError(t, err)
		const total = 200
		var runs []*broker.TaskRun
		for i := range total {
			runs = append(runs, &broker.TaskRun{
				ID: fmt.Sprint(i), Task: "task", Queue: "q", Links: &broker.Links{Group: "g", Member: i},
				Rules: &broker.Rules{
					Fair: fmt.Sprint("value", i%50), Unique: fmt.Sprint("key", i),
					Limits: []broker.Limit{{Key: fmt.Sprint("held", i%40), Max: 1}, {Key: fmt.Sprint("rate", i%30), Max: 2, Per: time.Minute}},
				},
			})
		}
		require.NoError(t, b.QueueGroup(t.Context(), &broker.TaskRun{
			ID: "then", Task: "task", Queue: "other", Links: &broker.Links{Awaits: broker.Group{ID: "g", Queue: "q", Size: total}},
		}, runs...))
		for n := 0; n < total+1; {
			got, err := s.Take(t.Context(), broker.Want{Queues: []string{"q", "other"}, IO: 7})
			require.NoError(t, err)
			for i, r := range got {
				o := broker.Outcome{Run: r, Verdict: broker.Verdict(i % 3)}
				if i%4 == 3 {
					require.NoError(t, b.Cancel(t.Context(), r.Queue, r.ID, broker.Failure{Kind: broker.FailureCancelled}))
					o.Verdict = broker.Retry
				}
				done, err := s.Finish(t.Context(), o)
				require.NoError(t, err)
				require.Empty(t, done.Fenced)
			}
			n += len(got)
		}
		q := b.queues["q"]
		require.NotEmpty(t, q.limits, "limits while their times go on")
		<-time.After(time.Minute)
		_, err = b.Queue(t.Context(), "q")
		require.NoError(t, err)
		require.Empty(t, q.limits, "limits")
		require.Empty(t, q.backlogs, "backlogs")
		require.Empty(t, q.windows, "windows")
		require.Empty(t, q.unique, "unique keys")
		require.Empty(t, q.groups, "groups")
		require.Empty(t, b.queues["other"].gathering, "runs that wait for a group")
		require.Zero(t, q.waits(), "runs that wait")
		for k := range q.readyLists {
			for p := range q.readyLists[k] {
				require.Empty(t, q.readyLists[k][p].others, "values of Fair")
			}
		}
		require.NoError(t, b.Close())
	})
}

// TestNothingIsLeftOfGroupsInOneAnother cancels one of the inner runs that gather while it waits,
// and skips another as a duplicate.
func TestNothingIsLeftOfGroupsInOneAnother(t *testing.T) {
	b := New()
	s, err := b.OpenSession(t.Context(), time.Hour)
	require.NoError(t, err)
	run := func(id, queue, group string, place int) *broker.TaskRun {
		return &broker.TaskRun{ID: id, Task: "task", Queue: queue, OwnID: true, Links: &broker.Links{Group: group, GroupQueue: "q", Member: place}}
	}
	gathers := func(r *broker.TaskRun, group string) *broker.TaskRun {
		r.Links.Awaits = broker.Group{ID: group, Queue: "q", Size: 2}
		r.Links.Members = []*broker.TaskRun{run(group+"-0", "q", group, 0), run(group+"-1", "other", group, 1)}
		return r
	}
	root := run("root", "other", "", 0)
	root.Links = &broker.Links{Awaits: broker.Group{ID: "outer", Queue: "q", Size: 3}}
	cancelled, skipped := gathers(run("cancelled", "q", "outer", 1), "b"), gathers(run("root", "other", "outer", 2), "c")
	require.NoError(t, b.QueueGroup(t.Context(), root, gathers(run("inner", "other", "outer", 0), "a"), cancelled, skipped))
	require.NoError(t, b.Cancel(t.Context(), "q", "cancelled", broker.Failure{Kind: broker.FailureCancelled}))
	for n := 0; n < 2+2+1+1; { // the members of a and b, and who gathers a and the outer group
		got, err := s.Take(t.Context(), broker.Want{Queues: []string{"q", "other"}, IO: 7})
		require.NoError(t, err)
		for _, r := range got {
			require.Nil(t, r.Links.Members, "members of %s", r.ID)
			_, err := s.Finish(t.Context(), broker.Outcome{Run: r})
			require.NoError(t, err)
		}
		n += len(got)
	}
	for name, q := range b.queues {
		require.Empty(t, q.groups, "groups of queue %s", name)
		require.Empty(t, q.gathering, "runs of queue %s that wait for a group", name)
		require.Empty(t, q.live, "ids of queue %s", name)
		require.Zero(t, q.waits(), "runs of queue %s that wait", name)
	}
	require.NoError(t, b.Close())
}
