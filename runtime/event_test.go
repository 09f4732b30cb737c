package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// eventLog is what OnEvent was called with.
type eventLog struct {
	mu     sync.Mutex
	events []taskrt.Event
}

func (l *eventLog) add(e taskrt.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// of returns the events of a kind, of all if it is empty.
func (l *eventLog) of(kind taskrt.EventKind) []taskrt.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.events), func(e taskrt.Event) bool { return kind != "" && e.Kind != kind })
}

// TestWhatWasRecordedIsReportedWithItsTimes has a run fail once, snooze, and succeed, each after
// a while, and looks at what is known of it at each end.
func TestWhatWasRecordedIsReportedWithItsTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var log eventLog
		snoozed := false
		consume(t, b, taskrt.ConsumerConfig{
			OnEvent: log.add,
			Retry:   func(*taskrt.Run, error) (time.Duration, bool) { return time.Minute, true },
		}, tasks.Tasks(new(journal).recorder(func(_ context.Context, run *taskrt.Run, _ string) error {
			switch {
			case run.Attempt == 1:
				time.Sleep(3 * time.Second)
				return errors.New("no luck")
			case !snoozed:
				snoozed = true
				return taskrt.Snooze(time.Hour)
			}
			time.Sleep(5 * time.Second)
			return nil
		})))
		queued := time.Now()
		h, err := tasks.QueueRecorderRecord(clientContext(t.Context(), b), "x", taskrt.Keep(time.Minute), taskrt.Delay(10*time.Second))
		require.NoError(t, err)
		_, err = h.Wait(t.Context())
		require.NoError(t, err)
		synctest.Wait()

		type seen struct {
			kind, outcome taskrt.EventKind
			attempt       int
			took, wait    time.Duration
		}
		var got []seen
		for _, e := range log.of("") {
			require.Equal(t, h.ID, e.Run.ID)
			got = append(got, seen{e.Kind, e.Outcome, e.Run.Attempt, e.Took, e.Wait})
		}
		require.Equal(t, []seen{
			{taskrt.RunStarted, taskrt.RunStarted, 1, 0, 0},
			{taskrt.RunRetried, taskrt.RunRetried, 1, 3 * time.Second, time.Minute},
			{taskrt.RunRecorded, taskrt.RunRetried, 1, 3 * time.Second, time.Minute},
			{taskrt.RunStarted, taskrt.RunStarted, 2, 0, 0},
			{taskrt.RunReturned, taskrt.RunReturned, 2, 0, time.Hour},
			{taskrt.RunRecorded, taskrt.RunReturned, 2, 0, time.Hour},
			{taskrt.RunStarted, taskrt.RunStarted, 2, 0, 0},
			{taskrt.RunSucceeded, taskrt.RunSucceeded, 2, 5 * time.Second, 0},
			{taskrt.RunRecorded, taskrt.RunSucceeded, 2, 5 * time.Second, 0},
		}, got)
		recorded := log.of(taskrt.RunRecorded)
		require.Equal(t, "no luck", recorded[0].Err.Message)
		require.Nil(t, recorded[2].Err)
		require.Less(t, recorded[0].Waited, time.Second, "from the end of its delay")
		require.Zero(t, recorded[0].Total, "it has not ended")
		last := recorded[2]
		require.WithinDuration(t, queued.Add(10*time.Second+3*time.Second+time.Minute+time.Hour), last.Began, 2*time.Second)
		require.Equal(t, last.Began.Add(last.Took).Sub(queued).Round(time.Second), last.Total.Round(time.Second))
	})
}

// fencer is a broker that refuses all outcomes.
type fencer struct{ *memory.Broker }

type fencingSession struct{ broker.Session }

func (b fencer) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	s, err := b.Broker.OpenSession(ctx, lease)
	return fencingSession{s}, err
}

func (s fencingSession) Finish(_ context.Context, outcomes ...broker.Outcome) (done broker.Finished, err error) {
	for _, o := range outcomes {
		done.Fenced = append(done.Fenced, o.Run)
	}
	return done, nil
}

func TestARefusedOutcomeIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := fencer{newMemory(t)}
		var log eventLog
		c, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{OnEvent: log.add, Logger: quiet}, tasks.Tasks(new(journal).recorder(nil)))
		require.NoError(t, err)
		start(t, c.Run)
		h, err := tasks.QueueRecorderRecord(clientContext(t.Context(), b), "x")
		require.NoError(t, err)
		synctest.Wait()
		require.Empty(t, log.of(taskrt.RunRecorded))
		fenced := log.of(taskrt.RunFenced)
		require.Len(t, fenced, 1)
		require.Equal(t, h.ID, fenced[0].Run.ID)
		require.Equal(t, taskrt.RunSucceeded, fenced[0].Outcome)
		require.EqualValues(t, 1, c.Stats().Fenced)
	})
}

// TestEventsCallsAllFunctions has the first of three panic.
func TestEventsCallsAllFunctions(t *testing.T) {
	require.Nil(t, taskrt.Events(), "OnEvent that is nil costs nothing")
	require.Nil(t, taskrt.Events(nil, nil))
	var called []string
	on := taskrt.Events(
		func(e taskrt.Event) { called = append(called, "a "+string(e.Kind)); panic("a") },
		nil,
		func(e taskrt.Event) { called = append(called, "b "+string(e.Kind)) },
	)
	require.PanicsWithValue(t, "a", func() { on(taskrt.Event{Kind: taskrt.RunStarted}) })
	require.Equal(t, []string{"a started", "b started"}, called)
}

// TestASlowOnEventHoldsUpNoOutcome has OnEvent block at the first outcome that was recorded,
// while more are than may wait.
func TestASlowOnEventHoldsUpNoOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const runs, waiting = 11_001, 10_000
		b := newMemory(t)
		release := make(chan struct{})
		recorded := 0
		c, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{Concurrency: 1, Logger: quiet, OnEvent: func(e taskrt.Event) {
			if e.Kind == taskrt.RunRecorded {
				<-release
				recorded++
			}
		}}, tasks.Tasks(new(journal).recorder(nil)))
		require.NoError(t, err)
		start(t, c.Run)
		ctx := clientContext(t.Context(), b)
		first, err := tasks.QueueRecorderRecord(ctx, "first", taskrt.Keep(time.Hour))
		require.NoError(t, err)
		_, err = first.Wait(ctx)
		require.NoError(t, err)
		synctest.Wait()
		_, err = tasks.QueueRecorderRecordBatch(ctx, make([]tasks.RecorderRecordParams, runs-1))
		require.NoError(t, err)
		synctest.Wait()
		lengths, err := b.QueueLength(ctx)
		require.NoError(t, err)
		require.Zero(t, lengths["default"], fmt.Sprint("all runs have ended: ", lengths))
		require.EqualValues(t, runs-1-waiting, c.Stats().EventsLost)
		close(release)
		synctest.Wait()
		require.Equal(t, waiting+1, recorded)
	})
}
