// Package redistest starts a real redis-server for a test.
package redistest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startTimeout bounds how long a server may take to answer, loading included.
const startTimeout = 20 * time.Second

// TB is what a server needs of a test. A package that shares one server among
// its tests gives a TB of its own to [Launch] in TestMain.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Server is a redis-server on a free port of the loopback, with an append-only
// file in a folder of its own.
type Server struct {
	tb   TB
	port int
	dir  string
	args []string

	mu  sync.Mutex
	cmd *exec.Cmd
}

// Start starts a server that ends with the test, with further arguments of
// redis-server ("--appendfsync", "always"). Without a redis-server to start
// the test fails: what was not tested must not look tested.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s := Launch(t, t.TempDir(), args...)
	t.Cleanup(s.Stop)
	return s
}

// Launch starts a server that keeps its files in dir and ends with Stop.
func Launch(tb TB, dir string, args ...string) *Server {
	tb.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		tb.Fatalf("redis-server is not installed: apt-get install redis-server, or run the tests by make test, which does it")
	}
	port, err := freePort()
	if err != nil {
		tb.Fatalf("find free port: %v", err)
	}
	s := &Server{tb: tb, port: port, dir: dir, args: args}
	s.Restart()
	return s
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Addr is the server's host and port.
func (s *Server) Addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// URL is the server's address as a broker's URL.
func (s *Server) URL() string { return "redis://" + s.Addr() }

// Dir is the folder of the server's files.
func (s *Server) Dir() string { return s.dir }

func (s *Server) log() string { return filepath.Join(s.dir, "redis.log") }

// Restart starts the server again after Kill9 or Stop, on the same port and
// files, and returns once it has loaded them.
func (s *Server) Restart() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		s.tb.Fatalf("restart redis-server: it is running")
	}
	args := append([]string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir,
		"--unixsocket", filepath.Join(s.dir, "redis.sock"),
		"--appendonly", "yes", "--save", "", "--enable-debug-command", "local",
		"--enable-protected-configs", "local", "--logfile", s.log(),
	}, s.args...)
	cmd := exec.Command("redis-server", args...)
	if err := cmd.Start(); err != nil {
		s.tb.Fatalf("start redis-server: %v", err)
	}
	s.cmd = cmd
	if err := s.await(); err != nil {
		s.end(syscall.SIGKILL)
		log, _ := os.ReadFile(s.log())
		s.tb.Fatalf("start redis-server: %v\n%s", err, log)
	}
}

// await pings the server until it answers and has loaded its files.
func (s *Server) await() error {
	deadline := time.Now().Add(startTimeout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.ping()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-tick.C
	}
}

func (s *Server) ping() error {
	conn, err := net.DialTimeout("tcp", s.Addr(), time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	reply := make([]byte, 64)
	n, err := conn.Read(reply)
	if err != nil {
		return err
	}
	switch got := reply[:n]; {
	case bytes.HasPrefix(got, []byte("+PONG")), bytes.HasPrefix(got, []byte("-NOAUTH")):
		return nil
	default:
		return fmt.Errorf("ping: %q", got)
	}
}

// Kill9 ends the server as a crash does.
func (s *Server) Kill9() { s.finish(syscall.SIGKILL) }

// Stop ends the server in order.
func (s *Server) Stop() { s.finish(syscall.SIGTERM) }

// Signal sends a signal to the server: SIGSTOP and SIGCONT make it hang.
func (s *Server) Signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(sig)
	}
}

func (s *Server) finish(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(sig)
}

func (s *Server) end(sig syscall.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig)
	cmd := s.cmd
	timer := time.AfterFunc(startTimeout, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait() // its exit status after a signal says nothing
	timer.Stop()
	s.cmd = nil
}
