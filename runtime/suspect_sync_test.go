package runtime_test

import (
	"context"
	"log/slog"
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

// deadly is a broker whose runs of the priority high have been in the hands of
// consumers that died, so often that once more buries them.
type deadly struct {
	*memory.Broker
	cleared bool // the runs were let go on beside others before the last death
}

type deadlySession struct{ broker.Session }

// clearedSession knows that its runs were cleared.
type clearedSession struct{ deadlySession }

func (d *deadly) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	s, err := d.Broker.OpenSession(ctx, lease)
	if d.cleared {
		return &clearedSession{deadlySession{s}}, err
	}
	return &deadlySession{s}, err
}

func (*clearedSession) Begin(context.Context, *broker.TaskRun) (bool, error) { return true, nil }
func (*clearedSession) Suspect(*broker.TaskRun) (suspect, cleared bool)      { return true, true }
func (*clearedSession) Clear(context.Context, *broker.TaskRun) error         { return nil }

func (s *deadlySession) Take(ctx context.Context, want broker.Want) ([]*broker.TaskRun, error) {
	runs, err := s.Session.Take(ctx, want)
	for _, run := range runs {
		if run.Priority == broker.High {
			run.Deliveries += 2
		}
	}
	return runs, err
}

func (s *deadlySession) Start(ctx context.Context, run *broker.TaskRun) (held bool, err error) {
	return s.Session.(broker.Starter).Start(ctx, run)
}

// TestNoRunStartsOnceItsConsumerStops has runs wait, for one that is tried alone and
// to be tried, as their consumer stops.
func TestNoRunStartsOnceItsConsumerStops(t *testing.T) {
	for name, suspectFirst := range map[string]bool{"behind a trial": true, "to be tried": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &deadly{Broker: newMemory(t)}
				var mu sync.Mutex
				var started []string
				end := make(chan struct{})
				var log syncBuffer
				stop := consume(t, b, taskrt.ConsumerConfig{Concurrency: 3, Logger: slog.New(slog.NewTextHandler(&log, nil)), Grace: time.Minute, Queues: map[string]int{"q": 1}},
					tasks.Tasks(new(journal).recorder(func(_ context.Context, _ *taskrt.Run, note string) error {
						mu.Lock()
						started = append(started, note)
						mu.Unlock()
						<-end
						return nil
					})))
				ctx := clientContext(context.Background(), b)
				suspect := func() {
					_, err := tasks.QueueRecorderRecord(ctx, "suspect", taskrt.OnQueue("q"), taskrt.WithPriority(taskrt.High))
					require.NoError(t, err)
					synctest.Wait()
				}
				other := func() error {
					_, err := tasks.QueueRecorderWaiting(ctx, "other", 1, taskrt.OnQueue("q"))
					synctest.Wait()
					return err
				}
				want := "suspect"
				if suspectFirst {
					suspect()
					require.NoError(t, other())
				} else {
					want = "other"
					require.NoError(t, other())
					suspect()
				}
				go func() {
					time.Sleep(30 * time.Second)
					close(end)
				}()
				stop()
				require.Equal(t, []string{want}, slices.Clone(started))
				lengths, err := b.QueueLength(ctx)
				require.NoError(t, err)
				require.EqualValues(t, 1, lengths["q"])
				require.Contains(t, log.String(), `msg="stopped executing tasks" given_back_unstarted=1`)
				if suspectFirst {
					require.ErrorIs(t, other(), taskrt.ErrDuplicate, "its key is still held")
				}
			})
		})
	}
}

// TestALongTrialHoldsUpNobodyElsesRuns has a slow run that was cleared before its
// process died, in a consumer beside which there is another one for a while.
func TestALongTrialHoldsUpNobodyElsesRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &deadly{Broker: newMemory(t), cleared: true}
		var log syncBuffer
		var j journal
		set := tasks.Tasks(j.recorder(func(_ context.Context, _ *taskrt.Run, note string) error {
			if note == "suspect" {
				time.Sleep(25 * time.Second)
			}
			return nil
		}))
		consume(t, b, taskrt.ConsumerConfig{Concurrency: 4, Logger: slog.New(slog.NewTextHandler(&log, nil))}, set)
		ctx := clientContext(context.Background(), b)
		suspect, err := tasks.QueueRecorderRecord(ctx, "suspect", taskrt.WithPriority(taskrt.High))
		require.NoError(t, err)
		synctest.Wait()
		start := time.Now()
		queue := func() {
			_, err := tasks.QueueRecorderRecordBatch(ctx, make([]tasks.RecorderRecordParams, 8))
			require.NoError(t, err)
			synctest.Wait()
		}
		queue()
		require.Regexp(t, "msg=.a run that may have ended consumers is tried alone.*run="+suspect.ID+" for_at_most=15s", log.String())
		require.Len(t, j.all(), 1)
		stopOther := consume(t, b.Broker, taskrt.ConsumerConfig{}, set)
		synctest.Wait()
		require.Len(t, j.all(), 9, "another consumer has those that the first gave back")
		require.NoError(t, stopOther())
		queue()
		require.Len(t, j.all(), 9)
		time.Sleep(time.Minute)
		entries := j.all()
		require.Len(t, entries, 17)
		require.Equal(t, 15*time.Second, entries[9].at.Sub(start), "the first takes them once the trial is over")
	})
}
