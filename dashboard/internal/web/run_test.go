package web

import (
	"bytes"
	"context"
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
	taskrt "github.com/taskgen/taskgen/runtime"
)

// deskRun returns a run of a task of the desk.
func deskRun(t *testing.T, id, task string, params any) *broker.TaskRun {
	t.Helper()
	for _, known := range desk.Tasks(nil) {
		if known.Name() != task {
			continue
		}
		payload, err := known.EncodeParams(params)
		require.NoError(t, err)
		spec := known.Spec()
		return &broker.TaskRun{ID: id, Task: task, Queue: spec.Queue, Kind: spec.Kind, Payload: payload, QueuedAt: time.Now(), Keep: time.Hour, KeepParams: true}
	}
	t.Fatal("there is no task " + task)
	return nil
}

// end takes the run of a queue and ends it.
func end(t *testing.T, b *memory.Broker, queue string, outcome broker.Outcome) {
	t.Helper()
	s, err := b.OpenSession(t.Context(), time.Minute)
	require.NoError(t, err)
	runs, err := s.Take(t.Context(), broker.Want{Queues: []string{queue}, IO: 1, CPU: 1})
	require.NoError(t, err)
	history := outcome.Run
	outcome.Run = runs[0]
	if history != nil {
		outcome.Run.History, outcome.Run.Attempt = history.History, history.Attempt
	}
	_, err = s.Finish(t.Context(), outcome)
	require.NoError(t, err)
	require.NoError(t, s.Close(t.Context()))
}

// TestParametersAreShownByNameWithTypes has an int64 that a float64 cannot hold, and a secret.
func TestParametersAreShownByNameWithTypes(t *testing.T) {
	b := newBroker(t)
	run := deskRun(t, "greet-1", "greet_guest", &desk.GreetGuestParams{
		Name: "Ada", Times: 9007199254740993, At: time.Date(2026, 5, 17, 8, 0, 0, 0, time.UTC), Pause: 90 * time.Second, Tags: []string{"a"}, Pin: "0815-secret",
	})
	require.NoError(t, b.QueueTasks(t.Context(), run))
	h := newSite(t, b, desk.Tasks(nil)...)
	html := get(t, h, "run?id=greet-1&queue=guests", http.StatusOK)
	text := readable(html)
	for _, want := range []string{
		"name string &#34;Ada&#34;", "times int64 9007199254740993", "at time &#34;2026-05-17T08:00:00Z&#34;", "pause duration 90000000000 1m30s",
		"pin string *** secret", "The bytes are not shown, as the task has secret parameters.", "queued", "Waits for a consumer", "Queue one like it",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, html, "0815")
	get(t, h, "payload?id=greet-1&queue=guests", http.StatusForbidden)
	require.Contains(t, readable(get(t, newSite(t, b), "run?id=greet-1", http.StatusOK)), "bytes of a task that this program does not have")
	get(t, newSite(t, b), "payload?id=greet-1&queue=guests", http.StatusForbidden)
}

// TestALargePayloadIsFolded has one of a mebibyte.
func TestALargePayloadIsFolded(t *testing.T) {
	b := newBroker(t)
	run := deskRun(t, "big", "measure", &desk.MeasureParams{Text: strings.Repeat("0123456789abcdef", 1<<16)})
	require.NoError(t, b.QueueTasks(t.Context(), run))
	h := newSite(t, b, desk.Tasks(nil)...)
	html := get(t, h, "run?id=big&queue="+run.Queue, http.StatusOK)
	require.Less(t, len(html), 150_000)
	require.Contains(t, readable(html), "Show the beginning of 1 MiB")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/payload?id=big&queue="+run.Queue, nil))
	require.Equal(t, http.StatusOK, w.Code)
	require.True(t, bytes.Equal(run.Payload, w.Body.Bytes()))
	require.Contains(t, w.Header().Get("Content-Disposition"), "attachment")
}

