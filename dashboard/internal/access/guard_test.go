package access

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// guarded returns a handler behind a guard, and what it logs. The handler replies with the
// name of the user.
func guarded(f Finder) (http.Handler, *bytes.Buffer) {
	var log bytes.Buffer
	g := NewGuard(GuardConfig{Finder: f, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	return g.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		EntryOf(r.Context()).Set(Cancel, "mail.send", "r1", "r2")
		_, _ = io.WriteString(w, UserOf(r.Context()).Name)
	})), &log
}

// local returns a request of this machine.
func local(method, target string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	r.RemoteAddr, r.Host = "127.0.0.1:40000", "localhost:8080"
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func do(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestWithoutAccessOnlyThisMachineIsServed(t *testing.T) {
	h, _ := guarded(nil)
	for _, c := range []struct {
		name, remote string
		headers      []string
		want         int
	}{
		{"loopback", "127.0.0.1:4", nil, 200},
		{"the whole loopback network", "127.9.9.9:4", nil, 200},
		{"IPv6", "[::1]:4", []string{"Host", "[::1]:8080"}, 200},
		{"IPv4 in IPv6", "[::ffff:127.0.0.1]:4", []string{"Host", "127.0.0.1"}, 200},
		{"a host without port", "127.0.0.1:4", []string{"Host", "LocalHost"}, 200},
		{"IPv6 without port", "127.0.0.1:4", []string{"Host", "[::1]"}, 200},
		{"another machine", "10.0.0.7:4", nil, 403},
		{"another machine by IPv6", "[fe80::1%eth0]:4", nil, 403},
		{"no address", "@", nil, 403},
		{"rebinding", "127.0.0.1:4", []string{"Host", "evil.example:8080"}, 403},
		{"rebinding to a name that looks local", "127.0.0.1:4", []string{"Host", "localhost.evil.example"}, 403},
		{"rebinding to a name that begins as an address", "127.0.0.1:4", []string{"Host", "127.0.0.1.evil.example"}, 403},
		{"no host", "127.0.0.1:4", []string{"Host", ""}, 403},
		{"address of this machine in its network", "127.0.0.1:4", []string{"Host", "10.0.0.7:8080"}, 403},
		{"proxy", "127.0.0.1:4", []string{"X-Forwarded-For", "127.0.0.1"}, 403},
		{"proxy with an empty header", "127.0.0.1:4", []string{"Via", ""}, 403},
		{"proxy of the standard", "127.0.0.1:4", []string{"Forwarded", "for=1.2.3.4"}, 403},
	} {
		for _, method := range []string{"GET", "POST"} {
			r := local(method, "/runs", c.headers...)
			r.RemoteAddr = c.remote
			w := do(h, r)
			require.Equal(t, c.want, w.Code, "%s: %s", c.name, w.Body)
			if c.want == 403 {
				require.Contains(t, w.Body.String(), "Config.Access", c.name)
			}
		}
	}
}

func TestOtherSitesAreRefused(t *testing.T) {
	h, _ := guarded(nil)
	for _, c := range []struct {
		name, method string
		headers      []string
		want         int
	}{
		{"no browser", "POST", nil, 200},
		{"own page", "POST", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"typed in", "GET", []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate"}, 200},
		{"a link of another site", "GET", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 200},
		{"own origin in an old browser", "POST", []string{"Origin", "http://localhost:8080"}, 200},
		{"a form of another site", "POST", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 403},
		{"a form of the same site", "POST", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "navigate"}, 403},
		{"a script of another site", "POST", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors"}, 403},
		{"a script of another site that reads", "GET", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, 403},
		{"another origin in an old browser", "POST", []string{"Origin", "http://evil.example"}, 403},
		{"another port in an old browser", "POST", []string{"Origin", "http://localhost:9"}, 403},
		{"no origin in an old browser", "POST", []string{"Origin", "null"}, 403},
		{"a form of another site that deletes", "DELETE", []string{"Origin", "http://evil.example"}, 403},
		{"a preflight", "OPTIONS", []string{"Origin", "http://evil.example", "Access-Control-Request-Method", "POST"}, 405},
		{"a trace", "TRACE", nil, 405},
	} {
		w := do(h, local(c.method, "/act", c.headers...))
		require.Equal(t, c.want, w.Code, c.name)
		require.Empty(t, w.Header().Get("Access-Control-Allow-Origin"), c.name)
	}
}

func TestAllRepliesAreBounded(t *testing.T) {
	h, _ := guarded(nil)
	for _, r := range []*http.Request{local("GET", "/"), local("POST", "/", "Origin", "http://evil.example"), local("GET", "/", "Host", "evil.example"), local("GET", "/a//b")} {
		w := do(h, r)
		require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
		require.NotContains(t, w.Header().Get("Content-Security-Policy"), "unsafe")
		require.Contains(t, w.Header().Get("Content-Security-Policy"), "frame-ancestors 'none'")
		require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	}
}

func TestPathsByDetoursAreNotFound(t *testing.T) {
	h, _ := guarded(nil)
	for path, want := range map[string]int{
		"/": 200, "/runs": 200, "/api/v1/": 200, "/api/v1/runs/schedule%2Fa": 200,
		"//runs": 404, "/api//v1": 404, "/api/../runs": 404, "/api/%2e%2e/runs": 404, "/%2e/": 404,
		"/api/..%2fruns": 404, "/a\\b": 404, "/a%5cb": 404, "/a%00": 404, "//evil.example/%2e%2e": 404,
	} {
		r := local("GET", "/")
		u, err := url.ParseRequestURI(path)
		require.NoError(t, err)
		r.URL = u
		w := do(h, r)
		require.Equal(t, want, w.Code, path)
		require.Empty(t, w.Header().Get("Location"), path)
	}
}

func TestLargeRequestsAreRefused(t *testing.T) {
	var read error
	g := NewGuard(GuardConfig{})
	h := g.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, read = io.Copy(io.Discard, r.Body) }))
	require.Equal(t, 414, do(h, local("GET", "/?q="+strings.Repeat("a", maxURL))).Code)
	require.Equal(t, 431, do(h, local("GET", "/", "X-Long", strings.Repeat("a", maxHeaders))).Code)
	r := local("POST", "/")
	r.Body = io.NopCloser(io.LimitReader(zeros{}, maxBody+1))
	do(h, r)
	var tooLarge *http.MaxBytesError
	require.ErrorAs(t, read, &tooLarge)
}

