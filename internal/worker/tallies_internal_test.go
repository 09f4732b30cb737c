package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

// TestCountingARunAllocatesNothing counts runs of one queue, and of two in turns, within a
// minute.
func TestCountingARunAllocatesNothing(t *testing.T) {
	var counts tallyCounts
	now := time.Now().Truncate(time.Minute)
	queues, n := []string{"a", "b"}, 0
	count := func(queue string) {
		tally := counts.at(queue, now)
		tally.count(broker.Succeeded)
		tally.Waits.Observe(time.Duration(n))
		tally.Times.Observe(time.Duration(n) * time.Millisecond)
		n++
	}
	count("a")
	count("b")
	count("a")
	require.Zero(t, testing.AllocsPerRun(100, func() { count("a") }))
	require.Zero(t, testing.AllocsPerRun(100, func() { count(queues[n%2]) }))
	taken := counts.take()
	require.Len(t, taken, 2)
	require.EqualValues(t, n, taken[0].Succeeded+taken[1].Succeeded, "each run is counted once")
	require.Empty(t, counts.take())
}

// TestUnsentTalliesAreMergedAndBounded adds more than are kept, each twice.
func TestUnsentTalliesAreMergedAndBounded(t *testing.T) {
	var unsent unsentTallies
	const more = 5
	for i := range maxUnsentTallies + more {
		queue := fmt.Sprint("queue-", i)
		for range 2 {
			kept := unsent.add(&tally{key: tallyKey{queue: queue}, Tally: broker.Tally{Queue: queue, Dead: 1}})
			require.True(t, kept || i >= maxUnsentTallies)
		}
	}
	require.Len(t, unsent.list, maxUnsentTallies)
	require.Len(t, unsent.byKey, maxUnsentTallies)
	require.Equal(t, fmt.Sprint("queue-", more), unsent.list[0].Queue, "the oldest are gone")
	for _, kept := range unsent.list {
		require.EqualValues(t, 2, kept.Dead)
	}
}

func BenchmarkCountARun(b *testing.B) {
	var counts tallyCounts
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		t := counts.at("default", now)
		t.count(broker.Succeeded)
		t.Waits.Observe(3 * time.Millisecond)
		t.Times.Observe(70 * time.Millisecond)
	}
}

// brokenQueue takes the tallies of all queues but one.
type brokenQueue struct {
	queue string
	taken map[string]int64 // by queue
}

func (b *brokenQueue) AddTallies(_ context.Context, tallies []broker.Tally) (err error) {
	for _, t := range tallies {
		if t.Queue == b.queue {
			err = errors.New("its key is of a wrong type")
			continue
		}
		b.taken[t.Queue] += t.Succeeded
	}
	return err
}

func (*brokenQueue) Tallies(context.Context, []string, time.Time, time.Time) ([]broker.Tally, error) {
	return nil, nil
}

// TestAQueueThatTakesNoTalliesHasOthersCountOnce sends the tallies of three queues again and
// again, of which one fails.
func TestAQueueThatTakesNoTalliesHasOthersCountOnce(t *testing.T) {
	b := &brokenQueue{"b", map[string]int64{}}
	w := &Worker{tallies: b, logger: slog.New(slog.DiscardHandler)}
	for _, queue := range []string{"a", "b", "c"} {
		w.unsent.add(&tally{key: tallyKey{queue: queue}, Tally: broker.Tally{Queue: queue, Succeeded: 1}})
	}
	for range 3 {
		w.sendTallies(t.Context(), time.Minute)
	}
	require.Equal(t, map[string]int64{"a": 1, "c": 1}, b.taken)
	require.Len(t, w.unsent.list, 1)
	require.Len(t, w.unsent.byKey, 1)
	b.queue = ""
	w.sendTallies(t.Context(), time.Minute)
	require.Equal(t, map[string]int64{"a": 1, "b": 1, "c": 1}, b.taken)
	require.Empty(t, w.unsent.list)
}
