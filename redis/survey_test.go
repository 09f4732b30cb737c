package redis_test

import (
	"context"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/internal/ulid"
	"github.com/taskgen/taskgen/redis"
)

// trips counts the round trips on all connections of a client: how often something is sent
// behind a reply.
type trips struct{ n atomic.Int64 }

func (c *trips) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &countedConn{Conn: conn, trips: c}, nil
}

type countedConn struct {
	net.Conn
	trips *trips
	sent  atomic.Bool
}

func (c *countedConn) Write(b []byte) (int, error) {
	if !c.sent.Swap(true) {
		c.trips.n.Add(1)
	}
	return c.Conn.Write(b)
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.sent.Store(false)
	return n, err
}

// openCounted opens a broker whose round trips are counted.
func openCounted(t *testing.T, s *redistest.Server) (*redis.Broker, *trips) {
	t.Helper()
	c := new(trips)
	clean(t, s)
	client := goredis.NewClient(&goredis.Options{Addr: s.Addr(), Dialer: c.dial})
	b, err := redis.New(client, redis.Config{Prefix: prefix(t)})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, b.Close())
		require.NoError(t, client.Close())
	})
	return b, c
}

// looked is what surveys have returned of queues.
type looked struct {
	found, apart map[int]bool
	errs         map[int]error
}

// lookInto makes each survey there is.
func lookInto(t *testing.T, b *redis.Broker, queues []string) map[string]looked {
	t.Helper()
	all := map[string]looked{}
	ctx := within(t, time.Minute)
	note := func(name string) looked {
		all[name] = looked{map[int]bool{}, map[int]bool{}, map[int]error{}}
		return all[name]
	}
	told := func(l looked, i int, found, apart bool, err error) {
		if found {
			l.found[i] = true
		}
		if apart {
			l.apart[i] = true
		}
		if err != nil {
			l.errs[i] = err
		}
	}
	l := note("queues")
	require.NoError(t, b.SurveyQueues(ctx, queues, func(p maintenance.Part[*broker.QueueInfo]) {
		info := p.Found
		told(l, p.Queue, info != nil && info.Queued+info.Delayed+info.Running+info.Dead > 0, p.Apart, p.Err)
	}))
	for _, state := range []broker.State{broker.StateRunning, broker.StateQueued, broker.StateDelayed, broker.StateFailed, broker.StateSucceeded} {
		l := note(string(state))
		require.NoError(t, b.SurveyRuns(ctx, queues, state, 50, nil, func(p maintenance.Part[[]*broker.RunInfo]) {
			told(l, p.Queue, len(p.Found) > 0, p.Apart, p.Err)
		}))
	}
	l = note("records")
	require.NoError(t, b.SurveyRecords(ctx, queues, "run-0", func(p maintenance.Part[*broker.Record]) {
		told(l, p.Queue, p.Found != nil, p.Apart, p.Err)
	}))
	l = note("dead letters")
	require.NoError(t, b.SurveyDeadLetters(ctx, queues, func(p maintenance.Part[[]*broker.DeadLetter]) {
		told(l, p.Queue, len(p.Found) > 0, p.Apart, p.Err)
	}))
	return all
}

// TestASurveyTakesFewRoundTrips surveys queues of which many have runs, some many runs,
// and some a key that cannot be read.
func TestASurveyTakesFewRoundTrips(t *testing.T) {
	t.Parallel()
	const n = 2000
	b, trips := openCounted(t, shared)
	client := raw(t, shared)
	queues := someQueues(n)
	inState := map[string]map[int]bool{"queued": {}, "delayed": {}, "running": {}, "dead letters": {}, "queues": {}}
	s := join(t, b, time.Minute)
	for i := 0; i < n; i += 4 {
		r := run("run", queues[i])
		switch i % 16 {
		case 0:
			r.Delay = time.Hour
			inState["delayed"][i] = true
		default:
			inState["queued"][i] = true
		}
		require.NoError(t, b.QueueTasks(t.Context(), r))
		if i%16 == 8 {
			takeAll(t, s, queues[i], 1)
			delete(inState["queued"], i)
			inState["running"][i] = true
		}
		inState["queues"][i] = true
	}
	for i := 1; i < n; i += 8 {
		require.NoError(t, b.QueueTasks(t.Context(), run("dies", queues[i])))
		_, err := s.Finish(t.Context(), broker.Outcome{
			Run: takeAll(t, s, queues[i], 1)[0], Verdict: broker.Dead, Failure: &broker.Failure{Kind: broker.FailureFailed},
		})
		require.NoError(t, err)
		inState["dead letters"][i] = true
		inState["queues"][i] = true
	}
	const much, odd = 2, 3
	require.NoError(t, b.QueueTasks(t.Context(), runs(queues[much], 300)...))
	inState["queues"][much] = true
	for _, key := range []string{"io:1", "delayed", "inflight", "dead", "rec:run-0", "ended:failed"} {
		require.NoError(t, client.HSet(t.Context(), prefix(t)+":{"+queues[odd]+"}:"+key, "f", "v").Err())
	}

	before := trips.n.Load()
	all := lookInto(t, b, queues)
	require.Less(t, trips.n.Load()-before, int64(n/5), "round trips of %d surveys of %d queues", len(all), n)
	for name, l := range all {
		require.Empty(t, l.errs, name)
		apart := map[int]bool{}
		switch name {
		case "queued":
			apart, inState[name][much] = map[int]bool{odd: true}, true // the first of its runs
		case "queues", "delayed", "running", "dead letters", "records":
			apart = map[int]bool{odd: true}
		case "failed":
			apart = map[int]bool{odd: true}
			require.Empty(t, l.found, name)
		case "succeeded":
			require.Empty(t, l.found, name)
		}
		require.Equal(t, apart, l.apart, "queues that the survey of %s leaves to others", name)
		if want, ok := inState[name]; ok {
			require.Equal(t, want, l.found, name)
		}
	}
}