// TestASlowBodyIsRefused sends a part of a body, and nothing more.
func TestASlowBodyIsRefused(t *testing.T) {
	read := make(chan error, 1)
	g := NewGuard(GuardConfig{Logger: slog.New(slog.DiscardHandler)})
	g.bodyTime = time.Millisecond
	server := httptest.NewServer(g.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		read <- err
	})))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\npart")
	require.NoError(t, err)
	require.ErrorIs(t, <-read, os.ErrDeadlineExceeded)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestAWriteIsOneAuditLine(t *testing.T) {
	h, log := guarded(nil)
	do(h, local("GET", "/runs"))
	require.Empty(t, log.String())
	do(h, local("POST", "/act"))
	require.Equal(t, 1, strings.Count(log.String(), "\n"), log)
	for _, part := range []string{"user=local", "action=cancel", "task=mail.send", `ids="[r1 r2]"`, "outcome=done", "status=200"} {
		require.Contains(t, log.String(), part)
	}
	log.Reset()
	do(h, local("POST", "/act", "Origin", "http://evil.example"))
	require.Contains(t, log.String(), "outcome=refused")
}

// TestAnAuditLineIsBounded fills all texts of a line: a request may have 8 MB of them.
func TestAnAuditLineIsBounded(t *testing.T) {
	var log bytes.Buffer
	long := strings.Repeat("é", 1<<19)
	g := NewGuard(GuardConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	h := g.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		e := EntryOf(r.Context())
		e.Set(Cancel, long, long, "r2")
		e.Add("filter", long, "count", 3)
		e.Fail(errors.New(long))
	}))
	do(h, local("POST", "/"+strings.Repeat("a", maxURL-10)))
	require.Less(t, log.Len(), 5000)
	require.Contains(t, log.String(), "(1048576 bytes)")
	require.Contains(t, log.String(), "r2")
	require.Contains(t, log.String(), "count=3")
}

func TestAPanicIsAnAuditLine(t *testing.T) {
	var log bytes.Buffer
	g := NewGuard(GuardConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	h := g.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	require.PanicsWithError(t, http.ErrAbortHandler.Error(), func() { do(h, local("POST", "/act")) })
	require.Contains(t, log.String(), "outcome=failed")
}

// finderFunc is a function as a Finder.
type finderFunc func(r *http.Request) (*User, error)

func (f finderFunc) Find(r *http.Request) (*User, error) { return f(r) }

func TestUsersHaveARate(t *testing.T) {
	g := NewGuard(GuardConfig{Finder: finderFunc(func(r *http.Request) (*User, error) {
		u := NewUser(r.Header.Get("X-Name"), Admin, nil, nil)
		u.PerSecond = 10
		return u, nil
	})})
	now := time.Now()
	g.rates.now = func() time.Time { return now }
	h := g.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for i := range 20 {
		require.Equal(t, 200, do(h, local("GET", "/", "X-Name", "ada")).Code, i)
	}
	w := do(h, local("GET", "/api/v1/runs", "X-Name", "ada"))
	require.Equal(t, 429, w.Code)
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	require.Equal(t, 200, do(h, local("GET", "/", "X-Name", "bob")).Code)
	now = now.Add(100 * time.Millisecond)
	require.Equal(t, 200, do(h, local("GET", "/", "X-Name", "ada")).Code)
	require.Equal(t, 429, do(h, local("GET", "/", "X-Name", "ada")).Code)
}

func TestRatesOfUsersAreBounded(t *testing.T) {
	r := rates{now: time.Now, users: make(map[string]*rate)}
	for i := range 3 * maxRated {
		r.take(&User{Name: strings.Repeat("x", i%5) + time.Duration(i).String(), PerSecond: 1})
	}
	require.LessOrEqual(t, len(r.users), maxRated)
}

func TestWhyAFinderRefuses(t *testing.T) {
	h, log := guarded(finderFunc(func(*http.Request) (*User, error) { return nil, errors.New("no badge") }))
	w := do(h, local("GET", "/"))
	require.Equal(t, 403, w.Code)
	require.Contains(t, w.Body.String(), "no badge")
	require.Contains(t, log.String(), "no badge")
	do(h, local("GET", "/"))
	require.Equal(t, 1, strings.Count(log.String(), "\n"), "refusals fill the log")
	h, _ = guarded(finderFunc(func(*http.Request) (*User, error) { return nil, nil }))
	require.Equal(t, 401, do(h, local("GET", "/")).Code)
}
