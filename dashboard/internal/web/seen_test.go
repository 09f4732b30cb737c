package web

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/internal/testapp/desk"
)

// secretCount is how many runs of other tasks there are in each state.
const secretCount = 47

// fillSecrets queues runs of a task, and of another that the task's users may not see, some of
// them in the task's own queue.
func fillSecrets(t *testing.T, b *memory.Broker) {
	t.Helper()
	ctx := t.Context()
	queues := []string{"hidden-queue", "guests"}
	for _, queue := range queues {
		kill(t, b, newRun("hidden-dead", "hidden.task", queue), broker.FailureFailed, "hidden error")
	}
	mine := newRun("mine", "measure", "guests")
	mine.Links = &broker.Links{Then: []broker.FollowUp{{Run: newRun("then", "hidden.task", "hidden-queue")}}}
	require.NoError(t, b.QueueTasks(ctx, mine))
	for _, queue := range queues {
		for n := range secretCount {
			run := newRun(fmt.Sprint("hidden-run-", n), "hidden.task", queue)
			run.Rules = &broker.Rules{Limits: []broker.Limit{{Key: "hidden.task/running", Max: 1}}}
			require.NoError(t, b.QueueTasks(ctx, run))
		}
		require.NoError(t, b.Disable(ctx, queue, "hidden.task", true))
		require.NoError(t, b.AddTallies(ctx, []broker.Tally{{Queue: queue, Task: "hidden.task", Minute: time.Now().Add(-time.Minute), Succeeded: secretCount}}))
		require.NoError(t, b.PutSchedule(ctx, &broker.Schedule{ID: "hidden-schedule", Spec: "@every 1h", Run: newRun("hidden-schedule", "hidden.task", queue)}))
	}
	require.NoError(t, b.Announce(ctx, &broker.Instance{ID: "c", Role: broker.RoleConsumer, Host: "hidden-host", PID: 7, Started: time.Now(), Queues: map[string]int{"hidden-queue": 1}}))
}

// TestAUserOfSomeTasksSeesNoOtherNames asks for each page, in several ways, and for what some
// send while somebody looks, as a user of one task.
func TestAUserOfSomeTasksSeesNoOtherNames(t *testing.T) {
	b := newBroker(t)
	fillSecrets(t, b)
	all := newSite(t, b, desk.Tasks(nil)...)
	some := newSiteFor(t, access.NewUser("eve", access.Admin, nil, []string{"measure"}), b, desk.Tasks(nil)...)
	known := desk.Tasks(nil)
	require.Greater(t, len(known), 1)
	shown := 0
	for _, p := range pages {
		for _, query := range []string{
			"", "?name=guests", "?name=measure", "?id=mine&queue=guests", "?id=hidden-run-1&queue=guests", "?id=hidden-dead", "?run=mine&queue=guests",
			"?run=hidden-run-1&queue=guests", "?state=queued", "?list=1", "?key=hidden", "?do=cancel&task=measure", "?do=retry&task=measure",
			"?queue=guests", "?range=3d", "?only=made",
		} {
			address := p.name + query
			hidden := func(html, what string) bool {
				return strings.Contains(strings.ReplaceAll(strings.ReplaceAll(html, url.QueryEscape(query), ""), "key=hidden", ""), what)
			}
			asked := func(h http.Handler, address string) string {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/"+address, nil))
				require.Less(t, w.Code, 500, "%s: %s", address, w.Body)
				return w.Body.String()
			}
			texts := []string{asked(some, address)}
			if address == "" || address == "queues" { // one a second is made, by the same function
				texts = append(texts, asked(some, "events?poll=1&page="+url.QueryEscape(address)))
			}
			for _, html := range texts {
				for _, name := range []string{"hidden.task", "hidden-queue", "hidden-host", "hidden-schedule", "hidden error", "lobby"} {
					require.False(t, hidden(html, name), "%s shows %s:\n%s", address, name, html)
				}
			}
			if strings.Contains(asked(all, address), "hidden") {
				shown++
			}
		}
	}
	require.Greater(t, shown, 20, "a user of all tasks sees them")
	require.Contains(t, get(t, some, "queues", http.StatusOK), "guests")
	require.Contains(t, get(t, some, "runs", http.StatusOK), "mine")
	get(t, some, "queue?name=hidden-queue", http.StatusForbidden)
	get(t, some, "queue?name=none", http.StatusForbidden)
	get(t, some, "consumers", http.StatusForbidden)
	get(t, some, "payload?id=hidden-run-1&queue=guests", http.StatusNotFound)
	for _, do := range []string{"cancel", "retry", "delete", "run-now"} {
		for _, id := range []string{"hidden-run-1", "hidden-dead"} {
			for _, queue := range []string{"", "guests"} {
				html := sendAny(t, some, url.Values{"do": {do}, "id": {id}, "queue": {queue}})
				require.NotContains(t, html, "hidden.task", "%s %s in %q", do, id, queue)
				require.NotContains(t, html, "hidden-queue", "%s %s in %q", do, id, queue)
			}
		}
	}
}

// TestAQueueOfThisSecondIsShown asks for a queue that is younger than what pages share.
func TestAQueueOfThisSecondIsShown(t *testing.T) {
	b := newBroker(t)
	require.NoError(t, b.QueueTasks(t.Context(), newRun("1", "send", "old")))
	h := newSite(t, b)
	get(t, h, "queues", http.StatusOK)
	require.NoError(t, b.QueueTasks(t.Context(), newRun("2", "send", "young")))
	require.NotContains(t, get(t, h, "queues", http.StatusOK), "young", "it was read again")
	require.Contains(t, readable(get(t, h, "queue?name=young", http.StatusOK)), "young no consumer")
	get(t, h, "queue?name=none", http.StatusNotFound)
}
