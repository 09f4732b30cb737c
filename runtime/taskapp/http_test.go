//go:build !windows

package taskapp_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/dashboard"
)

var servedOn = regexp.MustCompile(`msg=serving .* http=(\S+)`)

// address waits for the address of a serve --http.
func (f *fleet) address(p *process) (address string) {
	f.t.Helper()
	f.await("serve logs its address", func() bool {
		found := servedOn.FindStringSubmatch(p.log.String())
		if found != nil {
			address = found[1]
		}
		return found != nil
	})
	return address
}

// client has connections of its own, which end with the test.
func httpClient(t *testing.T) *http.Client {
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// get returns the status and the body of a reply; status 0 without one.
func get(t *testing.T, c *http.Client, url string) (status int, body string) {
	t.Helper()
	r, err := c.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return r.StatusCode, string(b)
}

// TestServeAnswersOverHTTP asks for all that serve --http has, until the process has stopped.
func TestServeAnswersOverHTTP(t *testing.T) {
	f := newFleet(t)
	p := f.serve(3*time.Second, "--http", "127.0.0.1:0", "--consume")
	c, url := httpClient(t), "http://"+f.address(p)
	f.await("serve is ready", func() bool { status, _ := get(t, c, url+"/readyz"); return status == http.StatusOK })

	status, body := get(t, c, url+"/livez")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "live\n", body)
	status, body = get(t, c, url+"/metrics")
	require.Equal(t, http.StatusOK, status)
	for _, line := range []string{
		"taskgen_up 1", `taskgen_slots{kind="io"} 20`, `taskgen_slots_busy{kind="cpu"} 0`, `taskgen_queue_paused{queue="mail"} 0`,
		`taskgen_attempts_total{outcome="crashed",queue="default",task="square"} 0`, "taskgen_leases_lost_total 0", "go_goroutines ", "process_resident_memory_bytes ",
	} {
		require.Contains(t, body, "\n"+line)
	}
	status, body = get(t, c, url+"/")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "<!doctype html>")
	status, body = get(t, c, url+"/api/v1/queues")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `"queue":"mail"`)
	r, err := c.Post(url+"/scale", "text/plain", strings.NewReader(""))
	require.NoError(t, err)
	require.NoError(t, r.Body.Close())
	require.Equal(t, http.StatusMethodNotAllowed, r.StatusCode)

	// While it stops, it is alive and not ready, and is scraped to the end.
	f.queue(1)
	f.await("the run executes", func() bool { starts, _ := f.counts(); return total(starts) == 1 })
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	f.await("serve is not ready", func() bool { status, _ := get(t, c, url+"/readyz"); return status == http.StatusServiceUnavailable })
	status, _ = get(t, c, url+"/livez")
	require.Equal(t, http.StatusOK, status)
	status, body = get(t, c, url+"/metrics")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `taskgen_slots_busy{kind="io"} 1`)
	require.NoError(t, p.cmd.Wait())
	require.Contains(t, p.log.String(), `level=WARN msg="not ready" reason="serve stops"`)
	status, _ = get(t, c, url+"/livez")
	require.Zero(t, status, "the listener is closed")
	_, ends := f.counts()
	require.Equal(t, 1, total(ends))
}

