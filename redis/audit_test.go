package redis_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// broken is a queue that a test breaks by hand: ten runs with own ids and records, three
// of them in flight.
type broken struct {
	b       *redis.Broker
	raw     goredis.UniversalClient
	base    string // opens the queue's keys
	session broker.Session
	taken   []*broker.TaskRun
}

func breakable(t *testing.T, b *redis.Broker, c goredis.UniversalClient) *broken {
	t.Helper()
	list := runs("q", 10)
	for i, r := range list {
		r.OwnID, r.Keep = true, time.Minute
		if i >= 8 {
			r.Delay = time.Hour
		}
	}
	require.NoError(t, b.QueueTasks(t.Context(), list...))
	s := join(t, b, time.Minute)
	taken, err := s.Take(within(t, 5*time.Second), broker.Want{Queues: []string{"q"}, IO: 3})
	require.NoError(t, err)
	require.Len(t, taken, 3)
	return &broken{b: b, raw: c, base: prefix(t) + ":{q}:", session: s, taken: taken}
}

func (q *broken) audit(t *testing.T, repair bool) maintenance.Report {
	t.Helper()
	report, err := q.b.Audit(t.Context(), "q", repair)
	require.NoError(t, err)
	require.Equal(t, repair, report.Repaired)
	return report
}

// batch is the key of the batch in flight.
func (q *broken) batch() string { return q.base + "f:" + q.session.ID() + ":1" }

func (q *broken) members(t *testing.T) []string {
	t.Helper()
	list, err := q.raw.SMembers(t.Context(), q.base+"inflight").Result()
	require.NoError(t, err)
	return list
}

func (q *broken) state(t *testing.T, id string) broker.State {
	t.Helper()
	record, err := q.b.Record(t.Context(), "q", id)
	require.NoError(t, err)
	return record.State
}

// finishAll takes and finishes all runs, and returns how often each was finished, by its
// id.
func (q *broken) finishAll(t *testing.T) map[string]int {
	t.Helper()
	n := map[string]int{}
	finish := func(list []*broker.TaskRun) {
		done, err := q.session.Finish(t.Context(), succeeded(list)...)
		require.NoError(t, err)
		for _, r := range list {
			n[r.ID]++
		}
		for _, r := range done.Fenced {
			n[r.ID]--
		}
	}
	finish(q.taken)
	for length(t, q.b, "q") > 2 { // those with a delay stay
		got, err := q.session.Take(within(t, 5*time.Second), broker.Want{Queues: []string{"q"}, IO: 3})
		require.NoError(t, err)
		finish(got)
	}
	return n
}

