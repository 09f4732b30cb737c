package redis_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// TestErrorsInURLsAreNamed checks that each error names the fault and its remedy in one
// line, and shows no password.
func TestErrorsInURLsAreNamed(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t"
	locked := redistest.Start(t, "--requirepass", "right-horse")
	secure := redistest.StartTLS(t)
	sentinel := redistest.StartSentinel(t)
	// Servers that are no Redis: they answer otherwise, repeat the request, or stay silent.
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	echo := listen(t, func(conn net.Conn) { _, _ = io.Copy(conn, conn) })
	silent := listen(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	closing := listen(t, func(net.Conn) {})

	full := redistest.Start(t)
	require.NoError(t, raw(t, full).ConfigSet(t.Context(), "maxclients", "1").Err())

	right, wrong := ":right-horse@"+locked.Addr(), ":"+secret+"@"+locked.Addr()
	for _, test := range []struct{ name, url, want string }{
		{"a letter is missing", "redis://" + wrong + "?prefx=x", `unknown option "prefx"; write prefix`},
		{"two letters are swapped", "redis+cluster://" + wrong + "?add=x:1&acknowlegde=disk", `unknown option "acknowlegde"; write acknowledge`},
		{"no such option", "redis://" + wrong + "?" + secret + "=x", "one of its options is unknown, or has a value that it cannot have; there are prefix, "},
		{"an option of others", "redis://" + wrong + "?master_name=m", "option master_name does not go with redis:"},
		{"a value that cannot be", "redis://" + wrong + "?db=" + secret, "option db cannot have the value it has"},
		{"no slashes", "redis:" + locked.Addr(), "two slashes and a host have to follow redis:, as in redis://host:6379"},
		{"no slashes before a password", "redis:" + secret + right, "two slashes and a host have to follow redis:"},
		{"one slash", "rediss:/" + locked.Addr(), "two slashes and a host have to follow rediss:"},
		{"no slashes, a cluster", "redis+cluster:" + locked.Addr(), "two slashes and a host have to follow redis+cluster:"},
		{"a database below zero", "redis://" + wrong + "/-1", "the number of the database is negative"},
		{"an option below zero", "redis://" + wrong + "?db=-2", "the number of the database is negative"},
		{"a wrong password", "redis://" + wrong, "WRONGPASS invalid username-password pair or user is disabled: check both in the URL"},
		{"a wrong user", "redis://" + secret + right, "WRONGPASS invalid username-password pair or user is disabled: check both in the URL"},
		{"no password", locked.URL(), "NOAUTH Authentication required: write both into the URL"},
		{"no such database", "redis://" + right + "/99", "DB index is out of range: name a smaller number"},
		{"TLS to a plain port", "rediss://" + right, "does not speak TLS: write redis: instead of rediss:"},
		{"TLS to a plain node", "rediss+cluster://" + right, "does not speak TLS: write redis+cluster: instead of rediss+cluster:"},
		{"no TLS to a port of TLS", "redis://:" + secret + "@" + secure.TLSAddr(), "speaks TLS: write rediss: instead of redis:"},
		{"an authority nobody knows", "rediss://:" + secret + "@" + secure.TLSAddr(), "certificate signed by unknown authority: name a file with its authority in SSL_CERT_FILE"},
		{"a server of web pages", "redis://:" + secret + "@" + web.Listener.Addr().String(), "answers as Redis does: check the host and the port"},
		{"what repeats all", "redis://:" + secret + "@" + echo, "answers as Redis does: check the host and the port"},
		{"what is silent", "redis://:" + secret + "@" + silent, silent + " accepts connections, but has not answered within 1s: it is stopped, busy for as long, or no Redis"},
		{"what is silent, by TLS", "rediss://:" + secret + "@" + silent, silent + " accepts connections, but has not answered within 1s"},
		{"what hangs up", "redis://:" + secret + "@" + closing, "answers as Redis does: check the host and the port"},
		{"nobody", "redis://:" + secret + "@127.0.0.1:1", "connection refused: check the host and the port, and that the server runs"},
		{"no socket", "unix://:" + secret + "@/no/such.sock", "no such file or directory: check the path of the socket"},
		{"no connection left", full.URL(), "ERR max number of clients reached: others use all the connections that its maxclients allows"},
		{"no connection left on a node", strings.Replace(full.URL(), "redis:", "redis+cluster:", 1), "ERR max number of clients reached: others use"},
		{"no cluster", "redis+cluster://" + right, "cluster support disabled: write redis: instead of redis+cluster:"},
		{"no sentinel", "redis+sentinel://" + right + "?master_name=m", "name the host and port of a sentinel, often 26379, or write redis: instead"},
		{"no such master", strings.Replace(sentinel.URL(), "master_name=", "master_name=no", 1), "check master_name"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b, err := redis.Open(within(t, 10*time.Second), test.url, redis.Config{Timeout: time.Second})
			require.Nil(t, b)
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), secret)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

// listen answers connections until the test ends, and returns where.
func listen(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { // until the other end closes it
				defer conn.Close()
				answer(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
	})
	return listener.Addr().String()
}