// TestATakenAddressIsSaidFirst: nothing runs if the address of --http cannot be had.
func TestATakenAddressIsSaidFirst(t *testing.T) {
	f := newFleet(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	f.queue(1)
	line := f.refuses(1, "serve", "--http", l.Addr().String())
	require.Contains(t, line, "listen on "+l.Addr().String()+": another process has this address; choose one by --http, such as 127.0.0.1:0 for any port that is free")
	starts, _ := f.counts()
	require.Zero(t, total(starts))
	require.Contains(t, f.refuses(1, "serve", "--http", "192.0.2.1:0", "--http-auth", "probes"), "listen on 192.0.2.1:0: ")
}

// TestAnAddressOfOthersNeedsHTTPAuth: nothing runs if other machines reach the address of --http
// and nobody said who may ask it.
func TestAnAddressOfOthersNeedsHTTPAuth(t *testing.T) {
	f := newFleet(t)
	f.queue(1)
	for _, address := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "taskgen.example:0"} {
		line := f.refuses(2, "serve", "--http", address)
		require.Contains(t, line, "serve: --http "+address+" can be reached from other machines: say who may ask by --http-auth basic:FILE")
	}
	starts, _ := f.counts()
	require.Zero(t, total(starts))
	require.Contains(t, f.refuses(2, "serve", "--http", ":0", "--http-auth", "none"), `invalid value "none" for flag --http-auth: known are probes, basic:FILE, bearer:FILE and header:NAME,ROLE`)
	require.Contains(t, f.refuses(2, "serve", "--http", ":0", "--http-auth", ""), `flag --http-auth: known are probes`)
	require.Contains(t, f.refuses(2, "serve", "--http", ":0", "--http-auth", "basic:/none"), `no such file`)
	require.Contains(t, f.refuses(2, "serve", "--http", ":0", "--http-auth", "header:X-User"), `the header is followed by no role`)
	require.Contains(t, f.refuses(2, "serve", "--http", ":0", "--http-auth", "header:X-User,root"), `no role is named "root"`)
	require.Contains(t, f.refuses(2, "serve", "--http-host", "tasks.example.com"), "serve: --http-host needs --http")
	require.Contains(t, f.refuses(2, "serve", "--http", ":0", "--http-host", "a:80"), "it is a name without a port")
	require.Contains(t, f.refuses(2, "serve", "--http-prefix", "/tasks"), "serve: --http-prefix needs --http")
	require.Contains(t, f.refuses(2, "serve", "--http", "127.0.0.1:0", "--http-prefix", "tasks/"), `invalid value "tasks/" for flag --http-prefix: it is a path such as /tasks`)
	require.Contains(t, f.refuses(2, "serve", "--http-auth", "probes"), "serve: --http-auth needs --http")
	require.Contains(t, f.refuses(2, "serve", "--http", "nonsense"), `serve: invalid value "nonsense" for flag --http: address nonsense: missing port in address`)
	require.Contains(t, f.refuses(2, "serve", "--http", "127.0.0.1:99999"), `serve: invalid value "127.0.0.1:99999" for flag --http: address 99999: invalid port`)

	p := f.serve(0, "--http", ":0", "--http-auth", "probes")
	_, port, err := net.SplitHostPort(f.address(p))
	require.NoError(t, err)
	status, _ := get(t, httpClient(t), "http://127.0.0.1:"+port+"/livez")
	require.Equal(t, http.StatusOK, status)
	status, body := get(t, httpClient(t), "http://127.0.0.1:"+port+"/")
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, "not found; here are /metrics, /livez, /readyz and /scale?queue=NAME\n", body)
}

// TestServeAsksWhoAsks serves others, by password, token and a proxy's header.
func TestServeAsksWhoAsks(t *testing.T) {
	f := newFleet(t)
	password, err := dashboard.HashPassword("CANARY-password")
	require.NoError(t, err)
	people, programs := filepath.Join(t.TempDir(), "people"), filepath.Join(t.TempDir(), "programs")
	require.NoError(t, os.WriteFile(people, []byte("ada:"+password+" admin\n"), 0o600))
	require.NoError(t, os.WriteFile(programs, []byte("shop:"+dashboard.HashToken("CANARY-token")+" queue task:recorder_mail\n"), 0o600))
	p := f.serve(0, "--http", ":0", "--http-auth", "basic:"+people, "--http-auth", "bearer:"+programs, "--http-auth", "header:X-User,read", "--http-prefix", "/tasks", "--log", "debug")
	_, port, err := net.SplitHostPort(f.address(p))
	require.NoError(t, err)
	c, url := httpClient(t), "http://127.0.0.1:"+port
	ask := func(method, path, body string, headers ...string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		reply, err := c.Do(r)
		require.NoError(t, err)
		defer reply.Body.Close()
		text, err := io.ReadAll(reply.Body)
		require.NoError(t, err)
		return reply.StatusCode, string(text)
	}
	ada := []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("ada:CANARY-password"))}
	shop := []string{"Authorization", "Bearer CANARY-token"}
	for _, c := range []struct {
		method, path, body string
		headers            []string
		want               int
	}{
		{"GET", "/livez", "", nil, 200},
		{"GET", "/metrics", "", nil, 401}, {"GET", "/scale", "", nil, 401}, {"GET", "/tasks/", "", nil, 401}, {"GET", "/tasks/api/v1/queues", "", nil, 401},
		{"GET", "/metrics", "", ada, 200}, {"GET", "/scale", "", ada, 200}, {"GET", "/tasks/", "", ada, 200}, {"GET", "/tasks/api/v1/queues", "", ada, 200}, {"GET", "/", "", ada, 404},
		{"GET", "/metrics", "", shop, 403}, {"GET", "/tasks/api/v1/queues", "", shop, 403}, {"GET", "/tasks/", "", shop, 403},
		{"POST", "/tasks/api/v1/tasks/recorder_mail/runs", `{"to":"ada"}`, shop, 201},
		{"POST", "/tasks/api/v1/tasks/recorder_record/runs", `{"note":"n"}`, shop, 403},
		{"POST", "/tasks/api/v1/queues/mail/pause", "", shop, 403}, {"POST", "/tasks/api/v1/queues/mail/pause", "", ada, 200},
		{"GET", "/tasks/api/v1/queues", "", []string{"X-User", "bob"}, 200}, {"POST", "/tasks/api/v1/queues/mail/pause", "", []string{"X-User", "bob"}, 403},
		{"GET", "//metrics", "", nil, 404}, {"GET", "/tasks/../metrics", "", ada, 404}, {"GET", "/tasks//api/v1/queues", "", ada, 404}, {"GET", "/x/..%2fmetrics", "", ada, 404},
	} {
		status, body := ask(c.method, c.path, c.body, c.headers...)
		require.Equal(t, c.want, status, "%s %s: %s", c.method, c.path, body)
		require.NotContains(t, body, "CANARY")
	}
	for _, line := range []string{"user=shop action=queue outcome=done", "user=ada action=pause outcome=done", "user=shop action=pause outcome=refused", "user=bob action=pause outcome=refused"} {
		require.Contains(t, p.log.String(), line)
	}
	require.NotContains(t, p.log.String(), "CANARY")
	require.NoError(t, p.end(syscall.SIGTERM))
}

