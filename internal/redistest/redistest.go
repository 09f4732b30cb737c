// Package redistest starts real Redis servers for a test: one, a cluster, a
// master watched by sentinels, one that speaks TLS.
//
// The program is redis-server of the PATH, or what the environment variable
// TASKGEN_REDIS_SERVER names by its whole path: another version, or
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

// startTimeout bounds how long a server may take to answer, loading included,
// and to end.
const startTimeout = 20 * time.Second

// TB is what a server needs of a test. A package that shares one server among
// its tests gives a TB of its own to [Launch] in TestMain.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Server is a Redis server on a free port of the loopback, with an append-only
// file in a folder of its own. Its methods may be called concurrently.
type Server struct {
	tb      TB
	program string
	port    int
	dir     string
	args    []string

	mu     sync.Mutex
	cmd    *exec.Cmd     // nil: not running
	exited chan struct{} // closed when the process was waited for
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

// newServer makes a server that is still to be given its arguments.
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

// freePort finds a port below those that systems give to outgoing connections,
// so that none of these can take it while the server is down, nor the port of a
// cluster's bus, which is 10,000 above it.
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

// Addr is the server's host and port.
func (s *Server) Addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// URL is the server's address as a broker's URL.
func (s *Server) URL() string { return "redis://" + s.Addr() }

// Dir is the folder of the server's files.
func (s *Server) Dir() string { return s.dir }

// Socket is the path of the server's unix socket.
func (s *Server) Socket() string { return filepath.Join(s.dir, "redis.sock") }

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
	cmd, exited := exec.Command(s.program, s.args...), make(chan struct{})
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		s.tb.Fatalf("start %s: %v", s.program, err)
	}
	go func() {
		defer close(exited)
		_ = cmd.Wait() // its exit status after a signal says nothing
	}()
	s.cmd, s.exited = cmd, exited
	if err := await(startTimeout, s.answers); err != nil {
		s.end(syscall.SIGKILL)
		log, _ := os.ReadFile(s.log())
		s.tb.Fatalf("start %s %q: %v\n%s%s", s.program, s.args, err, log, stderr.String())
	}
}

// answers reports nil once the server has loaded its files.
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

// final is an error after which there is nothing to wait for.
type final struct{ error }

// await asks again until there is no error or it is too late, and returns the
// last one.
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

// Kill9 ends the server as a crash does.
func (s *Server) Kill9() { s.finish(syscall.SIGKILL) }

// Stop ends the server in order.
func (s *Server) Stop() { s.finish(syscall.SIGTERM) }

// Freeze makes the server hang, with its connections open, until Thaw. Only
// Unix can do that.
func (s *Server) Freeze() { s.signal(freeze) }

// Thaw has a server go on that hangs.
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
	// A replica that still writes its first append-only file passes over the
	// signal.
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
