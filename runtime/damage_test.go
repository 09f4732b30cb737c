//go:build !windows

package runtime_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// damaged is a consumer of two queues on a server on which somebody writes by hand.
type damaged struct {
	*testing.T
	b   *redis.Broker
	c   *goredis.Client
	log *logged

	mu  sync.Mutex
	ran map[string]int
}

type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newDamaged(t *testing.T, server *redistest.Server, name string) *damaged {
	b, err := redis.Open(t.Context(), server.URL(), redis.Config{Prefix: name})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	c := goredis.NewClient(&goredis.Options{Addr: server.Addr(), DisableIdentity: true})
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return &damaged{T: t, b: b, c: c, log: new(logged), ran: map[string]int{}}
}

func (d *damaged) consume() {
	ok := func(ctx context.Context, _ *otherVersion) (taskrt.None, error) {
		run, _ := taskrt.CurrentRun(ctx)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.ran[run.ID]++
		return taskrt.None{}, nil
	}
	consume(d.T, d.b, taskrt.ConsumerConfig{Queues: map[string]int{"default": 1, "other": 1}, Logger: slog.New(slog.NewTextHandler(d.log, nil))},
		[]taskrt.Task{taskrt.Bind(other(), ok)})
}

// runs are of all ways in which runs wait.
func (d *damaged) runs(queue, name string, n int) []*broker.TaskRun {
	list := make([]*broker.TaskRun, n)
	for i := range list {
		r := &broker.TaskRun{ID: fmt.Sprintf("%s-%d", name, i), Task: "recorder_record", Queue: queue, Payload: []byte("\x81\xa4note\x07")}
		switch i % 5 {
		case 1:
			r.EnsureRules().Limits = []broker.Limit{{Key: "k", Max: 2}, {Key: "r", Max: 100, Per: time.Second}}
		case 2:
			r.EnsureRules().Fair = "f"
		case 3:
			r.Delay = time.Millisecond
		case 4:
			r.Keep, r.OwnID = time.Minute, true
			r.EnsureRules().Unique = r.ID
		}
		list[i] = r
	}
	return list
}

// accept queues runs, each for as long as it is refused.
func (d *damaged) accept(runs []*broker.TaskRun) {
	d.Helper()
	for _, r := range runs {
		require.Eventually(d, func() bool { return d.b.QueueTasks(d.Context(), r) == nil }, 20*time.Second, 10*time.Millisecond, "run %s is accepted", r.ID)
	}
}

// await waits until all have run, once each.
func (d *damaged) await(runs ...*broker.TaskRun) {
	d.Helper()
	require.Eventually(d, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, r := range runs {
			if d.ran[r.ID] == 0 {
				return false
			}
		}
		return true
	}, 30*time.Second, 10*time.Millisecond, "all accepted runs have run: %s", d.log)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range runs {
		require.Equal(d, 1, d.ran[r.ID], "run %s", r.ID)
	}
}

