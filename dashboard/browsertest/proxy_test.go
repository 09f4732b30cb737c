package browsertest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/dashboard"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// streams is what passes requests to a dashboard on, counts the streams that are open, and can
// cut them as proxies do.
type streams struct {
	next http.Handler

	mu   sync.Mutex
	open map[int]context.CancelFunc
	all  int
}

func (p *streams) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, "/events") {
		p.next.ServeHTTP(w, r)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	p.mu.Lock()
	p.all++
	id := p.all
	if p.open == nil {
		p.open = make(map[int]context.CancelFunc)
	}
	p.open[id] = cancel
	p.mu.Unlock()
	p.next.ServeHTTP(w, r.WithContext(ctx))
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, id)
}

// counts returns how many streams are open, and how many there were.
func (p *streams) counts() (open, all int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open), p.all
}

// cut ends all streams.
func (p *streams) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, cancel := range p.open {
		cancel()
	}
}

// anybody is an access for requests that come through a proxy.
var anybody = dashboard.AccessFunc(func(*http.Request) (*dashboard.User, error) {
	return &dashboard.User{Name: "ada", Role: dashboard.RoleAdmin, PerSecond: 100_000}, nil
})

// serve serves a handler until the test ends and returns its address without a slash at its end.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// proxyTo returns a reverse proxy to a server.
func proxyTo(t *testing.T, address string) http.Handler {
	t.Helper()
	to, err := url.Parse(address)
	require.NoError(t, err)
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.SetXForwarded()
	}}
}

// TestDashboardWorksAtAnyPath mounts it in all ways that there are. Every link leads somewhere,
// and a person finds the way to a page, does something and sees it live.
func TestDashboardWorksAtAnyPath(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fill()
	plain := s.handler(dashboard.Config{Access: anybody})
	at := func(path string, h http.Handler) http.Handler {
		mux := http.NewServeMux()
		mux.Handle(path, h)
		mux.Handle(path+"/", h)
		return mux
	}
	// What strips makes the path "/" of its own, so that it has to add the slash, as nginx does.
	stripping := http.NewServeMux()
	stripping.Handle("/tools/desk/", http.StripPrefix("/tools/desk", proxyTo(t, serve(t, plain))))
	for _, mount := range []struct{ name, base string }{
		{"at the root", serve(t, plain) + "/"},
		{"StripPrefix", serve(t, at("/a/b", http.StripPrefix("/a/b", plain))) + "/a/b/"},
		{"a proxy that strips", serve(t, stripping) + "/tools/desk/"},
		{"a proxy that does not strip", serve(t, at("/tools/desk", proxyTo(t, serve(t, s.handler(dashboard.Config{Access: anybody, Prefix: "/tools/desk"}))))) + "/tools/desk/"},
	} {
		t.Run(mount.name, func(t *testing.T) {
			pages := crawl(t, mount.base)
			require.Greater(t, len(pages), 20)
			t.Parallel()
			tab := newTab(t, mount.base)
			tab.open(strings.TrimSuffix(mount.base, "/"))
			tab.awaitText("Needs attention")
			require.Equal(t, mount.base, tab.address())
			tab.click("nav a", "Tasks")
			tab.awaitPage("tasks")
			tab.click("main a", "measure")
			tab.awaitPage("task", "name", "measure")
			text := "queued " + mount.name
			tab.fill("textarea.grow", text)
			tab.click("button", "Queue the run")
			tab.await("it is queued", "document.querySelector('.done')")
			require.True(t, strings.HasPrefix(tab.address(), mount.base), tab.address())
			tab.click("nav a", "Queues")
			tab.awaitPage("queues")
			name := "made-" + strings.ReplaceAll(mount.name, " ", "-")
			s.greet("ada", taskrt.OnQueue(name))
			tab.awaitText(name)
		})
	}
}
