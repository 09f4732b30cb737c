package worker

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/taskgen/taskgen/broker"
)

const (
	deadAgeEvery   = time.Hour
	deadAgeTimeout = time.Minute // of one queue
	deadAgePage    = 10_000      // dead letters of a queue that are read each time
)

// deadAgeLoop deletes dead letters that are older than DeadAge, at the start and every
// hour, until ctx ends. Any number of workers may do so at once.
func (w *Worker) deadAgeLoop(ctx context.Context) {
	records, ok := w.broker.(broker.Records)
	controls, operable := w.broker.(broker.Controls)
	if !ok || !operable {
		w.logger.Warn("this broker keeps dead letters as long as it likes: it has no broker.Controls")
		return
	}
	for ctx.Err() == nil {
		for _, queue := range w.queues.names() {
			if n, err := w.deleteOld(ctx, records, controls, queue); err != nil && ctx.Err() == nil {
				w.logger.Warn("cannot delete old dead letters, trying again in an hour", "queue", queue, "error", err)
			} else if n > 0 {
				w.logger.Info("deleted old dead letters", "queue", queue, "letters", n, "older_than", w.cfg.DeadAge)
			}
		}
		timer := time.NewTimer(deadAgeEvery - rand.N(deadAgeEvery/10))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// deleteOld deletes the old dead letters of a queue, and returns their number.
func (w *Worker) deleteOld(ctx context.Context, records broker.Records, controls broker.Controls, queue string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, deadAgeTimeout)
	defer cancel()
	letters, err := records.DeadLetters(ctx, queue, deadAgePage)
	if err != nil {
		return 0, err
	}
	kept := make(map[string]bool) // several letters can have one id
	oldest := time.Now().Add(-w.cfg.DeadAge)
	var ids []string
	for _, letter := range letters {
		if letter.At.After(oldest) || letter.At.IsZero() { // its age is not known
			kept[letter.ID] = true
		} else if !kept[letter.ID] {
			ids = append(ids, letter.ID)
		}
	}
	if len(ids) == 0 {
		return 0, nil
	}
	return controls.DeleteDead(ctx, queue, ids...)
}
