package redis_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// setAll changes all runs of a list, and returns it.
func setAll(list []*broker.TaskRun, set func(i int, r *broker.TaskRun)) []*broker.TaskRun {
	for i, r := range list {
		set(i, r)
	}
	return list
}

// largeKinds are ways for a run to cost the server more than a plain one.
var largeKinds = map[string]func(i int, r *broker.TaskRun){
	"plain":   func(int, *broker.TaskRun) {},
	"records": func(_ int, r *broker.TaskRun) { r.Keep = time.Minute },
	"delayed": func(_ int, r *broker.TaskRun) { r.Delay = time.Hour },
	"own ids": func(_ int, r *broker.TaskRun) { r.OwnID = true },
	"unique":  func(i int, r *broker.TaskRun) { r.EnsureRules().Unique = fmt.Sprint("key-", i) },
	"limited": func(_ int, r *broker.TaskRun) {
		r.EnsureRules().Limits = []broker.Limit{{Key: "limit", Max: 5}}
	},
	"fair": func(i int, r *broker.TaskRun) { r.EnsureRules().Fair = fmt.Sprint("tenant-", i%1000) },
	"all": func(i int, r *broker.TaskRun) {
		r.OwnID, r.Keep, r.Delay = true, time.Minute, time.Duration(i%2)*time.Millisecond
		*r.EnsureRules() = broker.Rules{Unique: fmt.Sprint("key-", i), Fair: fmt.Sprint("tenant-", i), Limits: []broker.Limit{{Key: "limit", Max: 5}}}
	},
}

// short fails a script that does more than one step of the server should. The server needs
// about half a microsecond for each command with its arguments.
const short = `local redis = (function(server)
  local units = 0
  local function counted(call)
    return function(...)
      units = units + 1 + select('#', ...)
      if units > LIMIT then
        error('this is too much for one step: ' .. units)
      end
      return call(...)
    end
  end
  return setmetatable({call = counted(server.call), pcall = counted(server.pcall)}, {__index = server})
end)(redis)`

// TestLargeCallsDoNotHoldTheServerUp has calls stored in many steps of some milliseconds.
// All of one call in one step would take some hundred.
func TestLargeCallsDoNotHoldTheServerUp(t *testing.T) {
	t.Parallel()
	for _, name := range slices.Sorted(maps.Keys(largeKinds)) {
		t.Run(name, func(t *testing.T) {
			n := 20_000
			if os.Getenv("TASKGEN_SOAK") == "1" {
				n = broker.MaxRuns
			}
			b := open(t, shared, redis.Config{})
			b.Instrument(strings.Replace(short, "LIMIT", "12000", 1))
			require.NoError(t, b.QueueTasks(t.Context(), setAll(runs("q", n), largeKinds[name])...))
			require.Zero(t, raw(t, shared).Exists(t.Context(), prefix(t)+":{q}:stages").Val(), "all is moved")
			require.Equal(t, n, length(t, b, "q"))
		})
	}
}

// TestSmallCallsTogetherDoNotHoldTheServerUp has many callers share a command, which stays
// one short step.
func TestSmallCallsTogetherDoNotHoldTheServerUp(t *testing.T) {
	s := redistest.Start(t)
	b, client := open(t, s, redis.Config{Timeout: 20 * time.Second}), raw(t, s)
	const callers, each = 64, 150
	errs := make(chan error, callers)
	// The first call is held up while the others gather behind it.
	require.NoError(t, b.QueueTasks(t.Context(), run("first", "q")))
	require.NoError(t, client.ConfigResetStat(t.Context()).Err())
	s.Freeze()
	for n := range callers {
		list := setAll(runs("q", each), largeKinds["all"])
		for i, r := range list {
			r.ID = fmt.Sprintf("%d-%d", n, i)
			r.Rules.Unique, r.Rules.Fair = r.ID, r.ID
		}
		go func() { errs <- b.QueueTasks(context.Background(), list...) }()
	}
	s.Thaw()
	for range callers {
		require.NoError(t, <-errs)
	}
	stats, err := client.InfoMap(t.Context(), "commandstats").Result()
	require.NoError(t, err)
	_, calls, _ := strings.Cut(stats["Commandstats"]["cmdstat_evalsha"], "calls=")
	n, err := strconv.Atoi(strings.SplitN(calls, ",", 2)[0])
	require.NoError(t, err)
	require.Greater(t, n, callers/2, "commands for %d calls that each are a step of the server", callers)
	require.Equal(t, callers*each+1, length(t, b, "q"))
}

