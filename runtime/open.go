package runtime

import (
	"context"
	"fmt"
	"net/url"
	"os"
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
//	                                     redis+cluster: and redis+sentinel: as redis.Open says
//
// An empty URL means the one in the environment variable TASKGEN_BROKER, and
// memory: if that is empty too. Brokers are also io.Closers: close one when
// everything that uses it has stopped.
func Open(ctx context.Context, rawURL string) (broker.Broker, error) {
	rawURL = brokerURL(rawURL)
	scheme, _, found := strings.Cut(rawURL, ":")
	switch {
	case found && scheme == memoryScheme:
		return memory.New(), nil
	case found && (strings.HasPrefix(scheme, "redis") || scheme == "unix"):
		b, err := redis.Open(ctx, rawURL, redis.Config{})
		if err != nil {
			return nil, err // not b: a nil *redis.Broker would be a broker
		}
		return b, nil
	}
	return nil, fmt.Errorf("open broker %q: unknown scheme; use a memory:, redis:, rediss: or unix: URL", redact(rawURL))
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

// redact takes the password out of a URL; what is no URL is not shown.
func redact(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "…"
	}
	return u.Redacted()
}
