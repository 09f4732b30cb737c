package web

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func TestSchedulesAreShownAndOperated(t *testing.T) {
	b := newBroker(t)
	ctx := taskrt.WithClient(t.Context(), taskrt.NewClient(b, taskrt.ClientConfig{}))
	require.Contains(t, readable(get(t, newSite(t, b), "schedules", http.StatusOK)), "Nothing has a schedule")
	_, err := taskrt.Schedule(ctx, "30 2 * * *", "America/New_York", tasks.CallRecorderRecord("at night"), taskrt.ID("nightly"), taskrt.OnQueue("night"))
	require.NoError(t, err)
	require.NoError(t, b.PutSchedule(t.Context(), &broker.Schedule{ID: "odd", Spec: hostile, Run: newRun("odd", "<b>unknown", "night")}))
	h := newSite(t, b, tasks.Tasks(nil)...)
	html := get(t, h, "schedules", http.StatusOK)
	text := readable(html)
	require.Contains(t, text, "at 02:30 every day, America/New_York time")
	require.Contains(t, text, "30 2 * * * (America/New_York)")
	require.Contains(t, text, "02:30 does not exist: it runs at 03:00")
	require.Regexp(t, `02:30:00 -0[45]:00 E[SD]T`, text)
	require.Contains(t, text, "every second")
	require.Contains(t, text, "a rule of another version")
	require.NotContains(t, html, "<b>unknown")
	require.NotContains(t, html, "<script>alert")
	require.Contains(t, text, "overdue no scheduler is up")
	require.NotContains(t, readable(get(t, h, "schedules?only=made", http.StatusOK)), "recorder_tick")
	require.Contains(t, readable(get(t, h, "schedules?name=none", http.StatusOK)), "No schedule matches")

	post(t, h, http.StatusSeeOther, url.Values{"do": {"tick"}, "task": {"recorder_record"}, "queue": {"night"}, "schedule": {"nightly"}})
	runs := liveRuns(t, b, "night")
	require.Len(t, runs, 1)
	require.Contains(t, string(runs[0].Run.Payload), "at night")
	post(t, h, http.StatusSeeOther, url.Values{"do": {"tick"}, "task": {"recorder_tick"}, "queue": {"default"}})
	require.Len(t, liveRuns(t, b, "default"), 1)
	post(t, h, http.StatusNotFound, url.Values{"do": {"tick"}, "task": {"recorder_record"}, "queue": {"night"}, "schedule": {"none"}})
	post(t, h, http.StatusNotFound, url.Values{"do": {"tick"}, "task": {"unknown"}, "queue": {"night"}})

	post(t, h, http.StatusSeeOther, url.Values{"do": {"disable"}, "task": {"recorder_tick"}, "queue": {"default"}})
	require.Contains(t, readable(get(t, h, "schedules?only=disabled", http.StatusOK)), "recorder_tick")

	for _, u := range []*access.User{access.NewUser("eve", access.Operator, nil, nil), access.NewUser("eve", access.Admin, nil, []string{"recorder_tick"})} {
		other := newSiteFor(t, u, b, tasks.Tasks(nil)...)
		end := url.Values{"do": {"unschedule"}, "task": {"recorder_record"}, "queue": {"night"}, "schedule": {"nightly"}}
		post(t, other, http.StatusForbidden, end)
		require.NotContains(t, get(t, other, "schedules", http.StatusOK), `value="unschedule"`)
	}
	liar := newSiteFor(t, access.NewUser("eve", access.Admin, nil, []string{"recorder_tick"}), b, tasks.Tasks(nil)...)
	post(t, liar, http.StatusNotFound, url.Values{"do": {"unschedule"}, "task": {"recorder_tick"}, "queue": {"night"}, "schedule": {"nightly"}})
	post(t, h, http.StatusSeeOther, url.Values{"do": {"unschedule"}, "task": {"recorder_record"}, "queue": {"night"}, "schedule": {"nightly"}})
	left, err := b.Schedules(t.Context(), "night")
	require.NoError(t, err)
	require.Len(t, left, 1)
	post(t, h, http.StatusNotFound, url.Values{"do": {"unschedule"}, "queue": {"night"}, "schedule": {"nightly"}})
}

func TestLimitsShowWhoWaitsBehindThem(t *testing.T) {
	b := newBroker(t)
	ctx := taskrt.WithClient(t.Context(), taskrt.NewClient(b, taskrt.ClientConfig{}))
	h := newSite(t, b, tasks.Tasks(nil)...)
	text := readable(get(t, h, "limits", http.StatusOK))
	require.Contains(t, text, "Nothing is held back")
	require.Contains(t, text, "recorder_limited default 2 at once")
	for n := range 7 {
		_, err := tasks.QueueRecorderLimited(ctx, "acme <b>", n)
		require.NoError(t, err)
	}
	s, err := b.OpenSession(t.Context(), time.Minute)
	require.NoError(t, err)
	_, err = s.Take(t.Context(), broker.Want{Queues: []string{"default"}, IO: 10})
	require.NoError(t, err)
	html := get(t, newSite(t, b, tasks.Tasks(nil)...), "limits", http.StatusOK)
	text = readable(html)
	require.Contains(t, text, "Held back 5")
	require.Contains(t, text, "recorder_limited")
	require.Contains(t, text, "2 of 2")
	require.Contains(t, html, `href="runs?state=queued&amp;queue=default&amp;task=recorder_limited"`)
	require.NotContains(t, html, "acme <b>")
	require.Contains(t, html, "acme")
	require.Contains(t, readable(get(t, newSite(t, b), "limits?queue=other", http.StatusOK)), "Show the limits of all queues")
	other := newSiteFor(t, access.NewUser("eve", access.Reader, nil, []string{"square"}), b, tasks.Tasks(nil)...)
	require.NotContains(t, get(t, other, "limits", http.StatusOK), "acme")
}
