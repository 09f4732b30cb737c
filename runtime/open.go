package runtime

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/redis"
)

// BrokerEnv is the environment variable that names the broker where no URL is
// given.
const BrokerEnv = "TASKGEN_BROKER"

const memoryScheme = "memory"

// Open returns the broker that a URL names, checked to be there:
//
//	memory:                              embedded, gone with the process
//	redis://user:password@host:6379/0    Redis; rediss: with TLS, unix: on a socket,
//	                                     redis+cluster: and redis+sentinel: as redis.Open says;
//	                                     ?prefix=app keeps applications on one database apart,
//	                                     ?acknowledge=replica or fsync has enqueues wait for more,
//	                                     ?durable=required refuses a server without append-only file
//
// An empty URL means the one in the environment variable TASKGEN_BROKER, and
// memory: if that is empty too. Brokers are also io.Closers: close one when
// everything that uses it has stopped.
func Open(ctx context.Context, rawURL string) (broker.Broker, error) {
	return openLogging(ctx, rawURL, nil)
}

// openLogging is Open with a logger for what the broker skips, by default slog's.
func openLogging(ctx context.Context, rawURL string, logger *slog.Logger) (broker.Broker, error) {
	rawURL = brokerURL(rawURL)
	scheme, _, found := strings.Cut(rawURL, ":")
	scheme = strings.ToLower(scheme)
	switch {
	case found && scheme == memoryScheme:
		return memory.New(), nil
	case found && (strings.HasPrefix(scheme, "redis") || scheme == "unix"):
		if logger != nil { // a command, whose process this is
			redis.LogClientLibrary(logger)
		}
		b, err := redis.Open(ctx, rawURL, redis.Config{Logger: logger})
		if err != nil {
			return nil, err // not b: a nil *redis.Broker would be a broker
		}
		return b, nil
	}
	if _, _, err := net.SplitHostPort(rawURL); err == nil && !strings.Contains(rawURL, "/") {
		if at := strings.LastIndexByte(rawURL, '@'); at >= 0 { // before it may be a password
			return nil, fmt.Errorf("open broker: there is no scheme; write redis:// before it, as in redis://:password@%s", rawURL[at+1:])
		}
		return nil, fmt.Errorf("open broker: a host and a port are no URL; write redis://%s", rawURL)
	}
	return nil, fmt.Errorf("open broker %q: unknown scheme; use a memory:, redis:, rediss:, unix:, redis+cluster: or redis+sentinel: URL", redact(rawURL))
}

// grantsOf returns what reports whether a text gives access to a broker, nil if the
// broker cannot.
func grantsOf(b any) func(text string) bool {
	if reached, ok := b.(interface{ ReachedBy(text string) bool }); ok {
		return reached.ReachedBy
	}
	return nil
}

func brokerURL(rawURL string) string {
	if rawURL == "" {
		rawURL = os.Getenv(BrokerEnv)
	}
	if rawURL == "" {
		rawURL = memoryScheme + ":"
	}
	return rawURL
}

// isMemory reports whether a URL names the embedded broker.
func isMemory(rawURL string) bool {
	scheme, _, found := strings.Cut(brokerURL(rawURL), ":")
	return found && strings.EqualFold(scheme, memoryScheme)
}

// redact shows of a URL what cannot hold a secret: scheme, host and path.
func redact(rawURL string) string {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil:
		return "…"
	case u.Opaque != "":
		return u.Scheme + ":…"
	case u.Host == "" && u.Path == "":
		return u.Scheme + ":"
	}
	path := u.Path[strings.LastIndexByte(u.Path, '@')+1:] // without a scheme, a password stands before it
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: path}).String()
}

// warnIfUnverified warns of a broker's URL that has the server's certificate not
// checked.
func warnIfUnverified(rawURL string, logger *slog.Logger) {
	u, err := url.Parse(brokerURL(rawURL))
	if err != nil || !strings.HasPrefix(strings.ToLower(u.Scheme), "rediss") {
		return
	}
	if skip, err := strconv.ParseBool(u.Query().Get("skip_verify")); err == nil && skip {
		logger.Warn("the server's certificate is not checked, so that anybody in between can read and change all runs; leave skip_verify out, and name a file with its authority in SSL_CERT_FILE")
	}
}

// warnIfVolatile says so when the broker's server may lose what it accepts, and
// returns how safe it keeps it, "" if that cannot be told.
func warnIfVolatile(ctx context.Context, b broker.Broker, logger *slog.Logger) string {
	graded, ok := b.(*redis.Broker)
	if !ok {
		return ""
	}
	d, err := graded.Durability(ctx)
	if err != nil {
		logger.Warn("cannot tell how safe the server keeps what it accepts", "error", err)
		return ""
	}
	for _, risk := range risks(d) {
		logger.Warn(risk, "durability", d.String())
	}
	return d.String()
}

// risks returns how the server may lose what it accepts, and what to do about
// each: none when d.Durable.
func risks(d redis.Durability) (risks []string) {
	switch {
	case d.Persistence != redis.AppendOnly:
		risks = append(risks, "the server does not write what it accepts to its disk: a restart of it loses queued runs; set appendonly yes")
	case d.Failing:
		risks = append(risks, "the server cannot write what it accepts to its disk: a restart of it loses queued runs; see its log, and whether its disk is full")
	}
	if d.Eviction != "noeviction" {
		risks = append(risks, "the server may drop queued runs when its memory is full; set maxmemory-policy noeviction")
	}
	return risks
}
