package redis

import (
	"fmt"
	"log/slog"
	"time"
)

// Config is what can be chosen of a [Broker]. Its zero value works.
type Config struct {
	// Prefix opens the name of every key, so that several applications can
	// share a database. Printable ASCII without spaces and braces. Defaults to
	// "taskgen".
	Prefix string

	// Timeout bounds how long one command may take, dialing and waiting for a
	// connection each on top of it. A call whose context ends returns within a
	// tenth of a second, whatever the server does. Opening, queueing and reading
	// records wait for a server that still loads its files, until the context ends
	// or for ten times this. Defaults to 3 seconds.
	Timeout time.Duration

	// MaxDead is how many dead letters a queue keeps; beyond it the oldest are
	// dropped and counted. Defaults to 10,000.
	MaxDead int

	// AllowEviction accepts a server that may evict keys when its memory is
	// full, and with them runs that were accepted. Defaults to false: such a
	// server is refused.
	AllowEviction bool

	// Acknowledge is how safe a run has to be before its queueing returns nil.
	// Stored, but not confirmed as safe within three quarters of Timeout, or by
	// the end of the caller's context, the error wraps
	// [broker.ErrNotReplicated]. Defaults to Memory.
	Acknowledge Acknowledge

	// Replicas is how many replicas have to confirm what is queued. Defaults to
	// 1 with Acknowledge Replica, else to none.
	Replicas int

	// RequireDurable has Open refuse a server without append-only file: one
	// that keeps nothing, or snapshots only, loses accepted runs in a crash.
	RequireDurable bool

	// Logger receives what the broker skips because it cannot be used, such as
	// names that no queue can have, each once, and the schedules that go on from now as
	// their last claimed tick is lost. Defaults to slog's default logger.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.Prefix == "" {
		c.Prefix = "taskgen"
	}
	for i := range len(c.Prefix) {
		if ch := c.Prefix[i]; ch <= ' ' || ch > '~' || ch == '{' || ch == '}' {
			return c, fmt.Errorf("config Prefix: %.64q is not printable ASCII without spaces and braces", c.Prefix)
		}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	switch {
	case c.Timeout < 0:
		return c, fmt.Errorf("config Timeout: %v is negative", c.Timeout)
	case c.Timeout == 0:
		c.Timeout = 3 * time.Second
	}
	switch {
	case c.MaxDead < 0:
		return c, fmt.Errorf("config MaxDead: %d is negative", c.MaxDead)
	case c.MaxDead == 0:
		c.MaxDead = 10_000
	}
	return c.withAcknowledge()
}

// withAcknowledge checks and completes what is asked for.
func (c Config) withAcknowledge() (Config, error) {
	switch {
	case c.Acknowledge < Memory || c.Acknowledge > Fsync:
		return c, fmt.Errorf("config Acknowledge: %d is not Memory, Replica or Fsync", c.Acknowledge)
	case c.Replicas < 0:
		return c, fmt.Errorf("config Replicas: %d is negative", c.Replicas)
	case c.Replicas > 0 && c.Acknowledge == Memory:
		return c, fmt.Errorf("config Replicas: %d are of no use without Acknowledge", c.Replicas)
	case c.Replicas == 0 && c.Acknowledge == Replica:
		c.Replicas = 1
	}
	return c, nil
}
