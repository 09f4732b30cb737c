package worker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/text"
)

const (
	discoverEvery    = 3 * time.Second  // between two questions which queues the broker has
	discoverLogEvery = 30 * time.Second // failures are logged at most so often
)

// discoverLoop keeps the queues that match a pattern up to date until ctx ends.
func (w *Worker) discoverLoop(ctx context.Context) {
	for ctx.Err() == nil {
		w.discover(ctx)
		timer := time.NewTimer(discoverEvery/2 + rand.N(discoverEvery/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// discover asks the broker for its queues. If the queues to take from change, it ends
// the current fetch, so that the next one asks for the new ones.
func (w *Worker) discover(ctx context.Context) {
	try, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	found, err := w.queueNames(try)
	if now := time.Now(); err != nil && ctx.Err() == nil && now.After(w.discoverLogAt) {
		w.discoverLogAt = now.Add(discoverLogEvery)
		w.logger.Warn("cannot look for queues, or not for all, trying again", "error", err)
	}
	if found == nil {
		return // the known queues stay
	}
	names := w.validNames(found)
	if !w.queues.set(names) {
		return
	}
	w.logger.Debug("the queues that match changed", "queues", len(w.queues.names()))
	w.refetchNow()
}

// queueNames returns the names of the broker's queues, nil if it cannot. If it can name
// some only, there is an error too.
func (w *Worker) queueNames(ctx context.Context) ([]string, error) {
	if namer, ok := w.broker.(maintenance.Namer); ok {
		return namer.QueueNames(ctx)
	}
	lengths, err := w.broker.QueueLength(ctx)
	if lengths == nil {
		return nil, err
	}
	names := make([]string, 0, len(lengths))
	for name := range lengths {
		names = append(names, name)
	}
	return names, err
}

// validNames returns the names that queues can have, sorted. It logs each other name
// once.
func (w *Worker) validNames(found []string) []string {
	names := make([]string, 0, len(found))
	var invalid []string
	for _, name := range found {
		err := (&broker.TaskRun{ID: "-", Task: "-", Queue: name}).Validate()
		switch {
		case err == nil:
			names = append(names, name)
		case !w.invalidNames[name]:
			invalid = append(invalid, fmt.Sprintf("%.64q", name))
			if w.invalidNames == nil {
				w.invalidNames = make(map[string]bool)
			}
			w.invalidNames[name] = true
		}
	}
	slices.Sort(names)
	if len(invalid) > 0 {
		slices.Sort(invalid)
		w.logger.Warn("names that no queue can have are skipped; remove them from the broker", "skipped", len(w.invalidNames), "names", text.List(invalid, mostListed))
	}
	return names
}

// refetchNow ends the current fetch if it waits for runs of some queues only.
func (w *Worker) refetchNow() {
	if cancel := w.refetch.Load(); cancel != nil {
		(*cancel)()
	}
}
