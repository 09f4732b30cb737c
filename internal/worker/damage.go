package worker

import (
	"log/slog"

	"github.com/taskgen/taskgen/broker/maintenance"
)

// logDamaged logs what the broker found broken.
func (w *Worker) logDamaged() {
	damages, ok := w.broker.(maintenance.Damages)
	if !ok {
		return
	}
	for _, d := range damages.Damaged() {
		switch {
		case d.Run != nil:
			w.LogSampled(slog.LevelWarn, "run is a dead letter: what is stored of it cannot be read", d.Run, "error", d.Why)
		case d.Trimmed > 0:
			w.logger.Warn("dead letters were trimmed, the oldest first: the queue keeps no more", "queue", d.Queue, "trimmed", d.Trimmed)
		case d.Moved != "":
			w.logger.Warn("key of the broker was broken: it is put aside, and the queue goes on without what was in it",
				"queue", d.Queue, "key", d.Key, "now", d.Moved, "error", d.Why)
		default:
			w.logger.Warn("key of the broker was broken: it is corrected", "queue", d.Queue, "key", d.Key, "error", d.Why)
		}
		if d.More > 0 {
			w.logger.Warn("more was found broken in what the broker stores", "more", d.More)
		}
	}
}
