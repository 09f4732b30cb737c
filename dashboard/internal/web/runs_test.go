package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
)

// choice is the value of the checkbox of a run.
func choice(id, queue string) string { return url.Values{"id": {id}, "queue": {queue}}.Encode() }

// TestRunsAreFilteredAndPaged has 120 runs of two tasks in two queues.
func TestRunsAreFilteredAndPaged(t *testing.T) {
	b := newBroker(t)
	for n := range 120 {
		run := newRun(fmt.Sprintf("run-%03d", n), "send", "mail")
		if n%2 == 1 {
			run.Task, run.Queue = "charge", "payments"
		}
		if n < 10 {
			run.Delay = time.Hour
		}
		require.NoError(t, b.QueueTasks(t.Context(), run))
	}
	h := newSite(t, b)
	html := get(t, h, "runs", http.StatusOK)
	text := readable(html)
	require.Contains(t, text, "Queued 110")
	require.Contains(t, text, "Delayed 10")
	require.Contains(t, text, "Searched 50 runs for this page.")
	require.Contains(t, readable(get(t, h, "runs?state=queued", http.StatusOK)), "Searched 50 of about 110 runs for this page.")
	next := regexp.MustCompile(`href="(runs\?after=[^"]*)" rel="next"`).FindStringSubmatch(html)
	require.Len(t, next, 2)
	seen := map[string]bool{}
	for pages := 0; next != nil; pages++ {
		require.Less(t, pages, 4)
		for _, id := range regexp.MustCompile(`title="(run-\d+)"`).FindAllStringSubmatch(html, -1) {
			require.False(t, seen[id[1]], id[1])
			seen[id[1]] = true
		}
		if next = regexp.MustCompile(`href="(runs\?after=[^"]*)" rel="next"`).FindStringSubmatch(html); next != nil {
			html = get(t, h, next[1], http.StatusOK)
		}
	}
	require.Len(t, seen, 120)

	for query, want := range map[string]int{
		"state=delayed": 10, "state=delayed&task=charge": 5, "queue=payments&state=delayed": 5, "key=run-00": 10, "task=none": 0,
		"since=1h&key=run-00": 10, "before=1h": 0, "error=oops": 0, "kind=timeout": 0,
	} {
		html := get(t, h, "runs?"+query, http.StatusOK)
		require.Len(t, regexp.MustCompile(`title="run-\d+"`).FindAllString(html, -1), want, query)
		if want == 0 {
			require.Contains(t, readable(html), "No run matches", query)
		}
	}
	for query, want := range map[string]string{
		"state=dead": "no run is in the state", "tag=none": "no task of this program has the tag", "kind=none": "no failure of the kind", "since=soon": "neither a time",
	} {
		require.Contains(t, readable(get(t, h, "runs?"+query, http.StatusOK)), want)
	}
	require.Contains(t, get(t, h, "runs?state=delayed&task=charge", http.StatusOK), `href="bulk?do=cancel&amp;state=delayed&amp;task=charge"`)
	get(t, h, "runs?after=nonsense", http.StatusBadRequest)
}

// TestSelectedRunsAreChanged cancels some of several queues, and makes one due.
func TestSelectedRunsAreChanged(t *testing.T) {
	b := newBroker(t)
	for n := range 4 {
		run := newRun(fmt.Sprint("run-", n), "send", fmt.Sprint("q", n%2))
		run.Delay = time.Hour
		require.NoError(t, b.QueueTasks(t.Context(), run))
	}
	h := newSite(t, b)
	form := url.Values{"do": {"cancel"}, "run": {choice("run-0", "q0"), choice("run-1", "q1"), choice("gone", "q1")}, "back": {"runs?state=delayed"}}
	back := post(t, h, http.StatusSeeOther, form)
	require.Equal(t, "runs?did=cancel&n=2&state=delayed", back)
	text := readable(get(t, h, back, http.StatusOK))
	require.Contains(t, text, "Cancelled: 2 runs.")
	require.NotContains(t, text, "run-0")
	post(t, h, http.StatusConflict, form)
	post(t, h, http.StatusBadRequest, url.Values{"do": {"cancel"}})
	post(t, h, http.StatusBadRequest, url.Values{"do": {"cancel"}, "run": {"%zz"}})
	post(t, h, http.StatusSeeOther, url.Values{"do": {"run-now"}, "id": {"run-2"}, "queue": {"q0"}})
	lengths, err := b.Queue(t.Context(), "q0")
	require.NoError(t, err)
	require.EqualValues(t, 1, lengths.Queued)
}

