package worker

import (
	"context"
	"time"

	"github.com/taskgen/taskgen/broker/maintenance"
)

// maxAuditErrors is how many different errors of audits a worker logs.
const maxAuditErrors = 20

// auditLoop repairs what nobody works on in the worker's queues, until ctx ends. The
// broker keeps that cheap, however many workers do so.
func (w *Worker) auditLoop(ctx context.Context) {
	auditor, ok := w.broker.(maintenance.Auditor)
	if !ok {
		return
	}
	ticker := time.NewTicker(careEvery)
	defer ticker.Stop()
	logged := map[string]bool{} // errors
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		queue, report, err := auditor.AuditNext(ctx, w.queues.names())
		for _, f := range report.Findings() {
			w.logger.Warn("an audit found "+f.Fault+": "+f.Cure, "queue", queue, "finding", f.Name, "count", f.Count)
		}
		if err != nil && ctx.Err() == nil && !logged[err.Error()] && len(logged) < maxAuditErrors {
			logged[err.Error()] = true
			w.logger.Warn("cannot audit, trying again later", "queue", queue, "error", err)
		}
	}
}
