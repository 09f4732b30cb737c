// Package brokerurl opens the broker that a URL names.
//
// It knows the embedded broker and Redis, so a program that imports it links both. A
// program that needs one of them alone calls that package instead: memory.New or
// redis.Open.
package brokerurl

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	neturl "net/url"
	"os"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/redis"
)

// Env is the environment variable that names the broker where no URL is given.
const Env = "TASKGEN_BROKER"

const memoryScheme = "memory"

// Opener opens the broker that a URL names. It returns a broker that is ready for use,
// or an error that holds no secret of the URL.
type Opener func(ctx context.Context, url string) (broker.Broker, error)

// Open returns the broker that a URL names, checked to be there:
//
//	memory:                              embedded, gone with the process
//	redis://user:password@host:6379/0    Redis; rediss: with TLS, unix: on a socket,
//	                                     redis+cluster: and redis+sentinel: as redis.Open says;
//	                                     ?prefix=app keeps applications on one database apart,
//	                                     ?acknowledge=replica or fsync has enqueues wait for more,
//	                                     ?durable=required refuses a server without append-only file
//
// An empty URL means the one in the environment variable TASKGEN_BROKER, and memory:
// if that is empty too. It blocks until the server has answered or ctx ends. Brokers
// are also io.Closers: close one when everything that uses it has stopped.
func Open(ctx context.Context, url string) (broker.Broker, error) {
	return Config{}.Open(ctx, url)
}

// Config opens brokers in another way than [Open]; its zero value opens them as Open
// does. It may be used concurrently.
type Config struct {
	// Default is the URL where neither a call nor the environment variable
	// TASKGEN_BROKER names one. Defaults to memory:.
	Default string
	// Openers open brokers of further schemes, such as {"file": sqlite.Open}. They come
	// before the schemes of this package. Their keys are in lower case.
	Openers map[string]Opener
	// Logger receives what a Redis broker skips, and what its client library logs, for
	// the whole process: set it in a program's main alone. Defaults to slog's default
	// logger, and to standard error for the library.
	Logger *slog.Logger
}

// URL returns url or, if it is empty, the one that stands in for it.
func (c Config) URL(url string) string {
	for _, u := range []string{url, os.Getenv(Env), c.Default} {
		if u != "" {
			return u
		}
	}
	return memoryScheme + ":"
}

// Open is the package's Open as the configuration has it.
func (c Config) Open(ctx context.Context, url string) (broker.Broker, error) {
	url = c.URL(url)
	scheme, _, found := strings.Cut(url, ":")
	scheme = strings.ToLower(scheme)
	switch open := c.Openers[scheme]; {
	case found && open != nil:
		return open(ctx, url)
	case found && scheme == memoryScheme:
		return memory.New(), nil
	case found && (strings.HasPrefix(scheme, "redis") || scheme == "unix"):
		if c.Logger != nil {
			redis.LogClientLibrary(c.Logger)
		}
		b, err := redis.Open(ctx, url, redis.Config{Logger: c.Logger})
		if err != nil {
			return nil, err // not b: a nil *redis.Broker would be a broker
		}
		return b, nil
	}
	return nil, c.explain(url)
}

// explain returns why a URL names no broker, without its secrets.
func (c Config) explain(url string) error {
	if _, _, err := net.SplitHostPort(url); err == nil && !strings.Contains(url, "/") {
		if at := strings.LastIndexByte(url, '@'); at >= 0 { // before it may be a password
			return fmt.Errorf("open broker: there is no scheme; write redis:// before it, as in redis://:password@%s", url[at+1:])
		}
		return fmt.Errorf("open broker: a host and a port are no URL; write redis://%s", url)
	}
	schemes := []string{"memory:", "redis:", "rediss:", "unix:", "redis+cluster:", "redis+sentinel:"}
	for _, scheme := range slices.Sorted(maps.Keys(c.Openers)) {
		if !slices.Contains(schemes, scheme+":") {
			schemes = append(schemes, scheme+":")
		}
	}
	last := len(schemes) - 1
	return fmt.Errorf("open broker %q: unknown scheme; use a %s or %s URL", Redact(url), strings.Join(schemes[:last], ", "), schemes[last])
}

// Embedded reports whether a URL names the embedded broker, which is private to its
// process.
func (c Config) Embedded(url string) bool {
	scheme, _, found := strings.Cut(c.URL(url), ":")
	return found && strings.EqualFold(scheme, memoryScheme) && c.Openers[memoryScheme] == nil
}

// Redact returns of a URL what cannot hold a secret: scheme, host and path.
func Redact(rawURL string) string {
	u, err := neturl.Parse(rawURL)
	switch {
	case err != nil:
		return "…"
	case u.Opaque != "":
		return u.Scheme + ":…"
	case u.Host == "" && u.Path == "":
		return u.Scheme + ":"
	}
	path := u.Path[strings.LastIndexByte(u.Path, '@')+1:] // without a scheme, a password stands before it
	return (&neturl.URL{Scheme: u.Scheme, Host: u.Host, Path: path}).String()
}