// TestStreamsEndWithServe: one that goes on does not hold up the stop.
func TestStreamsEndWithServe(t *testing.T) {
	f := newFleet(t)
	p := f.serve(0, "--http", "127.0.0.1:0", "--consume")
	reply, err := http.Get("http://" + f.address(p) + "/api/v1/events")
	require.NoError(t, err)
	defer reply.Body.Close()
	line, err := bufio.NewReader(reply.Body).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "retry: 2000\n", line)
	require.NoError(t, p.end(syscall.SIGTERM))
	require.NotContains(t, p.log.String(), "requests did not end")
}

// TestMetricsSayThatTheBrokerIsAway stops Redis under a serve, and starts it again.
func TestMetricsSayThatTheBrokerIsAway(t *testing.T) {
	f := newFleet(t)
	p := f.serve(0, "--http", "127.0.0.1:0")
	c, url := httpClient(t), "http://"+f.address(p)
	shows := func(lines ...string) func() bool {
		return func() bool {
			status, body := get(t, c, url+"/metrics")
			require.Equal(t, http.StatusOK, status)
			for _, line := range lines {
				if !strings.Contains(body, "\n"+line) {
					return false
				}
			}
			return true
		}
	}
	f.await("the fleet is shown", shows("taskgen_up 1", `taskgen_queue_runs{queue="default",state="ready"} 0`))
	f.await("serve is ready", func() bool { status, _ := get(t, c, url+"/readyz"); return status == http.StatusOK })
	f.server.Stop()
	f.await("the broker is away", shows("taskgen_up 0"))
	_, body := get(t, c, url+"/metrics")
	require.NotContains(t, body, "taskgen_queue_", "no stale number")
	require.Contains(t, body, "taskgen_attempts_total", "what the process measured stays")
	f.await("serve is not ready", func() bool { status, _ := get(t, c, url+"/readyz"); return status == http.StatusServiceUnavailable })
	status, _ := get(t, c, url+"/livez")
	require.Equal(t, http.StatusOK, status, "a restart of the process would not help")
	status, body = get(t, c, url+"/scale")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "the broker does not reply in full\n", body)
	f.server.Restart()
	f.await("the fleet is shown again", shows("taskgen_up 1", `taskgen_queue_runs{queue="default",state="ready"} 0`))
	f.await("serve is ready again", func() bool { status, _ := get(t, c, url+"/readyz"); return status == http.StatusOK })
}

// TestHealthAsksNoProxy: another answers for the serve otherwise.
func TestHealthAsksNoProxy(t *testing.T) {
	f := newFleet(t)
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	f.refuses(1, "health", "--http", "192.0.2.1:1")
}

// TestHealthIsAnExitStatus asks a serve, and the broker.
func TestHealthIsAnExitStatus(t *testing.T) {
	f := newFleet(t)
	p := f.serve(0, "--http", "127.0.0.1:0")
	address := f.address(p)
	f.await("serve is ready", func() bool { return f.app("health", "--http", address).code == 0 })
	require.Equal(t, "http://"+address+"/readyz replies: ready\n", f.says("health", "--http", address))
	require.Equal(t, "http://"+address+"/livez replies: live\n", f.says("health", "--http", address, "--live"))
	var view struct {
		Healthy bool
		Checked string
	}
	f.tells(&view, "health", "--http", address)
	require.True(t, view.Healthy)
	f.await("the broker knows this host", func() bool { return f.app("health").code == 0 })
	host, err := os.Hostname()
	require.NoError(t, err)
	require.Contains(t, f.says("health"), fmt.Sprintf(" %d of host %s is up\n", p.cmd.Process.Pid, host))
	require.Contains(t, f.refuses(2, "health", "--live"), "--live needs --http")
	require.Contains(t, f.refuses(2, "health", "--http", "x"), `invalid value "x" for flag --http`)
	require.NoError(t, p.end(syscall.SIGTERM))
	require.Contains(t, f.refuses(1, "health", "--http", address), "connection refused")
	require.Contains(t, f.refuses(1, "health"), "no consumer or scheduler of host "+host+" is up")
}
