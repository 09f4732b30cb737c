package runtime

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// recoverEvery is how often a consumer looks for runs of consumers that died.
const recoverEvery = time.Second

// recoverLoop gives back what dead consumers of the same queues hold, until
// ctx ends. Any number of consumers may do so at once.
func (c *Consumer) recoverLoop(ctx context.Context) {
	leaser, ok := c.broker.(broker.Leaser)
	if !ok {
		return
	}
	for {
		// Jitter keeps consumers that started together apart.
		timer := time.NewTimer(recoverEvery/2 + rand.N(recoverEvery))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		recovered, err := leaser.Recover(ctx, c.queues.names())
		c.reportSkipped(recovered.Skipped...)
		c.tellDamaged()
		if recovered.Runs > 0 {
			c.logger.Warn("recovered runs of a consumer that stopped renewing its lease", "runs", recovered.Runs)
		}
		if err != nil && ctx.Err() == nil {
			c.logger.Warn("cannot look for runs of dead consumers, trying again", "error", err)
		}
	}
}
