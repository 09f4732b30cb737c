package redis

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// usedMicros returns how long the server has worked at commands.
func usedMicros(t *testing.T, s *redistest.Server) (n int) {
	t.Helper()
	reply, err := s.Do("INFO", "commandstats")
	require.NoError(t, err)
	for line := range strings.Lines(reply.(string)) {
		if name, rest, ok := strings.Cut(line, ",usec="); ok && !strings.HasPrefix(name, "cmdstat_info") {
			usec, _, _ := strings.Cut(rest, ",")
			v, err := strconv.Atoi(usec)
			require.NoError(t, err)
			n += v
		}
	}
	return n
}

// TestAuditsByThemselvesRepairAtASmallShare has two processes audit a queue that is
// damaged by hand, as consumers do.
func TestAuditsByThemselvesRepairAtASmallShare(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	brokers := make([]*Broker, 2)
	for i := range brokers {
		b, err := Open(t.Context(), server.URL(), Config{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, b.Close()) })
		brokers[i] = b
	}
	b := brokers[0]
	queues := []string{"q"}
	due := func(b *Broker) { // its turn has come
		b.audits.mu.Lock()
		defer b.audits.mu.Unlock()
		b.audits.next = time.Now().Add(-1)
	}
	name, report, err := b.AuditNext(t.Context(), queues)
	require.NoError(t, err)
	require.Empty(t, name, "no audit right after the start")
	require.Zero(t, report)

	const n = 500
	var all []*broker.TaskRun
	for i := range n {
		r := &broker.TaskRun{ID: fmt.Sprint("run-", i), Task: "task", Queue: "q", OwnID: true, Keep: time.Minute}
		r.EnsureRules().Unique = fmt.Sprint("key-", i)
		r.Rules.Limits = []broker.Limit{{Key: "limit", Max: 100}}
		all = append(all, r)
	}
	require.NoError(t, b.QueueTasks(t.Context(), all...))
	s, err := b.openSession(time.Minute)
	require.NoError(t, err)
	got, err := s.Take(t.Context(), broker.Want{Queues: queues, IO: 10})
	require.NoError(t, err)
	require.Len(t, got, 10)

	c, base := b.clients.Work.Library(), "taskgen:{q}:"
	ctx := t.Context()
	require.NoError(t, c.SRem(ctx, base+"inflight", s.id+":1").Err())
	require.NoError(t, c.SAdd(ctx, base+"inflight", "ghost:1").Err())
	require.NoError(t, c.SetBit(ctx, base+"d:ghost:2", 1, 1).Err())
	require.NoError(t, c.HSet(ctx, base+"running", "limit", 77).Err())
	require.NoError(t, c.Set(ctx, base+"u:key-gone", "gone token", 0).Err())
	require.NoError(t, c.Set(ctx, base+"id:gone", "token", 0).Err())
	running := string(wire.AppendRecord([]byte("r0000000000000"), &broker.TaskRun{Task: "task"}, nil))
	require.NoError(t, c.Set(ctx, base+"rec:gone", running, 0).Err())

	due(b)
	before, start := usedMicros(t, server), time.Now()
	name, report, err = b.AuditNext(ctx, queues)
	took := time.Since(start)
	used := time.Duration(usedMicros(t, server)-before) * time.Microsecond
	require.NoError(t, err)
	require.Equal(t, "q", name)
	require.Equal(t, maintenance.Report{Repaired: true, Runs: n, UnlistedBatches: 1, MissingBatches: 1, StrayBitmaps: 1,
		WrongCounts: 1, StrayKeys: 1, StrayIDs: 1, LostRecords: 1}, report)
	t.Logf("the server worked %v in %v", used, took)
	require.Less(t, used, took/50, "the share of audits")
	record, err := b.Record(ctx, "q", "gone")
	require.NoError(t, err)
	require.Equal(t, broker.FailureLost, record.Failure.Kind)

	for _, b := range brokers {
		due(b)
		name, report, err = b.AuditNext(ctx, queues)
		require.NoError(t, err)
		require.Empty(t, name, "it was audited a moment ago")
		require.Zero(t, report)
	}
	require.NoError(t, c.Del(ctx, base+"audited").Err()) // a minute later
	due(brokers[1])
	name, report, err = brokers[1].AuditNext(ctx, queues)
	require.NoError(t, err)
	require.Equal(t, "q", name)
	require.Equal(t, maintenance.Report{Repaired: true, Runs: n}, report)
}

// TestAuditsByThemselvesDoNotCountMuchInFlight: to count it takes the server one long
// step.
func TestAuditsByThemselvesDoNotCountMuchInFlight(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b, err := Open(t.Context(), server.URL(), Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	q, err := b.queue("q")
	require.NoError(t, err)
	for i := range 1001 {
		member := fmt.Sprintf("session:%d", i)
		require.NoError(t, b.clients.Work.Library().RPush(t.Context(), q.Batch(member), "an element").Err())
		require.NoError(t, b.clients.Work.Library().SAdd(t.Context(), q.InFlight, member).Err())
	}
	require.NoError(t, b.clients.Work.Library().HSet(t.Context(), q.Running, "gone", 1).Err())
	for _, slow := range []bool{true, false} {
		a := &audit{b: b, q: q, report: maintenance.Report{Repaired: true}, pace: pace{slow: slow}}
		require.NoError(t, a.checkLimits(t.Context()))
		require.Equal(t, slow, a.report.WrongCounts == 0, "slow: %v", slow)
	}
}
