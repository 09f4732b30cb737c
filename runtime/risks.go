package runtime

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// risksEvery is the mean time between two questions for a server's risks: the server's
// configuration can change while it runs.
const risksEvery = 20 * time.Second

// WatchRisks logs each risk of the broker's server that appears after the call, see
// [broker.RiskReporter], and logs when a risk has gone. It does not log that the server
// cannot be reached. It blocks until ctx ends. If the broker is no RiskReporter, it
// returns at once.
//
// [Consumer.Run] does the same. Call WatchRisks in a process that has only a scheduler.
func WatchRisks(ctx context.Context, b broker.Broker, logger *slog.Logger) {
	watchRisks(ctx, b, risksEvery, logger)
}

func watchRisks(ctx context.Context, b broker.Broker, every time.Duration, logger *slog.Logger) {
	server, ok := b.(broker.RiskReporter)
	if !ok {
		return
	}
	var known []string
	for first := true; ; {
		asking, cancel := context.WithTimeout(ctx, risksEvery)
		now, err := server.Risks(asking, false)
		cancel()
		if err == nil {
			if !first {
				logRisks(logger, known, now)
			}
			known, first = now.Found, false
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

// logRisks logs the risks that have appeared, and those that have gone.
func logRisks(logger *slog.Logger, before []string, now broker.Risks) {
	for _, risk := range now.Found {
		if !slices.Contains(before, risk) {
			logger.Warn("the server's configuration or state has changed: "+risk, "server", now.Server, "durability", now.Summary)
		}
	}
	for _, risk := range before {
		if !slices.Contains(now.Found, risk) {
			logger.Info("no longer so: "+risk, "server", now.Server, "durability", now.Summary)
		}
	}
}
