package web

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/dashboard/internal/access"
)

// kill queues a run and has it become a dead letter.
func kill(t *testing.T, b *memory.Broker, run *broker.TaskRun, kind broker.FailureKind, message string) {
	t.Helper()
	require.NoError(t, b.QueueTasks(t.Context(), run))
	s, err := b.OpenSession(t.Context(), time.Minute)
	require.NoError(t, err)
	runs, err := s.Take(t.Context(), broker.Want{Queues: []string{run.Queue}, IO: 1, CPU: 1})
	require.NoError(t, err)
	_, err = s.Finish(t.Context(), broker.Outcome{Run: runs[0], Verdict: broker.Dead, Failure: &broker.Failure{Kind: kind, Message: message}})
	require.NoError(t, err)
	require.NoError(t, s.Close(t.Context()))
}

const hostile = `<script>alert(1)</script>"'\u202e<b>`

func TestDeadLettersAreShownByTheirErrors(t *testing.T) {
	b := newBroker(t)
	h := newSite(t, b)
	require.Contains(t, readable(get(t, h, "dead", http.StatusOK)), "There is no dead letter")
	for n := range 60 {
		kill(t, b, newRun(fmt.Sprintf("order-%d", n), "pay", "shop"), broker.FailureFailed, fmt.Sprintf("order %d is unpaid\nat line 3", n))
	}
	kill(t, b, newRun("odd", "<i>task", "shop"), broker.FailureTimeout, hostile)
	h = newSite(t, b)
	html := get(t, h, "dead", http.StatusOK)
	text := readable(html)
	require.Contains(t, text, "failed order # is unpaid pay 60")
	require.Contains(t, text, "Looked at all 61 dead letters.")
	require.NotContains(t, html, "<script>alert")
	require.NotContains(t, html, "<i>task")
	require.Contains(t, html, `href="dead?list=1&amp;task=pay&amp;kind=failed&amp;alike=order&#43;%23&#43;is&#43;unpaid"`)
	require.Contains(t, html, `bulk?do=retry&amp;task=pay`)

	list := "dead?list=1&task=pay&kind=failed&alike=order+%23+is+unpaid"
	html = get(t, h, list, http.StatusOK)
	require.Contains(t, html, "order-59")
	require.NotContains(t, html, ">odd<")
	require.Contains(t, html, `rel="next"`)
	require.Contains(t, readable(get(t, h, list+"&error=nothing", http.StatusOK)), "No dead letter matches")
	require.Contains(t, readable(get(t, h, "dead?since=never", http.StatusOK)), "neither a time")

	choices := []string{url.Values{"id": {"order-1"}, "queue": {"shop"}}.Encode(), url.Values{"id": {"order-2"}, "queue": {"shop"}}.Encode()}
	require.Equal(t, "dead?did=retry&list=1&n=2", post(t, h, http.StatusSeeOther, url.Values{"do": {"retry"}, "run": choices, "back": {"dead?list=1"}}))
	require.Len(t, liveRuns(t, b, "shop"), 2)
	require.Contains(t, readable(get(t, h, "dead", http.StatusOK)), "is unpaid pay 58", "what was done is seen at once")
	post(t, h, http.StatusSeeOther, url.Values{"do": {"delete"}, "run": {url.Values{"id": {"order-3"}, "queue": {"shop"}}.Encode()}})
	require.Contains(t, readable(get(t, h, "dead", http.StatusOK)), "is unpaid pay 57")

	reader := newSiteFor(t, access.NewUser("eve", access.Reader, nil, []string{"other"}), b)
	text = readable(get(t, reader, "dead", http.StatusOK))
	require.NotContains(t, text, "unpaid")
	require.NotContains(t, get(t, reader, "dead?list=1", http.StatusOK), "order-59")
	reader = newSiteFor(t, access.NewUser("eve", access.Reader, nil, nil), b)
	html = get(t, reader, "dead", http.StatusOK) + get(t, reader, "dead?list=1", http.StatusOK)
	require.NotContains(t, html, "bulk?")
	require.NotContains(t, html, `value="retry"`)
}
