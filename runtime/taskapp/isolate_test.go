//go:build !windows

package taskapp_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// raw is a client of the fleet's server, to write what no broker would.
func (f *fleet) raw() *goredis.Client {
	f.t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: f.server.Addr(), DisableIdentity: true})
	f.t.Cleanup(func() { require.NoError(f.t, c.Close()) })
	return c
}

// TestABadNameOfAQueueStopsNoCommand has names among the queues that none can have.
func TestABadNameOfAQueueStopsNoCommand(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ctx, server := f.ctx, f.raw()
	waits, err := tasks.QueueRecorderRecord(ctx, "waits", taskrt.OnQueue("good"), taskrt.Delay(time.Hour))
	require.NoError(t, err)
	for _, name := range []string{"bad name", "", "nul\x00", strings.Repeat("long", 1000)} {
		require.NoError(t, server.SAdd(ctx, "taskgen:queues", name).Err())
	}
	p := f.serve(0, "--queues", "*")
	done, err := tasks.QueueRecorderRecord(ctx, "done", taskrt.OnQueue("good"), taskrt.Keep(time.Hour))
	require.NoError(t, err)
	_, err = done.Wait(ctx)
	require.NoError(t, err, "a pattern matches the bad names too")
	require.NoError(t, p.end(syscall.SIGTERM))
	require.Equal(t, 1, strings.Count(p.log.String(), "names that no queue can have"), p.log.String())
	require.Contains(t, p.log.String(), "skipped=4")

	for _, words := range [][]string{
		{"status"}, {"runs"}, {"dead", "list"}, {"list"}, {"run", waits.ID}, {"pause", "good"}, {"resume", "good"},
		{"disable", "echo"}, {"enable", "echo"}, {"dead", "retry", "--all", "--yes"}, {"dead", "delete", "--all", "--yes"}, {"cancel", waits.ID},
	} {
		a := f.app(words...)
		require.Zero(t, a.code, "%q: %s", words, a.stderr)
		require.NotEmpty(t, a.stdout, words)
		require.Equal(t, 1, strings.Count(a.stderr, "\n"), "%q: %s", words, a.stderr)
		require.Contains(t, a.stderr, "skipped: 4", words)
		require.Contains(t, a.stderr, `"bad name"`, words)
		require.Contains(t, a.stderr, "SREM taskgen:queues", words)
		require.Less(t, len(a.stderr), 2000, words)
	}
}

// TestAQueueThatCannotBeReadHidesNoOther has keys of one queue be of a wrong type.
func TestAQueueThatCannotBeReadHidesNoOther(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ctx, server := f.ctx, f.raw()
	require.NoError(t, server.SAdd(ctx, "taskgen:queues", "bad").Err())
	waits, err := tasks.QueueRecorderRecord(ctx, "waits", taskrt.OnQueue("good"), taskrt.Delay(time.Hour))
	require.NoError(t, err)
	for _, key := range []string{"inflight", "schedules", "delayed", "disabled", "rec:" + waits.ID} {
		require.NoError(t, server.RPush(ctx, "taskgen:{bad}:"+key, "x").Err())
	}
	require.NoError(t, server.Set(ctx, "taskgen:{bad}:dead", "x", 0).Err())
	for _, c := range []struct {
		shows, names string
		code         int
		words        []string
	}{
		{"good", "{bad}:inflight is a list, not a set", 1, []string{"status"}},
		{waits.ID, "{bad}:inflight is a list, not a set", 1, []string{"runs"}},
		{"No dead letter is in the queues bad, default, good, mail, shared, sums: as far as it could be read.", "{bad}:dead is a string, not a list", 1, []string{"dead", "list"}},
		{"record", "{bad}:schedules is a list, not a hash", 1, []string{"list"}},
		{"waits", "{bad}:rec:" + waits.ID + " is a list, not a string", 0, []string{"run", waits.ID}},
		{"dead letters deleted", "{bad}:dead is a string, not a list", 1, []string{"dead", "delete", "--all", "--yes"}},
		{"dead letters queued again", "{bad}:dead is a string, not a list", 1, []string{"dead", "retry", "--all", "--yes"}},
		{"has ended", "{bad}:rec:" + waits.ID + " is a list, not a string", 0, []string{"cancel", waits.ID}},
	} {
		a := f.app(c.words...)
		require.Equal(t, c.code, a.code, "%q: %s", c.words, a.stderr)
		require.Contains(t, a.stdout, c.shows, c.words)
		require.Contains(t, a.stderr, "queue bad", c.words)
		require.Contains(t, a.stderr, c.names, c.words)
	}
}