// TestPagesShowWhatTheUserMay has one who may only read one of two tasks, and one who may do
// nothing but read.
func TestPagesShowWhatTheUserMay(t *testing.T) {
	b := newBroker(t)
	require.NoError(t, b.QueueTasks(t.Context(), newRun("mine", "send", "mail"), newRun("other", "charge", "mail")))
	kill(t, b, newRun("dead-other", "charge", "dead"), broker.FailureFailed, "oops")

	h := newSiteFor(t, access.NewUser("eve", access.Operator, nil, []string{"send"}), b)
	html := get(t, h, "runs", http.StatusOK)
	require.Contains(t, html, `title="mine"`)
	require.NotContains(t, html, `title="other"`)
	get(t, h, "run?id=mine", http.StatusOK)
	get(t, h, "run?id=other", http.StatusNotFound)
	get(t, h, "payload?id=other&queue=mail", http.StatusNotFound)
	require.NotContains(t, get(t, h, "", http.StatusOK), "dead-other")
	post(t, h, http.StatusNotFound, url.Values{"do": {"cancel"}, "id": {"other"}, "queue": {"mail"}, "task": {"send"}})
	post(t, h, http.StatusForbidden, url.Values{"do": {"pause"}, "queue": {"mail"}})
	post(t, h, http.StatusNotFound, url.Values{"do": {"retry"}, "id": {"dead-other"}, "queue": {"dead"}, "task": {"send"}})
	post(t, h, http.StatusSeeOther, url.Values{"do": {"cancel"}, "id": {"mine"}, "queue": {"mail"}})

	h = newSiteFor(t, access.NewUser("bob", access.Reader, nil, nil), b)
	for _, address := range []string{"runs", "run?id=other", "run?id=dead-other", "queue?name=mail", "dead?list=1"} {
		require.NotContains(t, get(t, h, address, http.StatusOK), `name="do"`, address)
	}
	for _, do := range []string{"cancel", "retry", "delete", "run-now", "pause", "resume"} {
		post(t, h, http.StatusForbidden, url.Values{"do": {do}, "id": {"other"}, "queue": {"mail"}})
	}

	h = newSiteFor(t, access.NewUser("nobody", access.None, nil, nil), b)
	for _, p := range pages {
		get(t, h, p.name, http.StatusForbidden)
	}
	get(t, h, "events?page=runs", http.StatusForbidden)
}

// TestABrokerThatIsAwayIsToldAndWhatWasIsShown cuts the connection after the first page.
func TestABrokerThatIsAwayIsToldAndWhatWasIsShown(t *testing.T) {
	b := &away{Broker: newBroker(t)}
	require.NoError(t, b.QueueTasks(t.Context(), newRun("1", "send", "mail")))
	h := newSite(t, b)
	require.Contains(t, readable(get(t, h, "queues", http.StatusOK)), "mail no consumer")
	b.err = errors.New("connection refused")
	h.(interface{ forget() }).forget()
	text := readable(get(t, h, "queues", http.StatusOK))
	require.Contains(t, text, "This is how it was")
	require.Contains(t, text, "The broker cannot be read: connection refused")
	require.Contains(t, text, "mail no consumer")
	html := get(t, newSite(t, b), "queues", http.StatusBadGateway)
	require.Contains(t, readable(html), "connection refused")
	require.Contains(t, readable(html), "Load the page again once it is reachable")
}
