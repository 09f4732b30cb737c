package instance

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// maxScrapePause is how long may pass between two readings of metrics that are regular: those
// of a Prometheus that scrapes each minute, and misses one.
const maxScrapePause = 150 * time.Second

// Scrapes knows whether the metrics of a process are read regularly. Its zero value knows of no
// reading. Its methods may be called concurrently.
type Scrapes struct {
	mu          sync.Mutex
	since, last time.Time // the first reading of those that are regular, and the latest
}

// Add notes that metrics are read. It reports whether that makes the readings regular: this
// is the second.
func (s *Scrapes) Add(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last.IsZero() || now.Sub(s.last) > maxScrapePause {
		s.since, s.last = now, now
		return false
	}
	second := s.last.Equal(s.since)
	s.last = now
	return second
}

// Since returns since when the metrics are read regularly, the zero time if they are not. One
// reading is not regular: a person may have looked.
func (s *Scrapes) Since(now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last.Equal(s.since) || now.Sub(s.last) > maxScrapePause {
		return time.Time{}
	}
	return s.since
}

// Reachable returns an address as others reach it: with the name of this machine in place of
// no host, and of one that stands for all its addresses.
func Reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil || Host() == "" {
		return address
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		return net.JoinHostPort(Host(), port)
	}
	return address
}
