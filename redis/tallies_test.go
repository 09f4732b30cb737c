package redis_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis"
)

// tallyOf returns a tally with some counts.
func tallyOf(queue, task string, minute time.Time, n int64) broker.Tally {
	t := broker.Tally{Queue: queue, Task: task, Minute: minute, Succeeded: n, Dropped: 2 * n}
	t.Waits[0], t.Waits[23], t.Times[7], t.Times[23] = n, 300*n, 70_000*n, 5_000_000_000*n
	return t
}

// tallyKey returns the key of the tallies of an instant.
func tallyKey(t *testing.T, queue string, at time.Time) string {
	return fmt.Sprintf("%s:{%s}:tally:%d", prefix(t), queue, at.Unix()/3600)
}

// TestTalliesOfOtherHands finds in a series what this broker did not write.
func TestTalliesOfOtherHands(t *testing.T) {
	t.Parallel()
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	hour := time.Now().UTC().Truncate(time.Hour)
	key := tallyKey(t, "q", hour)
	minute := func(n int) time.Time { return hour.Add(time.Duration(n) * time.Minute) }
	// A minute is its number, a length, and an array of numbers and counts.
	good := "\x05\x00\x03\x92\x00\x07"
	for series, want := range map[string]int{
		"":                                0,
		good:                              1,
		good + good:                       2,
		good + "\x06":                     1,
		good + "\x06\xff\xff\x90":         1,
		"\x3c\x00\x03\x92\x00\x07" + good: 1, // the sixtieth minute
		"\x06\x00\x03\x93\x00\x07" + good: 1,
		"\x06\x00\x03\x91\x00\x07" + good: 1,
		"\x06\x00\x03\x92\xa1x" + good:    1,
		"\x06\x00\x03\x92\x00\xff" + good: 1, // less than none
		"\x06\x00\x05\xdd\xff\xff\xff\xff" + good:      1,
		"\x06\x00\x04\x92\xcc\xff\x07" + good:          2, // a count of a newer version
		strings.Repeat(good, 100_000):                  0,
		strings.Repeat("\x05\x00\x01\x90", 100) + good: 101,
	} {
		require.NoError(t, c.HSet(t.Context(), key, "t", series).Err())
		found, err := b.Tallies(t.Context(), []string{"q"}, hour, hour.Add(time.Hour))
		require.NoError(t, err)
		require.Len(t, found, want, "%.40q", series)
		if series == good {
			require.Equal(t, []broker.Tally{{Queue: "q", Task: "t", Minute: minute(5), Succeeded: 7}}, found)
		}
		if len(series) > 1000 {
			continue
		}
		// What cannot be read is replaced once more is counted in the same minute.
		more := []broker.Tally{tallyOf("q", "t", minute(5), 1), tallyOf("q", "t", minute(6), 2), tallyOf("q", "t", minute(6), 1)}
		require.NoError(t, b.AddTallies(t.Context(), more), "%.40q", series)
		found, err = b.Tallies(t.Context(), []string{"q"}, minute(6), minute(7))
		require.NoError(t, err)
		require.NotEmpty(t, found, "%.40q", series)
		require.Equal(t, tallyOf("q", "t", minute(6), 3).Times, found[len(found)-1].Times, "%.40q", series)
	}

	// A key of another type is renamed.
	require.NoError(t, c.Del(t.Context(), key).Err())
	require.NoError(t, c.Set(t.Context(), key, "x", 0).Err())
	_, err := b.Tallies(t.Context(), []string{"q"}, hour, hour.Add(time.Hour))
	require.ErrorContains(t, err, key)
	require.NoError(t, b.AddTallies(t.Context(), []broker.Tally{tallyOf("q", "t", minute(1), 1)}))
	found, err := b.Tallies(t.Context(), []string{"q"}, hour, hour.Add(time.Hour))
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.NotEmpty(t, b.Damaged())
}

// TestTalliesExpire adds tallies of hours that are kept for as long as is left of three days, and of
// one that is not.
func TestTalliesExpire(t *testing.T) {
	t.Parallel()
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	now := time.Now().UTC().Truncate(time.Minute)
	old, gone := now.Add(-broker.TalliesKept), now.Add(-broker.TalliesKept-time.Hour)
	require.NoError(t, b.AddTallies(t.Context(), []broker.Tally{
		tallyOf("q", "t", now, 1), tallyOf("q", "t", old, 2), tallyOf("q", "t", gone, 3), tallyOf("other", "t", now, 4),
	}))
	for at, want := range map[time.Time]bool{now: true, old: true, gone: false} {
		left := c.PTTL(t.Context(), tallyKey(t, "q", at)).Val()
		ends := at.Truncate(time.Hour).Add(time.Hour + broker.TalliesKept)
		if want {
			require.WithinDuration(t, ends, time.Now().Add(left), time.Minute)
		} else {
			require.Negative(t, left)
		}
	}
	found, err := b.Tallies(t.Context(), []string{"q", "q", "unused"}, time.Time{}, time.Unix(1<<40, 0))
	require.NoError(t, err)
	require.Equal(t, []broker.Tally{tallyOf("q", "t", old, 2), tallyOf("q", "t", now, 1)}, found)
}

// TestTalliesOfAWrongClockAreNotKeptForYears adds some of a day ahead, and some of a year ahead.
func TestTalliesOfAWrongClockAreNotKeptForYears(t *testing.T) {
	t.Parallel()
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	day, year := time.Now().Add(24*time.Hour), time.Now().Add(365*24*time.Hour)
	require.NoError(t, b.AddTallies(t.Context(), []broker.Tally{tallyOf("q", "t", day, 1), tallyOf("q", "t", year, 1)}))
	require.EqualValues(t, 1, c.Exists(t.Context(), tallyKey(t, "q", day)).Val())
	require.Zero(t, c.Exists(t.Context(), tallyKey(t, "q", year)).Val())
}

// TestTalliesOfManyTasks reads more tasks in an hour than one command does, and more hours than one
// pipeline.
func TestTalliesOfManyTasks(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	now := time.Now().UTC().Truncate(time.Hour)
	var added []broker.Tally
	for i := range 1200 {
		added = append(added, tallyOf("q", "task-"+strconv.Itoa(i), now, 1))
	}
	for hour := range 5 {
		for i := range 200 {
			added = append(added, tallyOf("other", "task-"+strconv.Itoa(i), now.Add(-time.Duration(hour)*time.Hour), 1))
		}
	}
	require.NoError(t, b.AddTallies(t.Context(), added))
	found, err := b.Tallies(t.Context(), []string{"q", "other"}, now.Add(-24*time.Hour), now.Add(time.Minute))
	require.NoError(t, err)
	require.ElementsMatch(t, added, found)
}