// damages are ways to break a queue, each with its report and the state after its repair.
var damages = []struct {
	name     string
	damage   func(*testing.T, *broken)
	want     maintenance.Report
	repaired func(*testing.T, *broken)
}{
	{
		"nothing",
		func(*testing.T, *broken) {},
		maintenance.Report{Runs: 10},
		func(*testing.T, *broken) {},
	},
	{
		"a batch that recovery does not know",
		func(t *testing.T, q *broken) {
			require.NoError(t, q.raw.Del(t.Context(), q.base+"inflight", q.base+"leases").Err())
		},
		maintenance.Report{Runs: 10, UnlistedBatches: 1},
		func(t *testing.T, q *broken) {
			recovered, err := q.b.Recover(t.Context(), []string{"q"})
			require.NoError(t, err)
			require.Equal(t, 3, recovered.Runs)
		},
	},
	{
		"batches in flight that are not there, and a bitmap",
		func(t *testing.T, q *broken) {
			require.NoError(t, q.raw.SAdd(t.Context(), q.base+"inflight", "gone:1", "gone:2").Err())
			require.NoError(t, q.raw.SetBit(t.Context(), q.base+"d:gone:2", 7, 1).Err())
			require.NoError(t, q.raw.SetBit(t.Context(), q.base+"d:gone:3", 7, 1).Err())
		},
		maintenance.Report{Runs: 10, MissingBatches: 2, StrayBitmaps: 2},
		func(t *testing.T, q *broken) {
			require.Equal(t, []string{q.session.ID() + ":1"}, q.members(t))
			require.Zero(t, q.raw.Exists(t.Context(), q.base+"d:gone:2", q.base+"d:gone:3").Val())
		},
	},
	{
		"tallies and instances that never expire or are of a wrong type",
		func(t *testing.T, q *broken) {
			require.NoError(t, q.raw.HSet(t.Context(), q.base+"tally:1", "task", "x").Err())
			require.NoError(t, q.raw.Set(t.Context(), q.base+"tally:2", "x", time.Hour).Err())
			require.NoError(t, q.raw.HSet(t.Context(), q.base+"tally:3", "task", "x").Err())
			require.NoError(t, q.raw.PExpire(t.Context(), q.base+"tally:3", time.Hour).Err())
			require.NoError(t, q.raw.HSet(t.Context(), strings.TrimSuffix(q.base, "{q}:")+"instances", "id", "x").Err())
		},
		maintenance.Report{Runs: 10, StrayTallies: 3},
		func(t *testing.T, q *broken) {
			require.NotEqual(t, time.Duration(-1), q.raw.PTTL(t.Context(), q.base+"tally:1").Val())
			require.Zero(t, q.raw.Exists(t.Context(), q.base+"tally:2").Val())
			require.Equal(t, int64(1), q.raw.Exists(t.Context(), q.base+"tally:3").Val())
			require.LessOrEqual(t, q.raw.PTTL(t.Context(), strings.TrimSuffix(q.base, "{q}:")+"instances").Val(), 30*time.Second)
		},
	},
	{
		"entries that are no runs",
		func(t *testing.T, q *broken) {
			require.NoError(t, q.raw.RPush(t.Context(), q.base+"io:1", "junk", "", "\x01\x00\x00\x01\x00\x00\x00\x00\x01zjunk").Err())
			require.NoError(t, q.raw.ZAdd(t.Context(), q.base+"delayed", goredis.Z{Score: 9e15, Member: "later"}).Err())
		},
		maintenance.Report{Runs: 11, Unreadable: 4},
		func(t *testing.T, q *broken) {
			letters, err := q.b.DeadLetters(t.Context(), "q", 10)
			require.NoError(t, err)
			require.Len(t, letters, 4)
			for _, letter := range letters {
				require.Equal(t, broker.FailureSchema, letter.Failure.Kind)
			}
			require.Equal(t, 7, length(t, q.b, "q"))
		},
	},
	{
		"a batch that is gone with its runs",
		func(t *testing.T, q *broken) {
			require.NoError(t, q.raw.Del(t.Context(), q.batch()).Err())
		},
		maintenance.Report{Runs: 7, MissingBatches: 1, StrayIDs: 3, LostRecords: 3},
		func(t *testing.T, q *broken) {
			for _, r := range q.taken {
				record, err := q.b.Record(t.Context(), "q", r.ID)
				require.NoError(t, err)
				require.Equal(t, broker.StateFailed, record.State)
				require.Equal(t, broker.FailureLost, record.Failure.Kind)
				require.Equal(t, "task", record.Task)
				require.NoError(t, q.b.QueueTasks(t.Context(), r), "the id is free")
			}
			require.ErrorIs(t, q.b.QueueTasks(t.Context(), ownRun("run-9")), broker.ErrDuplicate)
			require.Equal(t, broker.StateDelayed, q.state(t, "run-9"))
		},
	},
	{
		"runs that are in flight, ready and delayed",
		func(t *testing.T, q *broken) {
			batch, err := q.raw.LRange(t.Context(), q.batch(), 0, -1).Result()
			require.NoError(t, err)
			require.NoError(t, q.raw.RPush(t.Context(), q.base+"io:1", batch[0], batch[1]).Err())
			require.NoError(t, q.raw.ZAdd(t.Context(), q.base+"delayed", goredis.Z{Score: 9e15, Member: batch[0]}).Err())
			ready, err := q.raw.LRange(t.Context(), q.base+"io:1", 0, 0).Result()
			require.NoError(t, err)
			require.NoError(t, q.raw.RPush(t.Context(), q.base+"io:1", ready[0]).Err())
			require.NoError(t, q.raw.RPush(t.Context(), q.base+"f:other:1", batch[2]).Err())
			require.NoError(t, q.raw.SAdd(t.Context(), q.base+"inflight", "other:1").Err())
		},
		maintenance.Report{Runs: 10, Copies: 5},
		func(t *testing.T, q *broken) {
			_, err := q.b.Recover(t.Context(), []string{"q"})
			require.NoError(t, err)
			for id, n := range q.finishAll(t) {
				require.LessOrEqual(t, n, 1, id)
			}
		},
	},
	{
		"a record that is gone",
		func(t *testing.T, q *broken) {
			require.NoError(t, q.raw.Del(t.Context(), q.base+"rec:run-0", q.base+"id:run-0").Err())
		},
		maintenance.Report{Runs: 10},
		func(t *testing.T, q *broken) {
			require.Len(t, q.finishAll(t), 8, "the run needs neither")
			require.Equal(t, broker.StateSucceeded, q.state(t, "run-0"))
		},
	},
}

