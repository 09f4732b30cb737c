package dashboard_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/dashboard"
)

func newDashboard(t *testing.T, prefix string) http.Handler {
	b := memory.New()
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	h, err := dashboard.New(b, dashboard.Config{Prefix: prefix, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return h
}

// TestAnyPrefixWorks mounts the dashboard in all ways that there are.
func TestAnyPrefixWorks(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/stripped/here/", http.StripPrefix("/stripped/here", newDashboard(t, "")))
	mux.Handle("/stripped/here", http.StripPrefix("/stripped/here", newDashboard(t, "")))
	mux.Handle("/told/", newDashboard(t, "/told"))
	mux.Handle("/told", newDashboard(t, "/told/"))
	mux.Handle("/", newDashboard(t, ""))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	for _, at := range []string{"/", "/stripped/here/", "/told/", "/stripped/here", "/told"} {
		reply, err := server.Client().Get(server.URL + at)
		require.NoError(t, err)
		require.NoError(t, reply.Body.Close())
		require.Equal(t, http.StatusOK, reply.StatusCode, at)
		for _, relative := range []string{"queues", "style.css", "script.js"} {
			there, err := reply.Request.URL.Parse(relative)
			require.NoError(t, err)
			asset, err := server.Client().Get(there.String())
			require.NoError(t, err)
			require.NoError(t, asset.Body.Close())
			require.Equal(t, http.StatusOK, asset.StatusCode, there)
			require.Contains(t, asset.Header.Get("Content-Security-Policy"), "default-src 'none'", there)
		}
	}
}

// TestPagesAndRoles asks for pages, files and forms as users who may not.
func TestPagesAndRoles(t *testing.T) {
	b := memory.New()
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	var log bytes.Buffer
	var login dashboard.Login
	access := dashboard.AccessFunc(func(*http.Request) (*dashboard.User, error) {
		if login.User.Name == "" {
			return nil, dashboard.ErrNoUser
		}
		return &login.User, nil
	})
	h, err := dashboard.New(b, dashboard.Config{Access: access, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	ask := func(method, path string, user dashboard.User) *httptest.ResponseRecorder {
		login.User = user
		w, r := httptest.NewRecorder(), httptest.NewRequest(method, path, strings.NewReader("do=pause&queue=q"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		h.ServeHTTP(w, r)
		require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'", path)
		return w
	}
	reader, nobody := dashboard.User{Name: "r", Role: dashboard.RoleRead}, dashboard.User{Name: "n", Actions: []dashboard.Action{dashboard.ActionQueue}}
	pages := []string{"/", "/bulk"} // the latter is in no navigation
	nav, _, _ := strings.Cut(ask("GET", "/", reader).Body.String(), "</nav>")
	for _, link := range regexp.MustCompile(`<li><a href="([a-z]+)"`).FindAllStringSubmatch(nav, -1) {
		pages = append(pages, "/"+link[1])
	}
	require.Greater(t, len(pages), 8)
	for _, page := range pages {
		require.Equal(t, http.StatusUnauthorized, ask("GET", page, dashboard.User{}).Code, page)
		require.Equal(t, http.StatusForbidden, ask("GET", page, nobody).Code, page)
		require.Equal(t, http.StatusOK, ask("GET", page, reader).Code, page)
	}
	for _, path := range []string{"/events?page=runs", "/run?id=x", "/style.css", "/nothing", "/api/v1/none"} {
		require.Equal(t, http.StatusUnauthorized, ask("GET", path, dashboard.User{}).Code, path)
	}
	paused := func() bool {
		info, err := b.Queue(t.Context(), "q")
		return err == nil && info.Paused
	}
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
		ask(method, "/act?do=pause&queue=q", dashboard.User{Name: "a", Role: dashboard.RoleAdmin})
		require.False(t, paused(), "%s changes something", method)
	}
	ask("POST", "/act", reader)
	require.False(t, paused())
	require.Contains(t, log.String(), "user=r action=pause outcome=")
	require.NotContains(t, log.String(), "user=r action=pause outcome=done")
	ask("POST", "/act", dashboard.User{Name: "o", Role: dashboard.RoleOperate})
	require.True(t, paused())
	require.Contains(t, log.String(), "user=o action=pause outcome=done")
}

// TestAnAccessThatPanics lets nobody in, and shows nothing of why.
func TestAnAccessThatPanics(t *testing.T) {
	b := memory.New()
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	var log bytes.Buffer
	access := dashboard.AnyOf(dashboard.AccessFunc(func(*http.Request) (*dashboard.User, error) { panic("CANARY") }))
	h, err := dashboard.New(b, dashboard.Config{Access: access, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	require.Equal(t, http.StatusForbidden, w.Code)
	require.NotContains(t, w.Body.String(), "CANARY")
	require.Contains(t, log.String(), "CANARY")
}
