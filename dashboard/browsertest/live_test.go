package browsertest

import (
	"net/http"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/dashboard"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestPagesFollow sees a page show by itself what another program does.
func TestPagesFollow(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.greet("ada")
	tab := s.tab("queues")
	tab.awaitText("guests")
	s.greet("grace")
	s.greet("edsger")
	tab.await("the page follows", "/\\b3\\b/.test(document.querySelector(\"tr:has(a[href*='guests'])\").innerText)")
}

// TestPagesPauseAndRecover counts the streams of a page: it has none while nobody sees it or a
// person paused it, and opens another after a proxy cut it.
func TestPagesPauseAndRecover(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	through := &streams{next: s.handler(dashboard.Config{Access: anybody})}
	tab := newTab(t, serve(t, through)+"/")
	open := func(what string, want int) {
		t.Helper()
		s.awaitBroker(what, func() bool { open, _ := through.counts(); return open == want })
	}
	follows := func(queue string) {
		t.Helper()
		s.greet("ada", taskrt.OnQueue(queue))
		tab.awaitText(queue)
	}
	tab.open("queues")
	follows("first")

	through.cut()
	follows("second")
	_, all := through.counts()
	require.Equal(t, 2, all)

	tab.click("[data-live-toggle]", "Live")
	tab.awaitText("Paused")
	open("a paused page has no stream", 0)
	s.greet("ada", taskrt.OnQueue("third"))
	tab.click("[data-live-toggle]", "Paused")
	tab.awaitText("third")

	other := tab.inFront()
	tab.await("it is hidden", "document.hidden")
	open("a hidden page has no stream", 0)
	s.greet("ada", taskrt.OnQueue("fourth"))
	other()
	tab.await("it is seen", "!document.hidden")
	tab.awaitText("fourth")

	tab.lifecycle(page.SetWebLifecycleStateStateFrozen)
	open("a frozen page has no stream", 0)
	s.greet("ada", taskrt.OnQueue("fifth"))
	tab.lifecycle(page.SetWebLifecycleStateStateActive)
	tab.inFront()() // it is hidden until it comes to the front again
	tab.awaitText("fifth")
}

// TestPagesPollWhereNoStreamGetsThrough is behind a proxy that lets no stream through.
func TestPagesPollWhereNoStreamGetsThrough(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	next := s.handler(dashboard.Config{Access: anybody})
	tab := newTab(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/events" && !r.URL.Query().Has("poll") {
			http.Error(w, "no streams here", http.StatusBadGateway)
			return
		}
		next.ServeHTTP(w, r)
	}))+"/")
	tab.expect("502 (Bad Gateway)")
	tab.open("queues")
	tab.awaitText("Live, by polling")
	s.greet("ada", taskrt.OnQueue("polled"))
	tab.awaitText("polled")
}
