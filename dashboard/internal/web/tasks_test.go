package web

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// liveRuns returns the runs that are queued or delayed in a queue.
func liveRuns(t *testing.T, b broker.Broker, queue string) (runs []*broker.RunInfo) {
	t.Helper()
	for _, state := range []broker.State{broker.StateQueued, broker.StateDelayed} {
		some, err := b.(broker.Controls).Runs(t.Context(), queue, state, 100)
		require.NoError(t, err)
		runs = append(runs, some...)
	}
	return runs
}

func TestTheTasksAreListed(t *testing.T) {
	b := newBroker(t)
	h := newSite(t, b, tasks.Tasks(nil)...)
	text := readable(get(t, h, "tasks", http.StatusOK))
	require.Contains(t, text, "recorder_limited")
	require.Contains(t, text, "at most 2 at once")
	require.Contains(t, text, "every second")
	text = readable(get(t, h, "tasks?name=SQUA&kind=cpu", http.StatusOK))
	require.Contains(t, text, "square")
	require.NotContains(t, text, "recorder_limited")
	require.Contains(t, readable(get(t, h, "tasks?name=nothing", http.StatusOK)), "No task matches")
	require.Contains(t, readable(get(t, newSite(t, b), "tasks", http.StatusOK)), "This program has no tasks")
	require.NoError(t, b.Disable(t.Context(), "default", "square", true))
	require.Contains(t, readable(get(t, newSite(t, b, tasks.Tasks(nil)...), "tasks?name=square", http.StatusOK)), "disabled")
	for _, name := range []string{"ada", "bob"} {
		h = newSiteFor(t, access.NewUser(name, access.Reader, nil, []string{"square"}), b, tasks.Tasks(nil)...)
		text = readable(get(t, h, "tasks", http.StatusOK))
		require.Contains(t, text, "1 task.")
		require.NotContains(t, text, "recorder")
		get(t, h, "task?name=login", http.StatusForbidden)
	}
}

func TestATaskIsShownAndSwitched(t *testing.T) {
	b := newBroker(t)
	h := newSite(t, b, tasks.Tasks(nil)...)
	html := get(t, h, "task?name=recorder_tick", http.StatusOK)
	text := readable(html)
	require.Contains(t, text, "every second")
	require.Equal(t, 5, strings.Count(text[:strings.Index(text, "Queue a run")], "UTC ("))
	require.NoError(t, b.AddTallies(t.Context(), []broker.Tally{{Queue: "default", Task: "square", Minute: time.Now(), Succeeded: 41, Dead: 3}}))
	text = readable(get(t, newSite(t, b, tasks.Tasks(nil)...), "task?name=square", http.StatusOK))
	require.Contains(t, text, "41 succeeded, 3 failed attempts")
	get(t, h, "task?name=nothing", http.StatusNotFound)
	get(t, h, "task", http.StatusBadRequest)

	form := url.Values{"do": {"disable"}, "task": {"square"}, "queue": {"default"}, "back": {"task?name=square"}}
	require.Equal(t, "task?did=disable&name=square", post(t, h, http.StatusSeeOther, form))
	require.Contains(t, readable(get(t, h, "task?did=disable&name=square", http.StatusOK)), "The task is disabled: no consumer takes its runs")
	form.Set("do", "enable")
	post(t, h, http.StatusSeeOther, form)
	info, err := b.Queue(t.Context(), "default")
	require.NoError(t, err)
	require.Empty(t, info.Disabled)
	reader := newSiteFor(t, access.NewUser("eve", access.Operator, nil, nil), b, tasks.Tasks(nil)...)
	require.NotContains(t, get(t, reader, "task?name=square", http.StatusOK), `value="disable"`)
	post(t, reader, http.StatusForbidden, url.Values{"do": {"disable"}, "task": {"square"}, "queue": {"default"}})
}

