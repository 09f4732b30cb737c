package dashboard_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
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