// Texts in the requests of a large call.
const (
	aPage  = "payload of run-2000"
	aMove  = "\r\nmove\r\n"
	aDrop  = "\r\ndrop\r\n"
	commit = "\r\n$1\r\n4\r\n$" // the number of its keys
)

const largeSize = 3000

func largeCall() []*broker.TaskRun {
	return setAll(runs("q", largeSize), func(i int, r *broker.TaskRun) {
		r.OwnID, r.Keep = true, time.Minute
		r.EnsureRules().Unique = fmt.Sprint("key-", i)
	})
}

// requireNone checks that nothing of a call is there, and nothing that it reserved.
func requireNone(t *testing.T, b *redis.Broker) {
	t.Helper()
	require.Zero(t, length(t, b, "q"))
	for _, key := range keysOf(t, raw(t, shared), prefix(t)) {
		kind, _, _ := strings.Cut(strings.TrimPrefix(key, prefix(t)+":{q}:"), ":")
		require.NotContains(t, []string{"id", "u", "rec", "stages", "staged", "stage", "io", "delayed"}, kind, key)
	}
}

// requireAllOnce takes all runs of the call, in their order.
func requireAllOnce(t *testing.T, b *redis.Broker) {
	t.Helper()
	require.Equal(t, largeSize, length(t, b, "q"))
	s := join(t, b, time.Minute)
	for n := 0; n < largeSize; {
		got, err := s.Take(within(t, 10*time.Second), broker.Want{Queues: []string{"q"}, IO: 1000})
		require.NoError(t, err)
		for i, r := range got {
			require.Equal(t, fmt.Sprint("run-", n+i), r.ID)
		}
		n += len(got)
		finishAll(t, s, got)
	}
	require.Zero(t, length(t, b, "q"))
	require.NoError(t, s.Close(t.Context()))
	for _, key := range keysOf(t, raw(t, shared), prefix(t)) {
		kind, _, _ := strings.Cut(strings.TrimPrefix(key, prefix(t)+":{q}:"), ":")
		if !strings.Contains(key, ":broken:") {
			require.NotContains(t, []string{"stages", "staged", "stage", "io"}, kind, key)
		}
	}
}

// endTime ends the time of calls that are not committed.
func endTime(t *testing.T, client *goredis.Client) {
	t.Helper()
	key := prefix(t) + ":{q}:stages"
	for token, state := range client.HGetAll(t.Context(), key).Val() {
		if state[0] == 'o' {
			require.NoError(t, client.HSet(t.Context(), key, token, "o0000000000001").Err())
		}
	}
}

// TestLargeCallOfADeadProducer is stored whole or not at all, whenever it dies.
func TestLargeCallOfADeadProducer(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"payload of run-0", aPage, commit} {
		t.Run(strings.Trim(at, "\r\n$"), func(t *testing.T) {
			b := open(t, shared, redis.Config{})
			other, l := openLossy(t, shared)
			l.cut(at, true)
			err := other.QueueTasks(t.Context(), largeCall()...)
			require.Error(t, err)
			require.Equal(t, at == commit, errors.Is(err, broker.ErrOutcomeUnknown), err)
			require.Zero(t, length(t, b, "q"))
			listed, err := b.Runs(t.Context(), "q", broker.StateQueued, 10)
			require.NoError(t, err)
			require.Empty(t, listed)
			require.ErrorIs(t, b.Cancel(t.Context(), "q", "run-0", broker.Failure{}), broker.ErrNoRecord)
			endTime(t, raw(t, shared))
			// A call that meets what it has reserved decides about it.
			require.NoError(t, b.QueueTasks(t.Context(), largeCall()[:1]...))
			s := join(t, b, time.Minute)
			finishAll(t, s, takeAll(t, s, "q", 1))
			require.NoError(t, s.Close(t.Context()))
			require.NoError(t, b.QueueTasks(t.Context(), largeCall()...))
			requireAllOnce(t, b)
		})
	}
	t.Run("recovered", func(t *testing.T) {
		b := open(t, shared, redis.Config{})
		other, l := openLossy(t, shared)
		l.cut(aPage, true)
		require.Error(t, other.QueueTasks(t.Context(), largeCall()...))
		endTime(t, raw(t, shared))
		_, err := b.Recover(t.Context(), []string{"q"})
		require.NoError(t, err)
		requireNone(t, b)
	})
}