// TestBrokenKeysStopNoQueue has keys of a queue be of a wrong type, or hold what cannot
// be: all runs that are accepted run, and the log says what was broken.
func TestBrokenKeysStopNoQueue(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for _, c := range []struct {
		name   string
		damage [][]any // commands, of which the second word is a key of the queue
	}{
		{"inflight", [][]any{{"SET", "inflight", "x"}}},
		{"leases", [][]any{{"SET", "leases", "x"}}},
		{"takes", [][]any{{"RPUSH", "takes", "x"}}},
		{"running", [][]any{{"SET", "running", "x"}}},
		{"held, no number", [][]any{{"HSET", "running", "k", "abc"}}},
		{"delayed", [][]any{{"SET", "delayed", "x"}}},
		{"ready", [][]any{{"SET", "io:1", "x"}}},
		{"backlogs", [][]any{{"SET", "backlogs", "x"}}},
		{"rounds", [][]any{{"SADD", "rounds", "x"}}},
		{"policy", [][]any{{"SET", "policy", "x"}}},
		{"policy, no number", [][]any{{"HSET", "policy", "back", "abc", "turn", "", "started", "x"}}},
		{"recheck", [][]any{{"SET", "recheck", "x"}}},
		{"starts and rates", [][]any{{"SET", "starts", "x"}, {"SET", "rates", "x"}}},
		{"disabled", [][]any{{"SET", "disabled", "x"}}},
		{"aside and enabling", [][]any{{"SET", "deferred", "x"}, {"SET", "enabling", "x"}}},
		{"outbox", [][]any{{"SET", "outbox", "x"}}},
		{"garbage in lines and turns", [][]any{
			{"ZADD", "backlogs", 0, "junk", 0, strings.Repeat("0", 60)}, {"HSET", "policy", "l1", "x"},
			{"ZADD", "rounds", 0, "junk", 0, "vr1", 0, "vr2junk", 0, "r2junk", 0, "vk" + strings.Repeat("a", 16) + "x"},
			{"ZADD", "recheck", 0, "", 0, "junk", 0, strings.Repeat("a", 16), "inf", "later"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDamaged(t, server, "p"+strings.ReplaceAll(c.name, " ", "-"))
			first := d.runs("default", "before", 10)
			d.accept(first)
			d.consume()
			d.await(first...)
			for _, command := range c.damage {
				command[1] = "p" + strings.ReplaceAll(c.name, " ", "-") + ":{default}:" + command[1].(string)
				if command[0] == "SET" || strings.HasSuffix(command[0].(string), "PUSH") {
					require.NoError(t, d.c.Del(t.Context(), command[1].(string)).Err())
				}
				if err := d.c.Do(t.Context(), command...).Err(); err != nil {
					require.ErrorContains(t, err, "WRONGTYPE")
				}
			}
			neighbours := d.runs("other", "neighbour", 20)
			d.accept(neighbours)
			runs := d.runs("default", "run", 100)
			d.accept(runs)
			d.await(append(neighbours, runs...)...)
			if !strings.HasPrefix(c.name, "garbage") && c.name != "policy, no number" { // which takes correct, or delete
				require.Eventually(t, func() bool {
					return strings.Contains(d.log.String(), "key of the broker was broken") && strings.Contains(d.log.String(), "queue=default")
				}, 10*time.Second, 10*time.Millisecond, "the log names it: %s", d.log)
			}
			require.Eventually(t, func() bool {
				return d.c.Exists(t.Context(), "p"+strings.ReplaceAll(c.name, " ", "-")+":{default}:running").Val() == 0
			}, 10*time.Second, 10*time.Millisecond, "nothing counts at limits")
		})
	}
}

// TestALimitThatCannotBeIsADeadLetter has runs be stored whose limits break the rules:
// they are dead letters with the reason, which the log names, and the others run.
func TestALimitThatCannotBeIsADeadLetter(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	key, one := []byte("badlimit"), []byte{0, 0, 0, 0, 0, 0, 0, 1}
	for _, c := range []struct {
		name string
		run  func(r *broker.TaskRun)
		is   []byte // the maximum instead of 1
		at   string // where it waits
	}{
		{"a maximum of 0", func(*broker.TaskRun) {}, make([]byte, 8), "io:1"},
		{"a huge maximum", func(*broker.TaskRun) {}, bytes.Repeat([]byte{0xff}, 8), "io:1"},
		{"a maximum of 0 of one with a fair value", func(r *broker.TaskRun) { r.EnsureRules().Fair = "f" }, make([]byte, 8), "backlogs"},
		{"a maximum of 0 of one that is delayed", func(r *broker.TaskRun) {
			r.EnsureRules().Fair, r.Delay = "f", time.Second
		}, make([]byte, 8), "delayed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			prefix := "p" + strings.ReplaceAll(c.name, " ", "-")
			d := newDamaged(t, server, prefix)
			bad := d.runs("default", "bad", 1)[0]
			c.run(bad)
			bad.EnsureRules().Limits = []broker.Limit{{Key: string(key), Max: 1, Per: time.Second}}
			d.accept([]*broker.TaskRun{bad})
			at := prefix + ":{default}:" + c.at
			spoil := func(entry string) string {
				ext := append(append([]byte(nil), key...), one...)
				require.Equal(t, 1, strings.Count(entry, string(ext)))
				entry = strings.Replace(entry, string(ext), string(append(append([]byte(nil), key...), c.is...)), 1)
				return strings.Replace(entry, string(key)+"\x01", string(key)+"\x00", 1) // in the envelope
			}
			if c.at == "io:1" {
				entry, err := d.c.LPop(t.Context(), at).Result()
				require.NoError(t, err)
				require.NoError(t, d.c.RPush(t.Context(), at, spoil(entry)).Err())
			} else {
				z, err := d.c.ZPopMin(t.Context(), at).Result()
				require.NoError(t, err)
				require.Len(t, z, 1)
				require.NoError(t, d.c.ZAdd(t.Context(), at, goredis.Z{Score: z[0].Score, Member: spoil(z[0].Member.(string))}).Err())
			}
			runs := d.runs("default", "run", 100)
			d.accept(runs)
			d.consume()
			d.await(runs...)
			require.Eventually(t, func() bool {
				letters, err := d.b.DeadLetters(t.Context(), "default", 10)
				require.NoError(t, err)
				return len(letters) == 1 && letters[0].Failure.Kind == broker.FailureSchema && letters[0].Failure.Message != ""
			}, 10*time.Second, 10*time.Millisecond, "it is a dead letter")
			require.Eventually(t, func() bool {
				return strings.Contains(d.log.String(), "run is a dead letter") && strings.Contains(d.log.String(), bad.ID)
			}, 10*time.Second, 10*time.Millisecond, "the log names it: %s", d.log)
			d.mu.Lock()
			defer d.mu.Unlock()
			require.NotContains(t, d.ran, bad.ID)
		})
	}
}