func TestARunIsQueuedByItsForm(t *testing.T) {
	b := newBroker(t)
	h := newSite(t, b, tasks.Tasks(nil)...)
	html := get(t, h, "task?name=shaped", http.StatusOK)
	for _, part := range []string{`name="p:/size/Width"`, `name="p:/best/Height"`, `left empty: 1m30s`, `name="set:/text"`, `app`} {
		require.Contains(t, html, part)
	}
	form := url.Values{
		"do": {"queue"}, "task": {"shaped"}, "p:/size/Width": {"9007199254740993"}, "p:/size/Height": {"-1"}, "p:/list": {"[1]"}, "p:/byName": {""},
		"p:/pause": {"90"}, "o:delay": {"10m"}, "o:queue": {"elsewhere"}, "o:priority": {"high"}, "o:id": {"mine"}, "o:headers": {"a=b\r\nc=d=e"},
	}
	html = sendForm(t, h, http.StatusUnprocessableEntity, form)
	require.Contains(t, readable(html), "a number needs a unit, such as 30s")
	require.Contains(t, readable(html), "Nothing was queued.")
	require.Contains(t, html, `value="9007199254740993"`)
	require.Empty(t, liveRuns(t, b, "elsewhere"))

	form.Set("p:/pause", "90s")
	form.Set("do", "preview")
	html = sendForm(t, h, http.StatusOK, form)
	require.Contains(t, html, "queue shaped --queue=elsewhere --priority=high --delay=10m --id=mine --header=a=b --header=c=d=e")
	require.Contains(t, html, "9007199254740993")
	require.Empty(t, liveRuns(t, b, "elsewhere"))

	form.Set("do", "queue")
	require.Contains(t, post(t, h, http.StatusSeeOther, form), "did=queue")
	runs := liveRuns(t, b, "elsewhere")
	require.Len(t, runs, 1)
	run := runs[0].Run
	require.Equal(t, "mine", run.ID)
	require.Equal(t, broker.High, run.Priority)
	require.Equal(t, map[string]string{"a": "b", "c": "d=e"}, run.Headers)
	require.WithinDuration(t, time.Now().Add(10*time.Minute), runs[0].Due, time.Minute)
	post(t, h, http.StatusConflict, form)

	reader := newSiteFor(t, access.NewUser("eve", access.Reader, nil, nil), b, tasks.Tasks(nil)...)
	require.NotContains(t, get(t, reader, "task?name=shaped", http.StatusOK), "Queue the run")
	post(t, reader, http.StatusForbidden, form)
	post(t, newSiteFor(t, access.NewUser("eve", access.Admin, nil, []string{"square"}), b, tasks.Tasks(nil)...), http.StatusForbidden, form)
}

func TestOptionsAreCheckedAtTheirFields(t *testing.T) {
	h := newSite(t, newBroker(t), tasks.Tasks(nil)...)
	form := url.Values{
		"do": {"queue"}, "task": {"square"}, "p:/n": {"3"}, "o:delay": {"soon"}, "o:at": {"never"}, "o:queue": {"<b>\x00"}, "o:priority": {"<i>"},
		"o:id": {"two words"}, "o:headers": {"nothing"},
	}
	text := readable(sendForm(t, h, http.StatusUnprocessableEntity, form))
	for _, want := range []string{"no duration such as 10m", "no time such as", "no queue can have this name", "an id has at most 200", "each line is key=value"} {
		require.Contains(t, text, want)
	}
}

// TestARunIsQueuedAgainWithEditedParameters begins with those of a run with a secret.
func TestARunIsQueuedAgainWithEditedParameters(t *testing.T) {
	b := newBroker(t)
	ctx := taskrt.WithClient(t.Context(), taskrt.NewClient(b, taskrt.ClientConfig{}))
	h := newSite(t, b, tasks.Tasks(nil)...)
	_, err := tasks.QueueLogin(ctx, "ada <b>", 27182, taskrt.ID("before"), taskrt.OnQueue("other"))
	require.NoError(t, err)
	html := get(t, h, "task?name=login&from=before&fromqueue=other", http.StatusOK)
	require.Contains(t, html, "ada &lt;b&gt;")
	require.Contains(t, html, `name="o:queue" value="other"`)
	require.NotContains(t, html, "27182")
	form := url.Values{"do": {"queue"}, "task": {"login"}, "from": {"before"}, "fromqueue": {"other"}, "p:/user": {"bob"}, "o:queue": {"x"}}
	post(t, h, http.StatusSeeOther, form)
	runs := liveRuns(t, b, "x")
	require.Len(t, runs, 1)
	for _, task := range tasks.Tasks(nil) {
		if task.Name() == "login" {
			params, err := task.DecodeParams(runs[0].Run.Payload)
			require.NoError(t, err)
			require.Equal(t, &tasks.LoginParams{User: "bob", Pin: 27182}, params)
		}
	}
	get(t, h, "task?name=square&from=before&fromqueue=other", http.StatusBadRequest)
	get(t, h, "task?name=login&from=nobody", http.StatusNotFound)
	form.Set("p:/pin", "secret-text")
	html = sendForm(t, h, http.StatusUnprocessableEntity, form)
	require.NotContains(t, html, "secret-text")
	require.Contains(t, readable(html), "Secrets were not kept: write them again.")
}
