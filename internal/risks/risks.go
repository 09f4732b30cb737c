// Package risks logs what endangers the runs on a broker's server while a program works on it.
package risks

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// Every is the mean time between two questions for a server's risks: the server's
// configuration can change while it runs.
const Every = 20 * time.Second

// Watch logs the risks that appear and go, and asks in this mean time. It blocks until ctx
// ends. If the broker is no [broker.RiskReporter], it returns at once.
func Watch(ctx context.Context, b broker.Broker, every time.Duration, logger *slog.Logger) {
	server, ok := b.(broker.RiskReporter)
	if !ok {
		return
	}
	var known []string
	for first := true; ; {
		asking, cancel := context.WithTimeout(ctx, Every)
		now, err := server.Risks(asking, false)
		cancel()
		if err == nil {
			if !first {
				logChanges(logger, known, now)
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

// logChanges logs the risks that have appeared, and those that have gone.
func logChanges(logger *slog.Logger, before []string, now broker.Risks) {
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
