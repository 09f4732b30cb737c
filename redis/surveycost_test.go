package redis_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// sentCommands counts the commands that clients send to a server while f runs, without those of
// scripts.
func sentCommands(t *testing.T, server *redistest.Server, f func()) (n int) {
	t.Helper()
	const end = "that was all"
	conn, err := net.Dial("tcp", server.Addr())
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("MONITOR\r\n"))
	require.NoError(t, err)
	lines := bufio.NewScanner(conn)
	require.True(t, lines.Scan(), "the reply to MONITOR")
	counted := make(chan struct{})
	go func() {
		defer close(counted)
		for lines.Scan() && !strings.Contains(lines.Text(), end) {
			if !strings.Contains(lines.Text(), " lua]") {
				n++
			}
		}
	}()
	f()
	require.NoError(t, raw(t, server).Echo(t.Context(), end).Err())
	<-counted
	return n
}

// TestManyQueuesCostFewCommands reads 200 queues with many runs in all, 100 consumers and 10,000
// dead letters, as the command line does. Without TASKGEN_SOAK there are fewer of these.
func TestManyQueuesCostFewCommands(t *testing.T) {
	const queues, consumers = 200, 100
	each, dead := soakSize(5000, 60), soakSize(50, 5)
	server := redistest.Start(t)
	b := open(t, server, redis.Config{})
	names := someQueues(queues)
	var sessions []broker.Session
	for range consumers {
		sessions = append(sessions, join(t, b, time.Minute))
	}
	for i, name := range names {
		fill(t, b, name, dead, func(i int) string { return fmt.Sprint("dead-", i) }, func(r *broker.TaskRun) { r.Keep = time.Hour })
		var outcomes []broker.Outcome
		s := sessions[i%consumers]
		for _, r := range takeAll(t, s, name, dead) {
			outcomes = append(outcomes, broker.Outcome{Run: r, Verdict: broker.Dead, Failure: &broker.Failure{Kind: broker.FailureFailed, Message: "it was to fail"}})
		}
		_, err := s.Finish(t.Context(), outcomes...)
		require.NoError(t, err)
		fill(t, b, name, each, func(i int) string { return fmt.Sprint("run-", i) }, func(r *broker.TaskRun) { r.QueuedAt = time.Now() })
		_, err = s.Take(t.Context(), broker.Want{Queues: []string{name}, IO: 3})
		require.NoError(t, err)
	}
	survey := func(what string, most int, f func()) {
		n := sentCommands(t, server, f)
		seen, start := slowest(t, server), time.Now()
		f() // again: MONITOR delays each command of a script
		took := time.Since(start)
		worst, _ := seen()
		t.Logf("%s: %d commands, %v; the longest script %v", what, n, took.Round(time.Millisecond), worst)
		require.Positive(t, n, what)
		require.LessOrEqual(t, n, most, what)
	}
	ctx := t.Context()
	survey("queues", 10, func() {
		all, err := b.QueueNames(ctx)
		require.NoError(t, err)
		require.Len(t, all, queues)
		require.NoError(t, b.SurveyQueues(ctx, names, func(p maintenance.Part[*broker.QueueInfo]) {
			require.False(t, p.Apart)
			require.Equal(t, int64(each-3), p.Found.Queued)
			require.Equal(t, int64(3), p.Found.Running)
			require.Equal(t, int64(dead), p.Found.Dead)
			require.WithinDuration(t, time.Now(), p.Found.Oldest, 10*time.Minute)
		}))
	})
	for _, state := range []broker.State{broker.StateRunning, broker.StateQueued, broker.StateDelayed} {
		survey("runs "+string(state), 20, func() {
			require.NoError(t, b.SurveyRuns(ctx, names, state, 51, nil, func(p maintenance.Part[[]*broker.RunInfo]) {
				require.False(t, p.Apart)
				want := map[broker.State]int{broker.StateRunning: 3, broker.StateQueued: min(51, each-3)}[state]
				require.Len(t, p.Found, want)
			}))
		})
	}
	survey("runs failed", 40, func() {
		require.NoError(t, b.SurveyRuns(ctx, names, broker.StateFailed, 51, nil, func(p maintenance.Part[[]*broker.RunInfo]) {
			require.False(t, p.Apart)
			require.Len(t, p.Found, dead)
		}))
	})
	survey("dead letters", 20, func() {
		require.NoError(t, b.SurveyDeadLetters(ctx, names, func(p maintenance.Part[[]*broker.DeadLetter]) {
			require.False(t, p.Apart)
			require.Len(t, p.Found, dead)
		}))
	})
	survey("a page of runs", 6, func() {
		page, err := b.FindRuns(ctx, names[7], broker.StateQueued, broker.RunSearch{Max: 50})
		require.NoError(t, err)
		require.Len(t, page.Runs, 50)
		require.Equal(t, int64(each-3), page.Total)
	})
}
