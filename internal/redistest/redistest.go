// Package redistest starts real Redis servers for tests: one server, a cluster, a
// master with sentinels, or a server with TLS.
//
// The program is redis-server from the PATH. The environment variable
// TASKGEN_REDIS_SERVER names another one by its full path, such as another version or
// valkey-server.
package redistest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startTimeout is how long a server may take to answer, including loading, and to
// end.
const startTimeout = 20 * time.Second

// TB is the part of testing.TB that a server needs. A package that shares a server
// among its tests passes its own TB to [Launch] in TestMain.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Server is a Redis server on a free loopback port, with an append-only file in its
// own folder. Its methods may be called concurrently.
type Server struct {
	tb      TB
	program string
	port    int
	dir     string
	args    []string

	mu     sync.Mutex
	cmd    *exec.Cmd     // nil: not running
	exited chan struct{} // closed once the process was waited for
}

// Start starts a server that ends with the test, with further arguments of
// redis-server ("--appendfsync", "always"). If there is no redis-server, the test
// fails, so that nothing looks tested that was not.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s := Launch(t, t.TempDir(), args...)
	t.Cleanup(s.Stop)
	return s
}

// Launch starts a server that keeps its files in dir. The caller stops it.
func Launch(tb TB, dir string, args ...string) *Server {
	tb.Helper()
	s := newServer(tb, dir)
	s.args = append([]string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir,
		"--unixsocket", s.Socket(),
		"--appendonly", "yes", "--save", "", "--enable-debug-command", "local",
		"--enable-protected-configs", "local", "--logfile", s.log(),
	}, args...)
	s.Restart()
	return s
}

// newServer returns a server without arguments.
func newServer(tb TB, dir string) *Server {
	tb.Helper()
	program, install := os.Getenv("TASKGEN_REDIS_SERVER"), "that is what TASKGEN_REDIS_SERVER names"
	if program == "" {
		program, install = "redis-server", "apt-get install redis-server, or run the tests by make test, which does it"
	}
	if _, err := exec.LookPath(program); err != nil {
		tb.Fatalf("find server: %v: %s", err, install)
	}
	return &Server{tb: tb, program: program, port: freePort(tb), dir: dir}
}

// freePort returns a port below the ephemeral ones, so that no outgoing connection
// can take it while the server is down. The same holds for the port of a cluster's
// bus, 10,000 above.
func freePort(tb TB) int {
	tb.Helper()
	var err error
	for range 100 {
		var l net.Listener
		port := 12_000 + rand.N(10_000)
		if l, err = net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			_ = l.Close()
			return port
		}
	}
	tb.Fatalf("find free port: %v", err)
	return 0
}

// Addr returns the server's host and port.
func (s *Server) Addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// URL returns the server's address as a broker's URL.
func (s *Server) URL() string { return "redis://" + s.Addr() }

// Dir returns the folder of the server's files.
func (s *Server) Dir() string { return s.dir }

// Socket returns the path of the server's unix socket.
func (s *Server) Socket() string { return filepath.Join(s.dir, "redis.sock") }

func (s *Server) log() string { return filepath.Join(s.dir, "redis.log") }

// Restart starts the server again after Kill9 or Stop, with the same port and files.
// It returns once the server has loaded them.
func (s *Server) Restart() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		s.tb.Fatalf("restart redis-server: it is running")
	}
	cmd, exited := exec.Command(s.program, s.args...), make(chan struct{})
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		s.tb.Fatalf("start %s: %v", s.program, err)
	}
	go func() {
		defer close(exited)
		_ = cmd.Wait() // the exit status after a signal has no meaning
	}()
	s.cmd, s.exited = cmd, exited
	if err := await(startTimeout, s.answers); err != nil {
		s.end(syscall.SIGKILL)
		log, _ := os.ReadFile(s.log())
		s.tb.Fatalf("start %s %q: %v\n%s%s", s.program, s.args, err, log, stderr.String())
	}
}

// answers returns nil once the server has loaded its files.
func (s *Server) answers() error {
	select {
	case <-s.exited:
		return final{errors.New("it has ended")}
	default:
	}
	_, err := s.Do("PING")
	if err == nil || strings.HasPrefix(err.Error(), "NOAUTH") {
		return nil
	}
	return fmt.Errorf("ping: %w", err)
}

// final is an error that waiting cannot change.
type final struct{ error }

// await calls ask until it returns nil or the time is over, and returns its last
// error.
func await(patience time.Duration, ask func() error) error {
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil || errors.As(err, new(final)) || time.Now().After(deadline) {
			return err
		}
		<-tick.C
	}
}

// Kill9 kills the server, like a crash.
func (s *Server) Kill9() { s.finish(syscall.SIGKILL) }

// Stop shuts the server down.
func (s *Server) Stop() { s.finish(syscall.SIGTERM) }

// Freeze makes the server hang with open connections until Thaw. It works on Unix
// only.
func (s *Server) Freeze() { s.signal(freeze) }

// Thaw ends Freeze.
func (s *Server) Thaw() { s.signal(thaw) }

func (s *Server) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(sig)
	}
}

func (s *Server) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd != nil
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
	// A replica that writes its first append-only file ignores the signal.
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(startTimeout); s.cmd != nil; {
		_ = s.cmd.Process.Signal(sig)
		select {
		case <-s.exited:
			s.cmd = nil
		case <-again.C:
			if time.Now().After(deadline) {
				sig = syscall.SIGKILL
			}
		}
	}
}
