package runtime_test

import (
	"context"
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
type deadly struct{ *memory.Broker }

type deadlySession struct{ broker.Session }

func (d *deadly) Join(ctx context.Context, lease time.Duration) (broker.Session, error) {
	s, err := d.Broker.Join(ctx, lease)
	return &deadlySession{s}, err
}

func (s *deadlySession) Take(ctx context.Context, want broker.Want) ([]*broker.TaskRun, error) {
	runs, err := s.Session.Take(ctx, want)
	for _, run := range runs {
		if run.Priority == broker.High {
			run.Deliveries += 2
		}
	}
	return runs, err
}

// TestNoRunStartsOnceItsConsumerStops has runs wait, for one that is tried alone and
// to be tried, as their consumer stops.
func TestNoRunStartsOnceItsConsumerStops(t *testing.T) {
	for name, suspectFirst := range map[string]bool{"behind a trial": true, "to be tried": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &deadly{newMemory(t)}
				var mu sync.Mutex
				var started []string
				end := make(chan struct{})
				stop := consume(t, b, taskrt.ConsumerConfig{Concurrency: 3, Grace: time.Minute, Queues: map[string]int{"q": 1}},
					tasks.Tasks(new(journal).recorder(func(_ context.Context, _ *taskrt.Run, note string) error {
						mu.Lock()
						started = append(started, note)
						mu.Unlock()
						<-end
						return nil
					})))
				ctx := clientContext(context.Background(), b)
				queue := func(note string, options ...taskrt.QueueOption) {
					_, err := tasks.QueueRecorderRecord(ctx, note, append(options, taskrt.OnQueue("q"))...)
					require.NoError(t, err)
					synctest.Wait()
				}
				suspect := func() { queue("suspect", taskrt.WithPriority(taskrt.High)) }
				want := "suspect"
				if suspectFirst {
					suspect()
					queue("other")
				} else {
					want = "other"
					queue("other")
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
			})
		})
	}
}