// TestOneQueuesGarbageFreezesNoSchedules has what one queue keeps of schedules be
// garbage, and makes some in another.
func TestOneQueuesGarbageFreezesNoSchedules(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ctx, server := f.ctx, f.raw()
	require.NoError(t, server.SAdd(ctx, "taskgen:queues", "abc", "list", "empty", "bad name").Err())
	require.NoError(t, server.Set(ctx, "taskgen:{abc}:schedules:changes", "abc", 0).Err())
	require.NoError(t, server.Set(ctx, "taskgen:{list}:schedules:changes", "1", 0).Err())
	require.NoError(t, server.RPush(ctx, "taskgen:{list}:schedules", "x").Err())
	require.NoError(t, server.Set(ctx, "taskgen:{empty}:schedules:changes", "1", 0).Err())
	require.NoError(t, server.HSet(ctx, "taskgen:{empty}:schedules", "odd", "garbage", "odd too", "").Err())
	p := f.serve(0)
	// After the first look at what there is.
	require.Eventually(t, func() bool { return strings.Contains(p.log.String(), "skipped=2") }, 10*time.Second, 10*time.Millisecond, p.log.String())
	_, err := taskrt.Schedule(ctx, "@every 1s", "", tasks.CallRecorderRecord("tock"), taskrt.OnQueue("default"))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		starts, _ := f.counts()
		return starts["tock"] > 0
	}, 20*time.Second, 10*time.Millisecond, p.log.String())
	for _, said := range []string{"{abc}:schedules:changes", "{list}:schedules is a list, not a hash", "odd"} {
		require.Contains(t, p.log.String(), said)
	}
}

// TestTheClientLibraryWritesNothingRaw uses sentinels, of which it reports each master.
func TestTheClientLibraryWritesNothingRaw(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t)
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), os.Args[0], "status", "--broker", s.URL())
	cmd.Env = append(os.Environ(), appEnv+"=1")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), stderr.String())
	require.Contains(t, stdout.String(), "default")
	require.Empty(t, stderr.String())
}

// reads is how often the fleet's server has read what somebody sent it.
func (f *fleet) reads() int {
	f.t.Helper()
	stats, err := f.raw().InfoMap(f.ctx, "stats").Result()
	require.NoError(f.t, err)
	n, err := strconv.Atoi(stats["Stats"]["total_reads_processed"])
	require.NoError(f.t, err)
	return n
}

// TestCommandsLookIntoManyQueuesTogether counts how often the server reads, which it does
// once for each round trip or more. One of the queues cannot be read, and one has a run.
func TestCommandsLookIntoManyQueuesTogether(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	const n = 3000
	var names []any
	for i := range n {
		names = append(names, fmt.Sprintf("queue-%04d", i))
	}
	server := f.raw()
	require.NoError(t, server.SAdd(f.ctx, "taskgen:queues", append(names, "bad")...).Err())
	for _, key := range []string{"inflight", "delayed", "dead"} {
		require.NoError(t, server.Set(f.ctx, "taskgen:{bad}:"+key, "x", 0).Err())
	}
	waits, err := tasks.QueueRecorderRecord(f.ctx, "waits", taskrt.OnQueue("queue-2999"), taskrt.Delay(time.Hour))
	require.NoError(t, err)
	for _, c := range []struct {
		shows string
		code  int
		words []string
	}{
		{"queue-2998", 1, []string{"status"}},
		{waits.ID, 1, []string{"runs"}},
		{waits.ID, 0, []string{"run", waits.ID}},
		{"", 1, []string{"run", "01K4V5Q7T3M8ZB6D2X9YHRNCPW"}},
		{"No dead letter is in ", 1, []string{"dead", "list"}},
	} {
		before := f.reads()
		a := f.app(c.words...)
		require.Less(t, f.reads()-before, n/3, "%q: reads of the server, for %d queues", c.words, n)
		require.Equal(t, c.code, a.code, "%q: %s", c.words, a.stderr)
		require.Contains(t, a.stdout, c.shows, c.words)
		if c.code != 0 { // else it is found before that queue has to be looked into by itself
			require.Contains(t, a.stderr, "queue bad: skipped", c.words)
		}
		require.Less(t, len(a.stderr), 2000, c.words)
	}
}
