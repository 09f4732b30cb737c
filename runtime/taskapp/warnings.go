package taskapp

import (
	"context"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// warnIfUnverified logs a warning if the broker's URL turns off the check of the
// server's certificate.
func warnIfUnverified(rawURL string, logger *slog.Logger) {
	u, err := url.Parse(rawURL)
	if err != nil || !strings.HasPrefix(strings.ToLower(u.Scheme), "rediss") {
		return
	}
	if skip, err := strconv.ParseBool(u.Query().Get("skip_verify")); err == nil && skip {
		logger.Warn("the server's certificate is not checked, so that anybody in between can read and change all runs; leave skip_verify out, and name a file with its authority in SSL_CERT_FILE")
	}
}

// warnOfRisks logs how the broker's server may lose runs that it has accepted. It returns
// a summary of how the server keeps them, "" if that is not known.
func warnOfRisks(ctx context.Context, b broker.Broker, logger *slog.Logger) string {
	reporter, ok := b.(broker.RiskReporter)
	if !ok {
		return ""
	}
	risks, err := reporter.Risks(ctx, true)
	if err != nil {
		logger.Warn("cannot tell how safe the server keeps what it accepts", "error", err)
		return ""
	}
	for _, risk := range risks.Found {
		logger.Warn(risk, "durability", risks.Summary)
	}
	return risks.Summary
}

const (
	// strandedAfter is how long serve waits before it looks for stranded queues: the consumers
	// that a deploy replaces are listed for broker.InstanceKept, and those that start with this
	// one need some time.
	strandedAfter = broker.InstanceKept + 10*time.Second
	// strandedEvery is how often it looks then.
	strandedEvery = 5 * time.Minute
	// strandedLook is how many runs of a queue are looked at for known tasks.
	strandedLook = 100
	// mostStranded is how many queues and tasks a line of the log names.
	mostStranded = 20
)

// watchStranded logs queues that hold runs of the program's tasks and that no consumer
// takes from, until ctx ends. It logs them again once they have changed.
func watchStranded(ctx context.Context, i *taskrt.Inspector, known func(task string) bool, logger *slog.Logger) {
	var logged []string
	for wait := strandedAfter; ; wait = strandedEvery {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		queues, tasks := stranded(ctx, i, known)
		if len(queues) > 0 && !slices.Equal(queues, logged) {
			logger.Warn("no consumer takes from queues that hold runs of this program's tasks; "+
				"write //task:queue with from=, or name the queues in --queues of a consumer",
				"queues", text.List(queues, mostStranded), "tasks", text.List(tasks, mostStranded))
		}
		logged = queues
	}
}

// stranded returns the queues that hold runs of known tasks and that no consumer takes from,
// and these tasks. It returns none if the broker does not know who is up, or cannot be
// reached: status shows why.
func stranded(ctx context.Context, i *taskrt.Inspector, known func(task string) bool) (queues, tasks []string) {
	list, err := i.Queues(ctx)
	if err != nil {
		return nil, nil
	}
	names := map[string]bool{}
	for _, q := range list.Queues {
		if !q.NoConsumer {
			continue
		}
		page, err := i.Runs(ctx, taskrt.RunFilter{Queues: []string{q.Queue}, States: []taskrt.State{broker.StateQueued, broker.StateDelayed}},
			taskrt.PageOptions{Max: strandedLook, Look: strandedLook})
		if err != nil {
			continue
		}
		some := false
		for _, run := range page.Runs {
			if known(run.Run.Task) {
				names[run.Run.Task], some = true, true
			}
		}
		if some {
			queues = append(queues, q.Queue)
		}
	}
	return queues, slices.Sorted(maps.Keys(names))
}