// TestLargeCallIsSeenOnceItIsCommitted, though its producer dies before it has moved
// anything.
func TestLargeCallIsSeenOnceItIsCommitted(t *testing.T) {
	t.Parallel()
	ways := map[string]func(t *testing.T, b *redis.Broker){
		"taken": func(*testing.T, *redis.Broker) {},
		"recovered": func(t *testing.T, b *redis.Broker) {
			key := prefix(t) + ":{q}:stages"
			client := raw(t, shared)
			for token, state := range client.HGetAll(t.Context(), key).Val() {
				if state[0] == 'c' {
					require.NoError(t, client.HSet(t.Context(), key, token, "c0000000000001").Err())
				}
			}
			_, err := b.Recover(t.Context(), []string{"q"})
			require.NoError(t, err)
			require.Zero(t, client.Exists(t.Context(), key).Val())
		},
		"listed": func(t *testing.T, b *redis.Broker) {
			listed, err := b.Runs(t.Context(), "q", broker.StateQueued, 3)
			require.NoError(t, err)
			require.Len(t, listed, 3)
			require.Equal(t, "run-0", listed[0].Run.ID)
		},
		"read": func(t *testing.T, b *redis.Broker) {
			record, err := b.Record(t.Context(), "q", "run-2999")
			require.NoError(t, err)
			require.Equal(t, broker.StateQueued, record.State)
		},
		"described": func(t *testing.T, b *redis.Broker) {
			info, err := b.Queue(t.Context(), "q")
			require.NoError(t, err)
			require.EqualValues(t, largeSize, info.Queued+info.Delayed)
		},
		"surveyed": func(t *testing.T, b *redis.Broker) {
			asked := 0
			err := b.SurveyQueues(t.Context(), []string{"q"}, func(p maintenance.Part[*broker.QueueInfo]) {
				asked++
				require.NoError(t, p.Err)
				require.True(t, p.Apart, "the queue is to be read by itself, which moves them: %+v", p.Found)
			})
			require.NoError(t, err)
			require.Equal(t, 1, asked)
		},
		"refusing": func(t *testing.T, b *redis.Broker) {
			again := run("again", "q")
			again.EnsureRules().Unique = "key-2999"
			err := b.QueueTasks(t.Context(), again)
			var conflict *broker.DuplicateError
			require.ErrorAs(t, err, &conflict)
			require.Equal(t, []broker.Duplicate{{Index: 0, ID: "run-2999"}}, conflict.Runs)
			err = b.QueueTasks(t.Context(), largeCall()[1000:]...)
			require.ErrorAs(t, err, &conflict)
			require.Len(t, conflict.Runs, 2000)
		},
		"audited": func(t *testing.T, b *redis.Broker) {
			report, err := b.Audit(t.Context(), "q", true)
			require.NoError(t, err)
			require.Zero(t, report.Faults(), "%+v", report)
			require.Equal(t, largeSize, report.Runs)
		},
		"cancelled and queued again": func(t *testing.T, b *redis.Broker) {
			require.NoError(t, b.Cancel(t.Context(), "q", "run-2999", broker.Failure{Kind: broker.FailureCancelled}))
			require.Equal(t, largeSize-1, length(t, b, "q"))
			require.NoError(t, b.QueueTasks(t.Context(), largeCall()[largeSize-1]))
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			b := open(t, shared, redis.Config{})
			other, l := openLossy(t, shared)
			l.cut(aMove, true)
			require.NoError(t, other.QueueTasks(t.Context(), largeCall()...), "it is stored")
			require.Equal(t, largeSize, length(t, b, "q"))
			way(t, b)
			requireAllOnce(t, b)
		})
	}
}

