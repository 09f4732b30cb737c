package redis_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis"
)

// lostTicks are how the last claimed tick of a schedule can be lost.
var lostTicks = map[string]func(t *testing.T, c *goredis.Client, key, field string){
	"its field is deleted": func(t *testing.T, c *goredis.Client, key, field string) {
		require.NoError(t, c.HDel(t.Context(), key, field).Err())
	},
	"its field is empty":   setTick(""),
	"its field is no tick": setTick("garbage"),
	"its field is no tick, but has the revision": func(t *testing.T, c *goredis.Client, key, field string) {
		was := c.HGet(t.Context(), key, field).Val()
		setTick(strings.Repeat("x", 20)+was[20:])(t, c, key, field)
	},
	"its field is a tick of a later time than there can be": func(t *testing.T, c *goredis.Client, key, field string) {
		was := c.HGet(t.Context(), key, field).Val()
		setTick("0"+strings.Repeat("9", 19)+was[20:])(t, c, key, field)
	},
	"its key is of another type": func(t *testing.T, c *goredis.Client, key, _ string) {
		require.NoError(t, c.Set(t.Context(), key, "x", 0).Err())
	},
	"its key is deleted": func(t *testing.T, c *goredis.Client, key, _ string) {
		require.NoError(t, c.Del(t.Context(), key).Err())
	},
}

func setTick(text string) func(t *testing.T, c *goredis.Client, key, field string) {
	return func(t *testing.T, c *goredis.Client, key, field string) {
		require.NoError(t, c.HSet(t.Context(), key, field, text).Err())
	}
}

// tickRun is the run of a schedule's tick.
func tickRun(name string, tick time.Time) *broker.TaskRun {
	return run(fmt.Sprintf("%s@%d", name, tick.UnixNano()), "q")
}

// TestAScheduleGoesOnWhoseLastTickIsLost: the ticks before that may have been queued, and
// no scheduler queues one twice.
func TestAScheduleGoesOnWhoseLastTickIsLost(t *testing.T) {
	for how, lose := range lostTicks {
		t.Run(how, func(t *testing.T) {
			logger, text := logged()
			b, c := open(t, shared, redis.Config{Logger: logger}), raw(t, shared)
			e := &broker.Schedule{ID: "e", Spec: "@every 1s", Run: run("e", "q")}
			require.NoError(t, b.PutSchedule(t.Context(), e))
			queue := func(tick time.Time) error { return b.QueueScheduleTick(t.Context(), e, tickRun("e", tick), tick) }
			// Of three instants the last is one to come: clocks differ by a little.
			first := time.Now()
			require.NoError(t, queue(first.Add(-time.Second)))
			require.NoError(t, queue(first.Add(time.Second)))
			lose(t, c, prefix(t)+":{q}:ticks", "task e")

			entries, err := b.Schedules(t.Context(), "q")
			require.NoError(t, err, "a scheduler that starts has to find it")
			require.Len(t, entries, 1)
			var errs []error
			var all sync.Mutex
			var schedulers sync.WaitGroup
			for range 4 {
				schedulers.Go(func() {
					err := queue(first.Add(time.Second))
					if err != nil && strings.Contains(err.Error(), "WRONGTYPE") { // the key is quarantined, and the tick tried again
						err = queue(first.Add(time.Second))
					}
					all.Lock()
					defer all.Unlock()
					errs = append(errs, err)
				})
			}
			schedulers.Wait()
			for _, err := range errs {
				require.ErrorIs(t, err, broker.ErrDuplicate, "a tick that was queued before")
			}
			require.ErrorIs(t, queue(time.Now().Add(-time.Minute)), broker.ErrDuplicate, "a tick of the past")
			next := first.Add(time.Minute)
			require.NoError(t, queue(next), "the tick behind it")
			require.ErrorIs(t, queue(next), broker.ErrDuplicate)
			lengths, err := b.QueueLength(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, 3, lengths["q"], "runs queued")
			entries, err = b.Schedules(t.Context(), "q")
			require.NoError(t, err)
			require.True(t, next.Equal(entries[0].Last), "Last is %v", entries[0].Last)
			require.Equal(t, 1, strings.Count(text(), "the last claimed tick of a schedule is lost"), text())
			require.Contains(t, text(), "queue=q task=task schedule=e")
		})
	}
}

