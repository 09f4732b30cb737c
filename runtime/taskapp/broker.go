package taskapp

import (
	"context"
	"log/slog"
	"net/url"
	"strconv"
	"strings"

	"github.com/taskgen/taskgen/broker"
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
