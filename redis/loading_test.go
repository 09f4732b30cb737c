package redis_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// startLoading has the server read its files for about the given time, and returns once it
// does. Until it is done the server refuses all commands.
func startLoading(t *testing.T, s *redistest.Server, d time.Duration) (loaded <-chan error) {
	t.Helper()
	const keys = 1000
	for _, args := range [][]string{
		{"DEBUG", "POPULATE", strconv.Itoa(keys), "filler", "2000"},
		{"CONFIG", "SET", "key-load-delay", strconv.FormatInt(d.Microseconds()/keys, 10)},
		{"CONFIG", "SET", "loading-process-events-interval-bytes", "1024"},
	} {
		_, err := s.Do(args...)
		require.NoError(t, err, "%q", args)
	}
	done := make(chan error, 1)
	go func() { _, err := s.Do("DEBUG", "RELOAD"); done <- err }()
	require.Eventually(t, func() bool {
		_, err := s.Do("PING")
		return err != nil && strings.HasPrefix(err.Error(), "LOADING")
	}, 10*time.Second, time.Millisecond, "the server loads")
	return done
}

// TestCallsWaitForAServerThatLoads: a server that was started again will be there. If
// calls failed until then, their runs would be lost.
func TestCallsWaitForAServerThatLoads(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := open(t, server, redis.Config{})
	kept, own := run("kept", "q"), run("own", "q")
	kept.Keep, own.OwnID = time.Hour, true
	require.NoError(t, b.QueueTasks(t.Context(), kept))
	then, member := run("then", "q"), run("member", "q")
	then.EnsureLinks().Awaits = broker.Group{ID: "g", Queue: "q", Size: 1}
	member.EnsureLinks().Group = "g"

	calls := map[string]func(ctx context.Context) error{
		"queue":          func(ctx context.Context) error { return b.QueueTasks(ctx, run("plain", "q")) },
		"queue own":      func(ctx context.Context) error { return b.QueueTasks(ctx, own) },
		"queue new name": func(ctx context.Context) error { return b.QueueTasks(ctx, run("new", "new")) },
		"queue group":    func(ctx context.Context) error { return b.QueueGroup(ctx, then, member) },
		"record":         func(ctx context.Context) error { _, err := b.Record(ctx, "q", "kept"); return err },
		"open": func(ctx context.Context) error {
			other, err := redis.Open(ctx, server.URL(), redis.Config{})
			if err == nil {
				err = other.Close()
			}
			return err
		},
	}
	loaded := startLoading(t, server, 3*time.Second)
	results := make(chan error, len(calls))
	for name, call := range calls {
		go func() {
			err := call(within(t, 30*time.Second))
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			results <- err
		}()
	}
	err := b.QueueTasks(within(t, time.Second), run("hasty", "hasty"))
	require.ErrorContains(t, err, "LOADING", "a call waits no longer than its deadline")
	require.NotErrorIs(t, err, broker.ErrOutcomeUnknown, "it was refused")
	for range calls {
		require.NoError(t, <-results) // so the server has loaded
	}
	require.NoError(t, <-loaded)
	lengths, err := b.QueueLength(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"q": 4, "new": 1}, lengths, "each is queued once, and the hasty one not")
}

// TestErrorsTellAStalledServerFromNone: the kernel of a stalled server still accepts
// connections.
func TestErrorsTellAStalledServerFromNone(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Freeze()
	t.Cleanup(server.Thaw)
	_, err := redis.Open(within(t, 30*time.Second), server.URL(), redis.Config{Timeout: 500 * time.Millisecond})
	require.ErrorContains(t, err, server.Addr()+" accepts connections, but has not answered within 500ms: it is stopped, busy for as long, or no Redis")
}