// TestARunThatFailedIsExplained has one whose process was killed in its second attempt.
func TestARunThatFailedIsExplained(t *testing.T) {
	b := newBroker(t)
	run := deskRun(t, "crop-1", "measure", &desk.MeasureParams{Text: "x"})
	run.OwnID, run.ParentID, run.RootID, run.Headers = true, "parent-1", "root-1", map[string]string{"tenant": "lyon"}
	require.NoError(t, b.QueueTasks(t.Context(), run))
	began := time.Now().Add(-10 * time.Second)
	end(t, b, run.Queue, broker.Outcome{
		Run: &broker.TaskRun{Attempt: 2, History: &broker.History{Attempts: []broker.Attempt{
			{Started: began, Took: 2 * time.Second, Host: "worker-7:42", Kind: broker.FailureTimeout, Message: "it took longer than 2s"},
			{Started: began.Add(5 * time.Second), Took: time.Second, Host: "worker-8:43", Kind: broker.FailureCrashed, Message: "its process crashed"},
		}}},
		Verdict: broker.Dead,
		Failure: &broker.Failure{Kind: broker.FailureCrashed, Message: "its process crashed", Stack: "signal: killed, user 120ms, system 8ms, at most 35 MiB\n\ngoroutine 1 [running]:\n\tmain.go:7"},
	})
	h := newSite(t, b, desk.Tasks(nil)...)
	html := get(t, h, "run?id=crop-1&queue="+run.Queue, http.StatusOK)
	text := readable(html)
	for _, want := range []string{
		"Why it failed", "crashed its process crashed", "Child process ended by signal: killed", "Processor time, user 120ms", "Peak memory 35 MiB", "goroutine 1 [running]: main.go:7",
		"Attempt 1: timeout after 2 s", "worker-7:42", "waited 3 s", "Attempt 2: crashed after 1 s", "Became a dead letter", "Queued by run parent-1", "First of all root-1", "tenant lyon",
		"Retry with other parameters",
	} {
		require.Contains(t, text, want)
	}
	require.Contains(t, html, `href="run?id=parent-1"`)

	live := deskRun(t, "crop-1", "measure", &desk.MeasureParams{Text: "y"})
	live.OwnID = true
	require.NoError(t, b.QueueTasks(t.Context(), live))
	retry := url.Values{"do": {"retry"}, "id": {"crop-1"}, "queue": {run.Queue}, "back": {"run?id=crop-1"}}
	require.Contains(t, readable(sendForm(t, h, http.StatusConflict, retry)), "run crop-1 lives, and has its id or its unique key")
	require.NoError(t, b.Cancel(t.Context(), run.Queue, "crop-1", broker.Failure{Kind: broker.FailureCancelled}))
	require.Equal(t, "run?did=retry&id=crop-1&n=1", post(t, h, http.StatusSeeOther, retry))
	require.Contains(t, readable(sendForm(t, h, http.StatusConflict, retry)), "is no dead letter of queue")
}

// TestARunThatRunsShowsItsProgress and one that succeeded its result.
func TestARunThatRunsShowsItsProgress(t *testing.T) {
	b := newBroker(t)
	require.NoError(t, b.QueueTasks(t.Context(), deskRun(t, "m-1", "measure", &desk.MeasureParams{Text: "x"})))
	s, err := b.OpenSession(t.Context(), time.Minute)
	require.NoError(t, err)
	run := taken(t, s, desk.Tasks(nil), "measure")
	_, err = s.(broker.Heartbeater).Heartbeat(t.Context(), broker.Report{Progress: []broker.ProgressReport{{Run: run, Progress: broker.Progress{Done: 3, Total: 4, Note: "three"}}}})
	require.NoError(t, err)
	h := newSite(t, b, desk.Tasks(nil)...)
	text := readable(get(t, h, "run?id=m-1", http.StatusOK))
	require.Contains(t, text, "3 of 4, 75 %")
	require.Contains(t, text, "three")
	require.Contains(t, text, "Attempt 1 goes on")
	_, err = s.Finish(t.Context(), broker.Outcome{Run: run, Verdict: broker.Succeeded, Result: []byte{7}})
	require.NoError(t, err)
	require.NoError(t, s.Close(t.Context()))
	text = readable(get(t, h, "run?id=m-1", http.StatusOK))
	require.Contains(t, text, "succeeded")
	require.Contains(t, text, "Result 7")
	require.Contains(t, readable(get(t, h, "run?id=none", http.StatusNotFound)), "no run none in")
	get(t, h, "run", http.StatusBadRequest)
}

func taken(t *testing.T, s broker.Session, tasks []taskrt.Task, name string) *broker.TaskRun {
	t.Helper()
	for _, task := range tasks {
		if task.Name() == name {
			runs, err := s.Take(t.Context(), broker.Want{Queues: []string{task.Spec().Queue}, IO: 1, CPU: 1})
			require.NoError(t, err)
			return runs[0]
		}
	}
	t.Fatal("there is no task " + name)
	return nil
}

// TestAnIdOfSeveralQueuesIsToldApart has two live runs with one id.
func TestAnIdOfSeveralQueuesIsToldApart(t *testing.T) {
	b := newBroker(t)
	for _, queue := range []string{"a", "b"} {
		run := newRun("same", "send", queue)
		run.Keep = time.Hour
		require.NoError(t, b.QueueTasks(context.WithoutCancel(t.Context()), run))
	}
	h := newSite(t, b)
	require.Contains(t, readable(get(t, h, "run?id=same", http.StatusConflict)), "with one of a, b")
	get(t, h, "run?id=same&queue=b", http.StatusOK)
	some := newSiteFor(t, access.NewUser("eve", access.Admin, nil, []string{"other"}), b)
	for _, address := range []string{"run?id=same", "payload?id=same", "group?run=same"} {
		require.Contains(t, get(t, h, address, http.StatusConflict), "with one of a, b", address)
		require.NotContains(t, get(t, some, address, http.StatusConflict), "one of", "%s names queues of others", address)
	}
	require.NotContains(t, sendAny(t, some, url.Values{"do": {"cancel"}, "id": {"same"}}), "a, b", "it names queues of others")
}
