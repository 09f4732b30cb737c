package runtime

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis"
)

// durabilityEvery is how often it is looked whether a server still keeps what it
// accepts: its configuration can be changed while it runs.
const durabilityEvery = 20 * time.Second

// graded is a broker whose server can become less safe.
type graded interface {
	DurabilityByInfo(ctx context.Context) (redis.Durability, error)
}

// watchDurability logs once when the broker's server becomes less safe than it was,
// and once when it is as safe as before, until ctx ends. Not to reach the server is
// for others to report. It starts with what is so at the call, of which it logs
// nothing.
func watchDurability(ctx context.Context, b broker.Broker, every time.Duration, logger *slog.Logger) {
	server, ok := b.(graded)
	if !ok {
		return
	}
	var known []string
	for first := true; ; {
		asking, cancel := context.WithTimeout(ctx, durabilityEvery)
		d, err := server.DurabilityByInfo(asking)
		cancel()
		if err == nil {
			now := risks(d)
			if !first {
				logRisks(logger, known, now, d)
			}
			known, first = now, false
		}
		timer := time.NewTimer(every/2 + rand.N(every/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// logRisks logs which risks have come, and which have gone.
func logRisks(logger *slog.Logger, before, now []string, d redis.Durability) {
	for _, risk := range now {
		if !slices.Contains(before, risk) {
			logger.Warn("the server's configuration or state has changed: "+risk, "server", d.Server, "durability", d.String())
		}
	}
	for _, risk := range before {
		if !slices.Contains(now, risk) {
			logger.Info("no longer so: "+risk, "server", d.Server, "durability", d.String())
		}
	}
}