func ownRun(id string) *broker.TaskRun {
	r := run(id, "q")
	r.OwnID = true
	return r
}

func TestAudit(t *testing.T) {
	t.Parallel()
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			b := open(t, shared, redis.Config{})
			q := breakable(t, b, raw(t, shared))
			d.damage(t, q)
			want := d.want
			require.Equal(t, want, q.audit(t, false), "counted only")
			require.Equal(t, want, q.audit(t, false), "nothing was changed by counting")
			want.Repaired = true
			require.Equal(t, want, q.audit(t, true))
			require.Zero(t, q.audit(t, false).Faults(), "one state remains")
			d.repaired(t, q)
		})
	}
}

// TestAuditByAUserOfFewRights needs the rights that its doc names.
func TestAuditByAUserOfFewRights(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	allow(t, s, redistest.AuditRights()...)
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			b := openURL(t, "redis://app:pass@"+s.Addr(), redis.Config{Prefix: "app:" + prefix(t)})
			q := breakable(t, b, raw(t, s))
			q.base = "app:" + q.base
			d.damage(t, q)
			require.Equal(t, d.want.Faults(), q.audit(t, true).Faults())
			require.Zero(t, q.audit(t, false).Faults())
		})
	}
	redistest.RequireNothingRefused(t, s)
}

// testAuditOnACluster finds the queue's node, and its keys
// whatever they are called.
func testAuditOnACluster(t *testing.T, c *redistest.Cluster) {
	b := openURL(t, c.URL(), redis.Config{Prefix: prefix(t)})
	for _, name := range []string{"*", "a?[b]", "{}", `\`, "plain"} {
		r := run("mine", name)
		r.OwnID = true
		require.NoError(t, b.QueueTasks(t.Context(), r, run("other", name)))
		report, err := b.Audit(t.Context(), name, true)
		require.NoError(t, err)
		require.Equal(t, maintenance.Report{Repaired: true, Runs: 2}, report, name)
		node := raw(t, c.Owner(c.Slot("{"+strings.NewReplacer("{", "%7B", "}", "%7D").Replace(name)+"}")))
		for _, key := range keysOf(t, node, prefix(t)) {
			if strings.HasSuffix(key, ":io:1") {
				require.NoError(t, node.Del(t.Context(), key).Err())
			}
		}
		report, err = b.Audit(t.Context(), name, true)
		require.NoError(t, err)
		require.Equal(t, 1, report.StrayIDs, name)
	}
}

// TestAuditOfAQueueAtWork audits while runs move, and finds nothing.
func TestAuditOfAQueueAtWork(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{Timeout: 10 * time.Second})
	stop := make(chan struct{})
	var work sync.WaitGroup
	defer work.Wait()
	defer close(stop)
	for worker := range 4 {
		s := join(t, b, time.Minute)
		list := runs("q", 50)
		for i, r := range list {
			r.ID += "-" + string(rune('a'+worker))
			r.OwnID, r.Keep = true, time.Millisecond
			r.Priority = broker.Priority(i%3 - 1)
		}
		require.NoError(t, b.QueueTasks(t.Context(), list...))
		work.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				turn(t, s, n)
			}
		})
	}
	for range 3 {
		report, err := b.Audit(t.Context(), "q", true)
		require.NoError(t, err)
		require.Zero(t, report.Faults(), "%+v", report)
	}
}

// turn takes some runs and has them go on in different ways.
func turn(t *testing.T, s broker.Session, n int) {
	got, err := s.Take(t.Context(), broker.Want{Queues: []string{"q"}, IO: 1 + n%20})
	if err != nil {
		t.Errorf("take: %v", err)
		return
	}
	outcomes := make([]broker.Outcome, len(got))
	for i, r := range got {
		r.Attempt++
		outcomes[i] = broker.Outcome{Run: r, Verdict: broker.Retry, Delay: time.Duration((n+i)%3) * time.Millisecond}
	}
	for half := range 2 {
		if _, err := s.Finish(t.Context(), outcomes[half*len(got)/2:(half+1)*len(got)/2]...); err != nil {
			t.Errorf("finish: %v", err)
		}
	}
}
