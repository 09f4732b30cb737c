package runtime

import (
	"context"
	"time"

	"github.com/taskgen/taskgen/broker/maintenance"
)

// auditLoop mends what nobody works on in the consumer's queues, until ctx ends. The
// broker sees to it that this costs little, however many consumers do so.
func (c *Consumer) auditLoop(ctx context.Context) {
	auditor, ok := c.broker.(maintenance.Auditor)
	if !ok {
		return
	}
	ticker := time.NewTicker(recoverEvery)
	defer ticker.Stop()
	said := map[string]bool{} // errors
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		queue, report, err := auditor.AuditNext(ctx, c.queues.names())
		for _, f := range report.Findings() {
			c.logger.Warn("an audit found "+f.Fault+": "+f.Cure, "queue", queue, "finding", f.Name, "count", f.Count)
		}
		if err != nil && ctx.Err() == nil && !said[err.Error()] && len(said) < maxAuditErrors {
			said[err.Error()] = true
			c.logger.Warn("cannot audit, trying again later", "queue", queue, "error", err)
		}
	}
}

// maxAuditErrors is how many different errors of audits a consumer logs.
const maxAuditErrors = 20
