package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/dashboard/internal/bulk"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// newSite returns the pages of a broker, and of tasks if there are any, for somebody who may
// do everything.
func newSite(t *testing.T, b broker.Broker, tasks ...taskrt.Task) http.Handler {
	t.Helper()
	return newSiteFor(t, access.NewUser("ada", access.Admin, nil, nil), b, tasks...)
}

func newSiteFor(t *testing.T, user *access.User, b broker.Broker, tasks ...taskrt.Task) http.Handler {
	t.Helper()
	inspector, err := taskrt.NewInspector(b, tasks)
	require.NoError(t, err)
	h, err := New(Config{
		Broker: b, Inspector: inspector, Client: taskrt.NewClient(b, taskrt.ClientConfig{}), Tasks: tasks,
		Jobs: bulk.New(inspector, slog.New(slog.DiscardHandler)), Name: "shop", Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	compareTemplates(t, h)
	return &testSite{h.(*site), user}
}

// testSite is a site that one user asks.
type testSite struct {
	*site
	user *access.User
}

func (s *testSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.site.ServeHTTP(w, r.WithContext(access.WithUser(r.Context(), s.user)))
}

func (s *testSite) forget() { s.looks.forget() }

func newBroker(t *testing.T) *memory.Broker {
	b := memory.New()
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// get returns a page, which must have the status.
func get(t *testing.T, h http.Handler, address string, status int) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/"+strings.TrimPrefix(address, "./"), nil))
	require.Equal(t, status, w.Code, "%s: %s", address, w.Body)
	return w.Body.String()
}

// post sends a form to act and returns where it leads to.
func post(t *testing.T, h http.Handler, status int, form url.Values) string {
	t.Helper()
	w := submit(t, h, form)
	require.Equal(t, status, w.Code, w.Body)
	return w.Header().Get("Location")
}

// sendForm sends a form to act and returns the page that it replies with.
func sendForm(t *testing.T, h http.Handler, status int, form url.Values) string {
	t.Helper()
	w := submit(t, h, form)
	require.Equal(t, status, w.Code, w.Body)
	return w.Body.String()
}

// sendAny sends a form to act and returns what is replied, whatever the status is.
func sendAny(t *testing.T, h http.Handler, form url.Values) string {
	t.Helper()
	w := submit(t, h, form)
	return w.Body.String() + w.Header().Get("Location")
}

func submit(t *testing.T, h http.Handler, form url.Values) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/act", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// readable returns what people read of a page, on one line.
func readable(html string) string {
	html = regexp.MustCompile(`(?s)<(head|script|style)\b.*?</(head|script|style)>`).ReplaceAllString(html, "")
	html = regexp.MustCompile(`<[^>]*>`).ReplaceAllString(html, " ")
	return strings.Join(strings.Fields(html), " ")
}

func newRun(id, task, queue string) *broker.TaskRun {
	return &broker.TaskRun{ID: id, Task: task, Queue: queue, Payload: []byte{0x80}, QueuedAt: time.Now()}
}

// frozen is a broker of which a test learns if it is changed.
type frozen struct {
	*memory.Broker
	t *testing.T
}

func (f *frozen) changed() error {
	f.t.Error("a page changed something")
	return errors.New("frozen")
}

func (f *frozen) QueueTasks(context.Context, ...*broker.TaskRun) error { return f.changed() }
func (f *frozen) Pause(context.Context, string, bool) error            { return f.changed() }
func (f *frozen) Disable(context.Context, string, string, bool) error  { return f.changed() }
func (f *frozen) Cancel(context.Context, string, string, broker.Failure) error {
	return f.changed()
}

func (f *frozen) RequeueDead(context.Context, string, ...string) (int, error) {
	return 0, f.changed()
}
func (f *frozen) DeleteDead(context.Context, string, ...string) (int, error) { return 0, f.changed() }
func (f *frozen) PutSchedule(context.Context, *broker.Schedule) error        { return f.changed() }
func (f *frozen) DeleteSchedule(context.Context, string, string) error       { return f.changed() }
func (f *frozen) ChangeRuns(context.Context, string, broker.State, broker.RunSearch, broker.RunChange) (*broker.ChangePage, error) {
	return nil, f.changed()
}

func (f *frozen) ChangeDead(context.Context, string, broker.DeadSearch, broker.DeadChange) (*broker.ChangePage, error) {
	return nil, f.changed()
}

// TestEachPageIsShownAndChangesNothing gets each page of an empty broker, and asks it for
// actions by GET.
func TestEachPageIsShownAndChangesNothing(t *testing.T) {
	h := newSite(t, &frozen{newBroker(t), t})
	for _, p := range pages {
		html := get(t, h, p.name+"?name=default&id=1&queue=default&task=t&do=pause", statusOfEmpty[p.name])
		require.Contains(t, html, "</html>", p.name)
		require.NotContains(t, html, "style=", p.name)
		require.NotRegexp(t, ` on[a-z]+=|href="/|action="/|src="/`, html, p.name)
	}
	get(t, h, "act?do=pause&queue=default", http.StatusMethodNotAllowed)
}

// statusOfEmpty are the statuses of pages of what an empty broker does not have.
var statusOfEmpty = func() map[string]int {
	all := map[string]int{}
	for _, p := range pages {
		all[p.name] = http.StatusOK
	}
	all["run"], all["queue"] = http.StatusNotFound, http.StatusNotFound
	all["task"] = http.StatusNotFound
	all["bulk"] = http.StatusBadRequest // pause is no change of all
	return all
}()

// TestAFormLeadsBackToAPageOfTheSite tries addresses of others.
func TestAFormLeadsBackToAPageOfTheSite(t *testing.T) {
	h := newSite(t, newBroker(t))
	for back, want := range map[string]string{
		"queues?name=a%26b":       "queues?did=pause&name=a%26b",
		"./?x=1":                  "./?did=pause&x=1",
		"":                        "./?did=pause",
		"https://example.com/":    "./?did=pause",
		"//example.com/queues":    "./?did=pause",
		"/queues":                 "./?did=pause",
		"javascript:alert(1)":     "./?did=pause",
		"../../queues":            "./?did=pause",
		"queues\r\nSet-Cookie: x": "./?did=pause",
	} {
		got := post(t, h, http.StatusSeeOther, url.Values{"do": {"pause"}, "queue": {"a"}, "back": {back}})
		require.Equal(t, want, got, back)
	}
	require.Contains(t, readable(get(t, h, "queues?did=pause", http.StatusOK)), "The queue is paused")
	require.NotContains(t, get(t, h, "queues?did=<b>owned</b>&n=<b>owned</b>", http.StatusOK), "owned</b>")
}

// TestTheQueuesAreShown has 150 of them, one of which nobody takes from.
func TestTheQueuesAreShown(t *testing.T) {
	b := newBroker(t)
	for i := range 150 {
		require.NoError(t, b.QueueTasks(t.Context(), newRun("1", "t", fmt.Sprintf("queue-%03d", i))))
	}
	require.NoError(t, b.Pause(t.Context(), "queue-149", true))
	h := newSite(t, b)
	html := get(t, h, "queues", http.StatusOK)
	require.Contains(t, readable(html), "queue-000 no consumer")
	require.Contains(t, readable(html), "Queues 1 to 100 of 150")
	require.Contains(t, html, `href="queues?from=100" rel="next"`)
	require.NotContains(t, html, "queue-100")
	require.Contains(t, readable(get(t, h, "queues?from=100&sort=name", http.StatusOK)), "queue-149 no consumer paused")
	found := readable(get(t, h, "queues?name=UE-14", http.StatusOK))
	require.Contains(t, found, "10 of 150 queues with 10 queued")
	require.NotContains(t, found, "queue-000")
	require.Contains(t, readable(get(t, h, "queues?name=none", http.StatusOK)), "None of the 150 queues does.")
}

// away is a broker that can be out of reach.
type away struct {
	*memory.Broker
	err error
}

func (a *away) QueueLength(ctx context.Context) (map[string]int64, error) {
	if a.err != nil {
		return nil, a.err
	}
	return a.Broker.QueueLength(ctx)
}

func (a *away) Queue(ctx context.Context, queue string) (*broker.QueueInfo, error) {
	if a.err != nil {
		return nil, a.err
	}
	return a.Broker.Queue(ctx, queue)
}

// ask returns what is replied to a request, whatever the status is.
func ask(t *testing.T, h http.Handler, address string) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/"+address, nil))
	require.Less(t, w.Code, http.StatusInternalServerError, "%s: %s", address, w.Body)
	return w.Body.String()
}
