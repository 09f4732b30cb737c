package brokertest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var duplicateChecks = []check{
	{"a batch with the id of a live run stores nothing", duplicateInBatch},
	{"a batch with one own id twice stores nothing", duplicateWithinBatch},
	{"an own id is a duplicate while its run waits and free once it is gone", duplicateUntilTaken},
	{"of many producers of one own id one is accepted", duplicateRace},
}

func (f *fixture) queueDuplicate(what string, runs ...*broker.TaskRun) {
	f.Helper()
	require.ErrorIs(f, f.b.QueueTasks(f.ctx(), runs...), broker.ErrDuplicate, "QueueTasks with the own id of a run that is %s", what)
}

func duplicateInBatch(f *fixture) {
	f.queue(f.newRun("q", ownID("order-5")))
	var batch []*broker.TaskRun
	for i := range 10 {
		batch = append(batch, f.newRun("q", ownID(fmt.Sprintf("order-%d", i))))
	}
	f.queueDuplicate("queued", batch...)
	require.Equal(f, 1, f.length("q"), "length of the queue after a batch with a duplicate in its middle")
	// No id of the refused batch may have been claimed.
	f.queue(append(batch[:5:5], batch[6:]...)...)
	require.Len(f, f.get(10, "q"), 10)
	f.nothing("q")
}

func duplicateWithinBatch(f *fixture) {
	f.queueDuplicate("in the same batch",
		f.newRun("q"), f.newRun("q", ownID("twice")), f.newRun("q", ownID("once")), f.newRun("q", ownID("twice")))
	require.Zero(f, f.length("q"), "length of the queue after a batch with an id twice")
	f.queue(f.newRun("q", ownID("once")), f.newRun("q", ownID("twice")))
	require.Len(f, f.get(2, "q"), 2)
}

func duplicateUntilTaken(f *fixture) {
	f.queue(f.newRun("q", ownID("now")))
	f.queueDuplicate("queued", f.newRun("q", ownID("now")))
	f.queue(f.newRun("q", ownID("later"), delay(2*quiet)))
	f.queueDuplicate("delayed", f.newRun("q", ownID("later")))
	// What GetTaskRuns took is no longer the broker's, so the ids are free.
	require.ElementsMatch(f, []string{"now", "later"}, ids(f.get(2, "q")), "runs taken")
	f.queue(f.newRun("q", ownID("now")), f.newRun("q", ownID("later")))
	require.Equal(f, 2, f.length("q"), "length after both ids were used again")
}

func duplicateRace(f *fixture) {
	const rounds, racers = 10, 32
	for round := range rounds {
		var accepted atomic.Int32
		id := fmt.Sprintf("order-%d", round)
		f.each(racers, func(int) error {
			err := f.b.QueueTasks(f.ctx(), f.newRun("q", ownID(id), delay(time.Hour)))
			if err == nil {
				accepted.Add(1)
			} else if !errors.Is(err, broker.ErrDuplicate) {
				return err
			}
			return nil
		})
		require.EqualValues(f, 1, accepted.Load(), "accepted of %d producers of id %s", racers, id)
	}
	require.Equal(f, rounds, f.length("q"), "length after the races")
}
