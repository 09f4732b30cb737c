package broker_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestMinimal holds a broker with only the three core methods against the core
// of the contract.
func TestMinimal(t *testing.T) {
	brokertest.Run(t, func(*testing.T) broker.Broker {
		return &minimal{changed: make(chan struct{})}
	})
}

// minimal is the least a broker can be: stored runs sorted by priority and
// due time, and a channel that is closed whenever there are more.
type minimal struct {
	mu      sync.Mutex
	changed chan struct{}
	waiting []item
}

type item struct {
	key      string // queue and id
	queue    string
	priority broker.Priority
	due      time.Time // zero: at once
	run      []byte
}

func (m *minimal) QueueTasks(_ context.Context, runs ...*broker.TaskRun) error {
	if err := broker.CheckBatch(runs); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	live := make(map[string]bool)
	for _, it := range m.waiting {
		live[it.key] = true
	}
	items := make([]item, 0, len(runs))
	for _, r := range runs {
		if err := r.Validate(); err != nil {
			return fmt.Errorf("queue run %.64q: %w", r.ID, err)
		}
		key := r.Queue + " " + r.ID
		if r.OwnID && live[key] {
			return fmt.Errorf("queue run %s: %w", r.ID, broker.ErrDuplicate)
		}
		live[key] = true
		b, err := r.MarshalBinary()
		if err != nil {
			return fmt.Errorf("queue run %s: %w", r.ID, err)
		}
		due := r.Due
		if r.Delay > 0 {
			due = time.Now().Add(r.Delay)
		}
		items = append(items, item{key, r.Queue, r.Priority, due, b})
	}
	m.waiting = append(m.waiting, items...)
	slices.SortStableFunc(m.waiting, func(a, b item) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), a.due.Compare(b.due))
	})
	close(m.changed)
	m.changed = make(chan struct{})
	return nil
}

func (m *minimal) GetTaskRuns(ctx context.Context, queues []string, max int) ([]*broker.TaskRun, error) {
	for ctx.Err() == nil {
		runs, wait, changed, err := m.take(queues, max)
		if err != nil || len(runs) > 0 {
			return runs, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return nil, ctx.Err()
}

// take removes the due runs. If there are none, it returns the time until the next run is
// due, and a channel that is closed if a run is queued before.
func (m *minimal) take(queues []string, max int) (runs []*broker.TaskRun, wait time.Duration, changed <-chan struct{}, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	wait = time.Minute
	for _, queue := range queues {
		var left []item
		for _, it := range m.waiting {
			soon := time.Until(it.due)
			if it.queue != queue || len(runs) == max || soon > 0 {
				left = append(left, it)
				if it.queue == queue {
					wait = min(wait, soon)
				}
				continue
			}
			r := new(broker.TaskRun)
			if err := r.UnmarshalBinary(it.run); err != nil {
				return nil, 0, nil, err
			}
			runs = append(runs, r)
		}
		m.waiting = left
	}
	return runs, wait, m.changed, nil
}

func (m *minimal) QueueLength(context.Context) (map[string]int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	lengths := make(map[string]int64)
	for _, it := range m.waiting {
		lengths[it.queue]++
	}
	return lengths, nil
}
