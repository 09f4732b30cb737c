package redistest

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sentinels is the number of sentinels. Two must agree that a master is dead.
const sentinels = 3

// masterName is the name of the watched master.
const masterName = "main"

// Sentinel is a master, a replica and three sentinels that watch them. All end with
// the test.
type Sentinel struct {
	Servers  []*Server // as started, the first as master
	watchers []*Server
	tb       testing.TB
}

// StartSentinel starts them, with further arguments for the two servers. A master
// counts as dead after a second.
func StartSentinel(t testing.TB, args ...string) *Sentinel {
	t.Helper()
	args = append([]string{"--repl-diskless-sync-delay", "0"}, args...)
	master := Start(t, args...)
	host, port, _ := strings.Cut(master.Addr(), ":")
	replica := Start(t, append([]string{"--replicaof", host + " " + port}, args...)...)
	s := &Sentinel{Servers: []*Server{master, replica}, tb: t}
	s.await("the replica is in step", func() error { return follows(replica) })
	for range sentinels {
		s.watchers = append(s.watchers, startWatcher(t, master))
	}
	s.await("the sentinels know each other", func() error {
		for _, w := range s.watchers {
			if err := watches(w); err != nil {
				return fmt.Errorf("sentinel %s: %w", w.Addr(), err)
			}
		}
		return nil
	})
	return s
}

func (s *Sentinel) await(what string, ask func() error) {
	s.tb.Helper()
	if err := await(clusterTimeout, ask); err != nil {
		s.tb.Fatalf("wait until %s: %v", what, err)
	}
}

func startWatcher(t testing.TB, master *Server) *Server {
	t.Helper()
	w := newServer(t, t.TempDir())
	host, port, _ := strings.Cut(master.Addr(), ":")
	file := filepath.Join(w.dir, "sentinel.conf") // the sentinel writes to it
	text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nlogfile %s\n"+
		"sentinel monitor %[4]s %[5]s %[6]s 2\n"+
		"sentinel down-after-milliseconds %[4]s 1000\n"+
		"sentinel failover-timeout %[4]s 5000\n",
		w.port, w.dir, w.log(), masterName, host, port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatalf("write configuration of sentinel: %v", err)
	}
	w.args = []string{file, "--sentinel"}
	w.Restart()
	t.Cleanup(w.Stop)
	return w
}

// Trust changes the time after which a silent master counts as dead, for tests
// without failovers on a busy machine.
func (s *Sentinel) Trust(patience time.Duration) {
	s.tb.Helper()
	for _, w := range s.watchers {
		if _, err := w.Do("SENTINEL", "SET", masterName, "down-after-milliseconds", fmt.Sprint(patience.Milliseconds())); err != nil {
			s.tb.Fatalf("have sentinel %s trust its master: %v", w.Addr(), err)
		}
	}
}

// watches returns nil once the sentinel knows the replica and the other sentinels.
func watches(w *Server) error {
	v, err := w.Do("SENTINEL", "MASTER", masterName)
	if err != nil {
		return err
	}
	list, _ := v.([]any)
	got := map[any]any{}
	for i := 0; i+1 < len(list); i += 2 {
		got[list[i]] = list[i+1]
	}
	if got["flags"] != "master" || got["num-slaves"] != "1" || got["num-other-sentinels"] != fmt.Sprint(sentinels-1) {
		return fmt.Errorf("it sees a master that is %v with %v replicas, and %v others",
			got["flags"], got["num-slaves"], got["num-other-sentinels"])
	}
	return nil
}

// URL returns the addresses of the sentinels as a broker's URL.
func (s *Sentinel) URL() string {
	addr := s.addrs()
	options := url.Values{"master_name": {masterName}, "addr": addr[1:]}
	return "redis+sentinel://" + addr[0] + "/0?" + options.Encode()
}

// addrs returns the address of each sentinel.
func (s *Sentinel) addrs() []string {
	list := make([]string, len(s.watchers))
	for i, w := range s.watchers {
		list[i] = w.Addr()
	}
	return list
}

// Master returns the server that most sentinels name as the master.
func (s *Sentinel) Master() *Server {
	s.tb.Helper()
	votes := map[string]int{}
	for _, w := range s.watchers {
		v, err := w.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", masterName)
		if pair, ok := v.([]any); ok && err == nil && len(pair) == 2 {
			votes[fmt.Sprintf("%v:%v", pair[0], pair[1])]++
		}
	}
	for _, server := range s.Servers {
		if votes[server.Addr()] > sentinels/2 {
			return server
		}
	}
	s.tb.Fatalf("find master: the sentinels name %v", votes)
	return nil
}