// TestLargeCallWhoseReplyIsLost is stored once, and the call returns nil.
func TestLargeCallWhoseReplyIsLost(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"payload of run-0", aPage, commit, aMove} {
		t.Run(strings.Trim(at, "\r\n$"), func(t *testing.T) {
			b, l := openLossy(t, shared)
			l.lose(1, at)
			require.NoError(t, b.QueueTasks(t.Context(), largeCall()...))
			require.Equal(t, 1, l.count())
			requireAllOnce(t, b)
		})
	}
}

// TestLargeCallThatOthersMoveWhileItsRepliesAreLost returns nil, though nothing of the
// call is left but the key that says so.
func TestLargeCallThatOthersMoveWhileItsRepliesAreLost(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	require.NoError(t, b.QueueTasks(t.Context(), runs("before", 20_000)...)) // so that the server has the script
	other, l := openLossy(t, shared)
	l.loseAfter(commit, func() {
		_, err := b.Runs(context.Background(), "q", broker.StateQueued, 1)
		if err != nil {
			t.Error(err)
		}
	})
	l.mu.Lock()
	l.left = 1000
	l.mu.Unlock()
	require.NoError(t, other.QueueTasks(t.Context(), largeCall()...))
	require.Positive(t, l.count())
	requireAllOnce(t, b)
}

// TestLargeCallWithoutOwnIDsIsNeverInDoubt although a small one would be: to store a page
// queues nothing.
func TestLargeCallWithoutOwnIDsIsNeverInDoubt(t *testing.T) {
	t.Parallel()
	b, l := openLossy(t, shared)
	l.lose(1, commit)
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 20_000)...))
	require.Equal(t, 1, l.count())
	require.Equal(t, 20_000, length(t, b, "q"))
}

// distinctKeys returns the test's keys: a scan can meet one twice.
func distinctKeys(t *testing.T, client *goredis.Client) []string {
	t.Helper()
	keys := keysOf(t, client, prefix(t))
	slices.Sort(keys)
	return slices.Compact(keys)
}

// TestLargeCallThatIsRefused leaves nothing, and names all runs that are in its way.
func TestLargeCallThatIsRefused(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	client := raw(t, shared)
	live := run("live", "q")
	live.EnsureRules().Unique = "key-2998"
	mine := run("run-2999", "q")
	mine.OwnID = true
	require.NoError(t, b.QueueTasks(t.Context(), live))
	before := distinctKeys(t, client)
	var conflict *broker.DuplicateError
	require.ErrorAs(t, b.QueueTasks(t.Context(), largeCall()...), &conflict)
	require.Equal(t, []broker.Duplicate{{Index: 2998, ID: "live"}}, conflict.Runs)
	require.Equal(t, before, distinctKeys(t, client))
	require.NoError(t, b.QueueTasks(t.Context(), mine))
	before = distinctKeys(t, client)
	ownIDs := setAll(runs("q", largeSize), largeKinds["own ids"])
	require.ErrorIs(t, b.QueueTasks(t.Context(), ownIDs...), broker.ErrDuplicate)
	require.Equal(t, before, distinctKeys(t, client))
}

// TestLargeCallWhoseTimeIsOver is refused, though its producer lives: others may have
// taken its pages away.
func TestLargeCallWhoseTimeIsOver(t *testing.T) {
	t.Parallel()
	b, l := openLossy(t, shared)
	l.loseAfter(aPage, func() { endTime(t, raw(t, shared)) })
	err := b.QueueTasks(t.Context(), largeCall()...)
	require.ErrorContains(t, err, "nothing is stored")
	require.NotErrorIs(t, err, broker.ErrOutcomeUnknown)
	requireNone(t, b)
}

// TestLargeCallWhoseContextEnds is not stored before its commit, and stored after it.
func TestLargeCallWhoseContextEnds(t *testing.T) {
	t.Parallel()
	for _, at := range []string{aPage, aMove} {
		t.Run(strings.Trim(at, "\r\n"), func(t *testing.T) {
			b, l := openLossy(t, shared)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			l.loseAfter(at, cancel)
			err := b.QueueTasks(ctx, largeCall()...)
			if at == aMove {
				require.NoError(t, err)
				requireAllOnce(t, b)
				return
			}
			require.ErrorIs(t, err, context.Canceled)
			require.NotErrorIs(t, err, broker.ErrOutcomeUnknown)
			require.Zero(t, length(t, b, "q"))
			require.NoError(t, b.QueueTasks(t.Context(), largeCall()...), "what it reserved goes")
			requireAllOnce(t, b)
		})
	}
}

