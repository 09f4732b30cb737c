package runtime

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
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

// askedBroker counts the answers of its server about risks.
type askedBroker struct {
	*redis.Broker
	answers atomic.Int64
}

func (b *askedBroker) Risks(ctx context.Context, thorough bool) (broker.Risks, error) {
	risks, err := b.Broker.Risks(ctx, thorough)
	if err == nil {
		b.answers.Add(1)
	}
	return risks, err
}

// TestAServerThatBecomesUnsafeIsSaidOnce changes what a server does with what it
// accepts, while a consumer works on it.
func TestAServerThatBecomesUnsafeIsSaidOnce(t *testing.T) {
	server := redistest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	b, err := redis.Open(ctx, server.URL(), redis.Config{})
	require.NoError(t, err)
	var (
		log  warnings
		work sync.WaitGroup
	)
	asked := &askedBroker{Broker: b}
	c, err := NewConsumer(asked, ConsumerConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))}, []Task{{spec: Spec{Name: "task", Queue: "q"}}})
	require.NoError(t, err)
	c.risksEvery = 20 * time.Millisecond
	work.Go(func() { _ = c.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		work.Wait()
		require.NoError(t, b.Close())
	})
	looks := func(n int) {
		t.Helper()
		from := asked.answers.Load()
		require.Eventually(t, func() bool { return asked.answers.Load() >= from+int64(n) }, 10*time.Second, time.Millisecond)
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
