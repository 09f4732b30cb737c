package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
)

// jobIn returns the id of the job that a form led to.
func jobIn(t *testing.T, location string) string {
	t.Helper()
	u, err := url.Parse(location)
	require.NoError(t, err)
	require.Equal(t, "bulk", u.Path)
	require.NotEmpty(t, u.Query().Get("job"))
	return u.Query().Get("job")
}

func TestAllThatMatchIsCountedAndThenChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		h := newSite(t, b)
		var runs []*broker.TaskRun
		for n := range 300 {
			runs = append(runs, newRun(fmt.Sprintf("r-%d", n), []string{"mail", "pay"}[n%2], "shop"))
		}
		require.NoError(t, b.QueueTasks(t.Context(), runs...))
		text := readable(get(t, h, "bulk?do=cancel&task=mail&queue=shop", http.StatusOK))
		require.Contains(t, text, "Cancel all runs that match")
		require.Contains(t, text, "150 runs would be changed")
		require.Contains(t, readable(get(t, h, "bulk?do=cancel", http.StatusOK)), "300 runs would be changed")
		require.Contains(t, text, "Nothing was changed yet.")
		require.Len(t, liveRuns(t, b, "shop"), 100, "of 300; the list is bounded")
		require.Contains(t, readable(get(t, h, "bulk?do=cancel&task=none", http.StatusOK)), "there is nothing to do")
		require.Contains(t, readable(get(t, h, "bulk?do=cancel&task=mail&count=1", http.StatusOK)), "150 runs")
		get(t, h, "bulk?do=cancel&state=failed", http.StatusUnprocessableEntity)
		get(t, h, "bulk?do=cancel&state=failed&count=1", http.StatusUnprocessableEntity)
		get(t, h, "bulk?do=explode", http.StatusBadRequest)
		get(t, h, "bulk?job=none", http.StatusNotFound)

		form := url.Values{"do": {"all-cancel"}, "task": {"mail"}, "queue": {"shop"}}
		job := jobIn(t, post(t, h, http.StatusSeeOther, form))
		synctest.Wait()
		text = readable(get(t, h, "bulk?job="+job, http.StatusOK))
		require.Contains(t, text, "Cancelling runs done")
		require.Contains(t, text, "Changed 150")
		info, err := b.Queue(t.Context(), "shop")
		require.NoError(t, err)
		require.EqualValues(t, 150, info.Queued)
		require.Contains(t, readable(get(t, h, "bulk", http.StatusOK)), "Cancelling runs done")

		form = url.Values{"do": {"all-cancel"}, "task": {"pay"}, "rate": {"1"}}
		job = jobIn(t, post(t, h, http.StatusSeeOther, form))
		time.Sleep(5 * time.Second) // the bubble's clock
		html := get(t, h, "bulk?job="+job, http.StatusOK)
		require.Contains(t, html, `value="all-stop"`)
		require.Contains(t, readable(html), "Rate 1 a second")
		require.Equal(t, "bulk?did=all-stop&job="+job, post(t, h, http.StatusSeeOther, url.Values{"do": {"all-stop"}, "job": {job}, "back": {"bulk?job=" + job}}))
		synctest.Wait()
		require.Contains(t, readable(get(t, h, "bulk?job="+job, http.StatusOK)), "Cancelling runs stopped")
		info, err = b.Queue(t.Context(), "shop")
		require.NoError(t, err)
		require.Positive(t, info.Queued)
		post(t, h, http.StatusBadRequest, url.Values{"do": {"all-cancel"}, "rate": {"fast"}})
	})
}

// TestWhatStaysIsGroupedByWhy requeues dead letters of which some are live runs.
func TestWhatStaysIsGroupedByWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		h := newSite(t, b)
		for n := range 8 {
			run := newRun(fmt.Sprintf("d-%d", n), "pay", "shop")
			run.OwnID = true
			kill(t, b, run, broker.FailureFailed, hostile)
		}
		for n := range 3 {
			run := newRun(fmt.Sprintf("d-%d", n), "pay", "shop")
			run.OwnID = true
			require.NoError(t, b.QueueTasks(t.Context(), run))
		}
		html := get(t, h, "bulk?do=retry&error="+url.QueryEscape("<script>"), http.StatusOK)
		require.Contains(t, readable(html), "8 dead letters would be changed")
		require.NotContains(t, html, "<script>alert")
		job := jobIn(t, post(t, h, http.StatusSeeOther, url.Values{"do": {"all-retry"}, "error": {"<script>"}}))
		synctest.Wait()
		html = get(t, h, "bulk?job="+job, http.StatusOK)
		text := readable(html)
		require.Contains(t, text, "Changed 5")
		require.Contains(t, text, "What stayed, and why 3 ")
		require.NotContains(t, html, "<script>alert")
	})
}

func TestChangesOfAllNeedTheAction(t *testing.T) {
	b := newBroker(t)
	require.NoError(t, b.QueueTasks(t.Context(), newRun("1", "mail", "shop")))
	for _, u := range []*access.User{access.NewUser("eve", access.Reader, nil, nil), access.NewUser("eve", access.Admin, nil, []string{"mail"})} {
		h := newSiteFor(t, u, b)
		for _, do := range []string{"cancel", "run-now", "retry", "delete"} {
			get(t, h, "bulk?do="+do, http.StatusForbidden)
			post(t, h, http.StatusForbidden, url.Values{"do": {"all-" + do}})
		}
		require.Contains(t, readable(get(t, h, "bulk", http.StatusOK)), "Nothing was changed in bulk lately")
	}
	require.Len(t, liveRuns(t, b, "shop"), 1)
	html := get(t, newSiteFor(t, access.NewUser("eve", access.Operator, nil, []string{"mail"}), b), "bulk?do=cancel&task=mail", http.StatusOK)
	require.Contains(t, html, `value="all-cancel"`)
	require.Equal(t, 1, strings.Count(html, "<form class=\"card"))
}
