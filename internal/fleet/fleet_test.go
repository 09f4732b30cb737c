package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/internal/fleet"
)

// counting is a broker that counts how often its instances are read, and that can be away.
type counting struct {
	*memory.Broker
	reads     atomic.Int64
	hangs     bool
	away      error
	instances []*broker.Instance
}

func (c *counting) Instances(ctx context.Context) ([]*broker.Instance, error) {
	c.reads.Add(1)
	if c.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return c.instances, c.away
}

func (*counting) Announce(context.Context, *broker.Instance) error { return nil }
func (*counting) Withdraw(context.Context, string) error           { return nil }

func newBroker(t *testing.T) *counting {
	b := memory.New()
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return &counting{Broker: b}
}

// TestAFleetIsReadOnceASecond has many ask at once, and later.
func TestAFleetIsReadOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		r := fleet.NewReader(b, "mine")
		run := &broker.TaskRun{ID: "1", Task: "t", Queue: "theirs", Payload: []byte{0x80}, QueuedAt: time.Now()}
		require.NoError(t, b.QueueTasks(t.Context(), run))
		for range 100 {
			go r.Read(t.Context())
		}
		f := r.Read(t.Context())
		require.NoError(t, f.Err)
		require.Len(t, f.Queues, 2)
		require.Equal(t, "mine", f.Queues[0].Queue)
		require.EqualValues(t, 1, f.Queues[1].Queued)
		synctest.Wait()
		require.EqualValues(t, 1, b.reads.Load())
		time.Sleep(999 * time.Millisecond)
		require.Same(t, f, r.Read(t.Context()))
		time.Sleep(time.Millisecond)
		require.NotSame(t, f, r.Read(t.Context()))
		require.EqualValues(t, 2, b.reads.Load())
	})
}

// TestABrokerThatIsAwayIsAnError has one that refuses and one that hangs.
func TestABrokerThatIsAwayIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.away = errors.New("away")
		r := fleet.NewReader(b)
		f := r.Read(t.Context())
		require.ErrorContains(t, f.Err, "list instances: away")
		require.Empty(t, f.Queues)
		b.away, b.hangs = nil, true
		time.Sleep(time.Second)
		began := time.Now()
		f = r.Read(t.Context())
		require.ErrorIs(t, f.Err, context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(began))
		b.hangs = false
		time.Sleep(time.Second)
		require.NoError(t, r.Read(t.Context()).Err)
	})
}

// oddQueue is a broker of which one queue cannot be read in full.
type oddQueue struct {
	*memory.Broker
	odd string
}

func (o *oddQueue) Queue(ctx context.Context, queue string) (*broker.QueueInfo, error) {
	info, err := o.Broker.Queue(ctx, queue)
	if queue == o.odd {
		err = errors.New("a key is of a wrong type")
	}
	return info, err
}

// TestAQueueThatCannotBeReadLeavesOthersKnown has one, and then
// a broker whose instances cannot be read.
func TestAQueueThatCannotBeReadLeavesOthersKnown(t *testing.T) {
	b := newBroker(t)
	f := fleet.NewReader(&oddQueue{b.Broker, "odd"}, "fine", "odd").Read(t.Context())
	require.ErrorContains(t, f.Err, "a key is of a wrong type")
	require.True(t, f.Knows("fine"))
	require.False(t, f.Knows("odd"))
	require.True(t, f.Replied())
	b.away = errors.New("away")
	f = fleet.NewReader(b, "fine").Read(t.Context())
	require.False(t, f.Knows("fine"))
	require.False(t, f.Replied())
	b.away = nil
	require.True(t, fleet.NewReader(b, "fine").Read(t.Context()).Knows("fine"))
}

// slowQueue is a broker that takes its time for each queue.
type slowQueue struct{ *memory.Broker }

func (s slowQueue) Queue(ctx context.Context, queue string) (*broker.QueueInfo, error) {
	select {
	case <-time.After(20 * time.Millisecond):
		return s.Broker.Queue(ctx, queue)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestManyQueuesAreReadInTime has more of them than could be read one after the other.
func TestManyQueuesAreReadInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var names []string
		for i := range 200 {
			names = append(names, fmt.Sprint("q", i))
		}
		f := fleet.NewReader(slowQueue{newBroker(t).Broker}, names...).Read(t.Context())
		require.NoError(t, f.Err)
		require.Len(t, f.Queues, 200)
	})
}

// TestTheOneThatIsScrapedForLongestShowsTheFleet tries who that is.
func TestTheOneThatIsScrapedForLongestShowsTheFleet(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	instance := func(id string, started, seen, scraped time.Duration) *broker.Instance {
		i := &broker.Instance{ID: id, Started: now.Add(-started), Seen: now.Add(-seen), Address: "a:1"}
		if scraped > 0 {
			i.Scraped = now.Add(-scraped)
		}
		return i
	}
	const hour = time.Hour
	for _, c := range []struct {
		want string
		all  []*broker.Instance
	}{
		{"", nil},
		{"", []*broker.Instance{instance("a", hour, 0, 0)}},
		{"b", []*broker.Instance{instance("a", 3*hour, 0, 0), instance("b", hour, 0, 40*time.Minute), instance("c", 2*hour, 0, 30*time.Minute)}},
		{"c", []*broker.Instance{instance("b", 2*hour, 21*time.Second, hour), instance("c", hour, 20*time.Second, time.Minute)}},
		{"a", []*broker.Instance{instance("b", hour, 0, time.Minute), instance("a", hour, 0, time.Minute)}},
	} {
		f := &fleet.Fleet{Time: now, Instances: c.all}
		id := ""
		if by := f.ShownBy(); by != nil {
			id = by.ID
		}
		require.Equal(t, c.want, id, fmt.Sprint(c.all))
	}
}
