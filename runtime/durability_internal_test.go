package runtime

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/redistest"
)

// warnings is a log whose lines can be counted while it is written.
type warnings struct {
	mu   sync.Mutex
	text strings.Builder
}

func (w *warnings) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

func (w *warnings) count(level, word string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range strings.Lines(w.text.String()) {
		if strings.Contains(line, "level="+level) && strings.Contains(line, word) {
			n++
		}
	}
	return n
}

// TestAServerThatBecomesUnsafeIsSaidOnce changes what a server does with what it
// accepts, while a consumer works on it.
func TestAServerThatBecomesUnsafeIsSaidOnce(t *testing.T) {
	server := redistest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	b, err := Open(ctx, server.URL())
	require.NoError(t, err)
	var (
		log  warnings
		work sync.WaitGroup
	)
	c, err := NewConsumer(b, ConsumerConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))}, []Task{{spec: Spec{Name: "task", Queue: "q"}}})
	require.NoError(t, err)
	c.durabilityEvery = 20 * time.Millisecond
	work.Go(func() { _ = c.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		work.Wait()
		require.NoError(t, b.(io.Closer).Close())
	})
	asked := func() int {
		reply, err := server.Do("INFO", "commandstats")
		require.NoError(t, err)
		_, rest, _ := strings.Cut(reply.(string), "cmdstat_info:calls=")
		n := 0
		for _, digit := range rest {
			if digit < '0' || digit > '9' {
				break
			}
			n = 10*n + int(digit-'0')
		}
		return n
	}
	looks := func(n int) {
		t.Helper()
		from := asked()
		require.Eventually(t, func() bool { return asked() >= from+n }, 10*time.Second, time.Millisecond)
	}
	set := func(name, value string) {
		t.Helper()
		_, err := server.Do("CONFIG", "SET", name, value)
		require.NoError(t, err)
	}
	looks(2)
	require.Zero(t, log.count("WARN", "server"))
	set("maxmemory-policy", "allkeys-lru")
	require.Eventually(t, func() bool { return log.count("WARN", "noeviction") == 1 }, 10*time.Second, time.Millisecond)
	set("appendonly", "no")
	require.Eventually(t, func() bool { return log.count("WARN", "appendonly yes") == 1 }, 10*time.Second, time.Millisecond)
	looks(5)
	require.Equal(t, 1, log.count("WARN", "set maxmemory-policy noeviction"), "each change is said once")
	require.Equal(t, 1, log.count("WARN", "appendonly yes"))
	set("maxmemory-policy", "noeviction")
	require.Eventually(t, func() bool { return log.count("INFO", "no longer so") == 1 }, 10*time.Second, time.Millisecond)
	set("maxmemory-policy", "volatile-ttl")
	require.Eventually(t, func() bool { return log.count("WARN", "set maxmemory-policy noeviction") == 2 }, 10*time.Second, time.Millisecond)
}