// endedRuns has runs with records end in a queue, with n of them in each call.
func endedRuns(t *testing.T, b *redis.Broker, s broker.Session, queue string, n, calls int) (ids []string) {
	t.Helper()
	for range calls {
		list := runs(queue, n)
		for _, r := range list {
			r.ID = ulid.New(time.Now())
			r.Keep = time.Minute
			ids = append(ids, r.ID)
		}
		require.NoError(t, b.QueueTasks(t.Context(), list...))
		_, err := s.Finish(t.Context(), succeeded(takeAll(t, s, queue, n))...)
		require.NoError(t, err)
	}
	return ids
}

// TestASurveyOfThoseThatHaveEndedLooksAtTheLatest surveys queues of which some have more than it
// looks at, until the first of them have enough.
func TestASurveyOfThoseThatHaveEndedLooksAtTheLatest(t *testing.T) {
	t.Parallel()
	b, trips := openCounted(t, shared)
	queues := someQueues(120)
	s := join(t, b, time.Minute)
	ended := map[int][]string{}
	for i := range queues {
		switch i % 4 {
		case 1:
			ended[i] = endedRuns(t, b, s, queues[i], 3, 2)
		case 2:
			ended[i] = endedRuns(t, b, s, queues[i], 50, 5)
		}
	}
	survey := func(max int, want func(*broker.RunInfo) bool) (found map[int][]string, all map[int]bool) {
		found, all = map[int][]string{}, map[int]bool{}
		require.NoError(t, b.SurveyRuns(within(t, time.Minute), queues, broker.StateSucceeded, max, want, func(p maintenance.Part[[]*broker.RunInfo]) {
			require.NoError(t, p.Err)
			require.False(t, p.Apart)
			for _, info := range p.Found {
				found[p.Queue] = append(found[p.Queue], info.Run.ID)
			}
			all[p.Queue] = p.All
		}))
		require.Len(t, all, len(queues))
		return found, all
	}
	before := trips.n.Load()
	found, all := survey(10_000, nil)
	require.Less(t, trips.n.Load()-before, int64(20), "round trips")
	for i := range queues {
		latest := slices.Clone(ended[i][max(0, len(ended[i])-200):])
		slices.Reverse(latest)
		require.Equal(t, latest, found[i], "runs of queue %d", i)
		require.Equal(t, i%4 != 2, all[i], "queue %d of which %d runs are returned", i, len(found[i]))
	}
	found, all = survey(5, nil)
	require.Len(t, found[1], 5)
	require.False(t, all[1])
	require.False(t, all[119], "of which nothing is known")
	none, all := survey(5, func(*broker.RunInfo) bool { return false })
	require.Empty(t, none)
	for i := range queues {
		require.Equal(t, i%4 != 2, all[i], "queue %d of which no run is wanted", i)
	}
}

// TestASurveyReportsEachQueueOfADeadNode once, and gets the queues of the other nodes as
// always.
func TestASurveyReportsEachQueueOfADeadNode(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, "--cluster-require-full-coverage", "no", "--cluster-node-timeout", "60000", "--cluster-replica-no-failover", "yes")
	b := openURL(t, c.URL(), redis.Config{Timeout: time.Second})
	queues := someQueues(600) // more than one pipeline asks of
	for i := range 30 {
		r := run("run-0", queues[i])
		r.Keep = time.Hour
		require.NoError(t, b.QueueTasks(t.Context(), r))
	}
	victim, away := c.Nodes[0], map[int]bool{}
	for i, queue := range queues {
		if c.Owner(slotOf(c, queue)) == victim {
			away[i] = true
		}
	}
	require.NotEmpty(t, away)
	victim.Kill9()
	for name, l := range lookInto(t, b, queues) {
		require.Len(t, l.errs, len(away), name)
		for i := range away {
			require.Error(t, l.errs[i], "%s: %s", name, queues[i])
		}
		if name == "queued" || name == "queues" {
			for i := range 30 {
				require.Equal(t, !away[i], l.found[i], "%s: %s", name, queues[i])
			}
		}
	}
}
