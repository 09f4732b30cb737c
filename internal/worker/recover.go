package worker

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// careEvery is how often a worker looks for runs of dead consumers, and for something
// to audit.
const careEvery = time.Second

// recoverLoop gives back what dead consumers of the same queues hold, until ctx ends.
// Any number of workers may do so at once.
func (w *Worker) recoverLoop(ctx context.Context) {
	leaser, ok := w.broker.(broker.Leaser)
	if !ok {
		return
	}
	for {
		// Jitter keeps consumers apart that started together.
		timer := time.NewTimer(careEvery/2 + rand.N(careEvery))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		began := time.Now()
		recovered, err := leaser.Recover(ctx, w.queues.names())
		w.count.operations[opRecover].observe(began, err)
		w.count.recovered.Add(int64(recovered.Runs))
		w.notifySkipped(recovered.Skipped)
		w.logDamaged()
		if recovered.Runs > 0 {
			w.logger.Warn("recovered runs of a consumer that stopped renewing its lease", "runs", recovered.Runs)
		}
		if err != nil && ctx.Err() == nil {
			w.logger.Warn("cannot look for runs of dead consumers, trying again", "error", err)
		}
	}
}

// notifySkipped logs follow-ups that the broker has skipped as duplicates, and notifies the
// executor.
func (w *Worker) notifySkipped(skipped []broker.SkippedDuplicate) {
	for _, d := range skipped {
		w.countUnstarted(d.Run, broker.Dropped)
		w.LogSampled(slog.LevelWarn, "run left out: it was to follow another, and one with its id or parameters lives", d.Run, "after", d.Run.ParentID, "live", d.LiveID)
	}
	if len(skipped) > 0 {
		w.exec.Skipped(skipped...)
	}
}