// TestADeletedScheduleWithoutALastTickStaysGone: only schedules that exist go on.
func TestADeletedScheduleWithoutALastTickStaysGone(t *testing.T) {
	logger, text := logged()
	b, c := open(t, shared, redis.Config{Logger: logger}), raw(t, shared)
	key := prefix(t) + ":{q}:ticks"
	old := &broker.Schedule{ID: "e", Spec: "@every 1s", Run: run("e", "q")}
	require.NoError(t, b.PutSchedule(t.Context(), old))
	changed := &broker.Schedule{ID: "e", Spec: "@every 2s", Run: run("e", "q")}
	require.NoError(t, b.PutSchedule(t.Context(), changed))
	tick := time.Now().Add(time.Minute)
	require.NoError(t, c.HDel(t.Context(), key, "task e").Err())
	require.ErrorIs(t, b.QueueScheduleTick(t.Context(), old, tickRun("e", tick), tick), broker.ErrNoSchedule, "one that was changed")
	require.NoError(t, b.DeleteSchedule(t.Context(), "q", "e"))
	require.ErrorIs(t, b.QueueScheduleTick(t.Context(), changed, tickRun("e", tick), tick), broker.ErrNoSchedule, "one that was deleted")
	require.Zero(t, c.Exists(t.Context(), key, prefix(t)+":{q}:schedules").Val(), "keys that are left")
	require.Empty(t, text())
}

// TestASchedulePutAgainWhoseLastTickIsLostGoesOn: its rule is as before, and so is the
// instant after which its ticks come.
func TestASchedulePutAgainWhoseLastTickIsLostGoesOn(t *testing.T) {
	for _, how := range []string{"its field is deleted", "its field is no tick", "its key is deleted", "its field is no tick, but has the revision"} {
		t.Run(how, func(t *testing.T) {
			logger, text := logged()
			b, c := open(t, shared, redis.Config{Logger: logger}), raw(t, shared)
			e := &broker.Schedule{ID: "e", Spec: "@every 1s", Run: run("e", "q")}
			require.NoError(t, b.PutSchedule(t.Context(), e))
			tick := e.Since.Add(time.Microsecond)
			require.NoError(t, b.QueueScheduleTick(t.Context(), e, tickRun("e", tick), tick))
			lostTicks[how](t, c, prefix(t)+":{q}:ticks", "task e")
			require.NoError(t, b.PutSchedule(t.Context(), e))
			require.True(t, e.Last.After(tick), "Last is %v", e.Last)
			require.ErrorIs(t, b.QueueScheduleTick(t.Context(), e, tickRun("e", tick), tick), broker.ErrDuplicate)
			tick = time.Now().Add(time.Minute)
			require.NoError(t, b.QueueScheduleTick(t.Context(), e, tickRun("e", tick), tick))
			require.Equal(t, 1, strings.Count(text(), "the last claimed tick of a schedule is lost"), text())
		})
	}
}

// TestATasksScheduleGoesOnWhoseLastTickIsNone: without a last tick the task was never
// scheduled.
func TestATasksScheduleGoesOnWhoseLastTickIsNone(t *testing.T) {
	for how, lose := range lostTicks {
		t.Run(how, func(t *testing.T) {
			logger, text := logged()
			b, c := open(t, shared, redis.Config{Logger: logger}), raw(t, shared)
			key := prefix(t) + ":{q}:ticks"
			queue := func(tick time.Time) error { return b.QueueTick(t.Context(), tickRun("task", tick), tick) }
			garbage := strings.Contains(how, "field is") && !strings.Contains(how, "deleted")
			begun := time.Now()
			_, err := b.BeginTicks(t.Context(), "q", "task", begun)
			require.NoError(t, err)
			require.NoError(t, queue(begun.Add(time.Second)))

			lose(t, c, key, "task") // and a scheduler starts
			last, err := b.BeginTicks(t.Context(), "q", "task", begun.Add(2*time.Second))
			require.NoError(t, err)
			require.True(t, begun.Add(2*time.Second).Equal(last), "the last tick is %v", last)
			require.ErrorIs(t, queue(begun.Add(time.Second)), broker.ErrDuplicate, "a tick of before")
			require.NoError(t, queue(begun.Add(3*time.Second)))
			if garbage {
				require.Equal(t, 1, strings.Count(text(), "the last claimed tick of a schedule is lost"), text())

				lose(t, c, key, "task") // while one runs
				require.ErrorIs(t, queue(begun.Add(3*time.Second)), broker.ErrDuplicate, "a tick of before")
				require.NoError(t, queue(begun.Add(4*time.Second)))
				require.Equal(t, 2, strings.Count(text(), "the last claimed tick of a schedule is lost"), text())
			}
		})
	}
}