// TestSmallCallWaitsForALargeOneThatIsNotDecided: an error that says duplicate could be
// wrong, and its caller would take the run for queued.
func TestSmallCallWaitsForALargeOneThatIsNotDecided(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	other, l := openLossy(t, shared)
	refused := make(chan error, 1)
	l.loseAfter(commit, func() {}) // the reply to the repeated commit says that it is stored
	l.mu.Lock()
	l.match, l.then = []byte(aPage), func() {
		go func() { refused <- b.QueueTasks(context.Background(), largeCall()[0]) }()
	}
	l.mu.Unlock()
	require.NoError(t, other.QueueTasks(t.Context(), largeCall()...))
	require.ErrorIs(t, <-refused, broker.ErrDuplicate)
	requireAllOnce(t, b)
}

// TestLargeGroupIsStoredWhole as any large call, while the group is reserved.
func TestLargeGroupIsStoredWhole(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]string{
		"not cut": "", "cut in a page": "payload of member-3999", "cut at the reservation": "\r\nreserve\r\n",
		"cut at the commit": "\r\n$4\r\n4000\r\n$16\r\n", "cut at the move": aMove, // a commit's number of runs and token
	} {
		t.Run(name, func(t *testing.T) {
			b, l := openLossy(t, shared)
			gathering, members := group("q", "q", 4000)
			setAll(members, func(i int, r *broker.TaskRun) {
				r.Payload = fmt.Appendf(nil, "payload of member-%d", i)
				r.EnsureRules().Unique = fmt.Sprint("key-", i)
			})
			if at != "" {
				l.lose(1, at)
			}
			require.NoError(t, b.QueueGroup(t.Context(), gathering, members...))
			require.Equal(t, 4000, length(t, b, "q"))
			s := join(t, b, time.Minute)
			for n := 0; n < 4000; {
				got, err := s.Take(within(t, 10*time.Second), broker.Want{Queues: []string{"q"}, IO: 1000})
				require.NoError(t, err)
				n += len(got)
				finishAll(t, s, got)
			}
			require.Equal(t, gathering.ID, takeAll(t, s, "q", 1)[0].ID)
		})
	}
}

// producerEnv has the test binary be a producer of one large call.
const producerEnv = "TASKGEN_TEST_PRODUCER"

// produce queues a large call again and again until the process is killed, or the call is
// refused. TestMain calls it.
func produce(url string) int {
	b, err := redis.Open(context.Background(), url, redis.Config{Prefix: os.Getenv("TASKGEN_TEST_PREFIX")})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer b.Close()
	if err := b.QueueTasks(context.Background(), largeCall()...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestKilledProducerOfALargeCall kills the process at instants all over the call.
func TestKilledProducerOfALargeCall(t *testing.T) {
	t.Parallel()
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	base := prefix(t) + ":{q}:"
	whole := 0
	for round := range 4 {
		var out bytes.Buffer
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), producerEnv+"="+shared.URL(), "TASKGEN_TEST_PREFIX="+prefix(t))
		cmd.Stdout, cmd.Stderr = &out, &out
		require.NoError(t, cmd.Start())
		for from := time.Now(); ; {
			states, err := client.HGetAll(t.Context(), base+"stages").Result()
			require.NoError(t, err)
			var staged int64
			for token := range states {
				staged += client.LLen(t.Context(), base+token).Val()
			}
			// Every other round after the commit.
			if round%2 == 0 && staged > int64(round)*largeSize/5 || states["runs"] != "" || length(t, b, "q") > 0 {
				break
			}
			require.Less(t, time.Since(from), 20*time.Second, "no page comes: %s", &out)
		}
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		n := length(t, b, "q")
		require.Contains(t, []int{0, largeSize}, n, "round %d", round)
		endTime(t, client)
		if err := b.QueueTasks(t.Context(), largeCall()...); n == 0 {
			require.NoError(t, err)
		} else {
			whole++
			require.ErrorIs(t, err, broker.ErrDuplicate)
		}
		requireAllOnce(t, b)
	}
	require.Positive(t, whole)
}
