package web

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func TestTheRelativesOfARunAreATree(t *testing.T) {
	b := newBroker(t)
	for id, parent := range map[string]string{"root": "", "child": "root", "grandchild": "child", "unrelated": ""} {
		run := newRun(id, "t<b>-"+id, "shop")
		run.ParentID = parent
		if parent != "" {
			run.RootID = "root"
		}
		require.NoError(t, b.QueueTasks(t.Context(), run))
	}
	loop := newRun("loop", "round", "shop")
	loop.ParentID, loop.RootID = "loop", "loop"
	require.NoError(t, b.QueueTasks(t.Context(), loop))
	h := newSite(t, b)
	for _, id := range []string{"root", "child", "grandchild"} {
		html := get(t, h, "group?run="+id+"&queue=shop", http.StatusOK)
		require.Regexp(t, `(?s)>root</a>.*<ul>.*>child</a>.*<ul>.*>grandchild</a>`, html)
		require.NotContains(t, html, "unrelated")
		require.NotContains(t, html, "t<b>")
		require.Contains(t, readable(html), "Searched 5 runs")
	}
	require.Contains(t, readable(get(t, h, "group?run=unrelated", http.StatusOK)), "No relative of this run was found")
	require.Contains(t, readable(get(t, h, "group?run=loop", http.StatusOK)), "Relatives of run loop")
	orphan := newRun("orphan", "t", "shop")
	orphan.ParentID, orphan.RootID = "gone", "first"
	require.NoError(t, b.QueueTasks(t.Context(), orphan))
	text := readable(get(t, h, "group?run=orphan&queue=shop", http.StatusOK))
	require.Contains(t, text, "gone it has ended, or was not among those that were searched queued orphan")
	require.Contains(t, text, "first the first of all")
	get(t, h, "group?run=nobody", http.StatusNotFound)
	get(t, h, "group", http.StatusBadRequest)
	require.Contains(t, get(t, h, "run?id=child&queue=shop", http.StatusOK), `href="group?run=child&amp;queue=shop"`)
	other := newSiteFor(t, access.NewUser("eve", access.Reader, nil, []string{"t<b>-child"}), b)
	require.NotContains(t, get(t, other, "group?run=child&queue=shop", http.StatusOK), "grandchild")
	get(t, other, "group?run=root&queue=shop", http.StatusNotFound)
}

// TestAGroupShowsItsMembersAndWhoGathersThem has one member end, then the others.
func TestAGroupShowsItsMembersAndWhoGathersThem(t *testing.T) {
	b := newBroker(t)
	ctx := taskrt.WithClient(t.Context(), taskrt.NewClient(b, taskrt.ClientConfig{}))
	_, err := taskrt.Group([]taskrt.Call[int64]{tasks.CallHalf(2), tasks.CallHalf(4), tasks.CallHalf(6)}, tasks.NextSum("the sum")).Queue(ctx)
	require.NoError(t, err)
	members := liveRuns(t, b, "default")
	require.Len(t, members, 3)
	first := members[0].Run
	address, err := link("group", "id", first.Links.Group, "queue", first.GroupQueue())
	require.NoError(t, err)
	h := newSite(t, b, tasks.Tasks(nil)...)
	text := readable(get(t, h, address, http.StatusOK))
	require.Contains(t, text, "The run that gathers the results is pending")
	require.Contains(t, text, "half queued")

	s, err := b.OpenSession(ctx, time.Minute)
	require.NoError(t, err)
	runs, err := s.Take(ctx, broker.Want{Queues: []string{"default"}, IO: 3})
	require.NoError(t, err)
	finish := func(run *broker.TaskRun) {
		_, err := s.Finish(ctx, broker.Outcome{Run: run, Verdict: broker.Succeeded, Result: []byte{1}})
		require.NoError(t, err)
	}
	finish(runs[0])
	text = readable(get(t, h, address, http.StatusOK))
	require.Contains(t, text, "half succeeded")
	require.Contains(t, text, "half running")
	require.NotContains(t, text, "half queued")
	finish(runs[1])
	finish(runs[2])
	html := get(t, h, address, http.StatusOK)
	require.Contains(t, readable(html), "sum gathers the 3 members of group")
	require.Contains(t, readable(get(t, h, "group?id=none&queue=default", http.StatusOK)), "Nothing of this group was found")

	gone := newSite(t, &away{b, errors.New("the broker is away")}, tasks.Tasks(nil)...)
	text = readable(ask(t, gone, "group?id=none&queue=default"))
	require.Contains(t, text, "The group could not be looked for")
	require.NotContains(t, text, "Nothing of this group was found")
}
