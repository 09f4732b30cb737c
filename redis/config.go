package redis

import (
	"fmt"
	"log/slog"
	"time"
)

// Config configures a [Broker]. Its zero value works.
type Config struct {
	// Prefix begins the name of every key, so that several applications can share a
	// database. It is printable ASCII without spaces and braces. Defaults to "taskgen".
	Prefix string

	// Timeout bounds one command, and beside it dialing and waiting for a connection,
	// each. A call returns within a tenth of a second after its context has ended,
	// whatever the server does. While the server loads its files, opening, queueing and
	// reading records wait until the context ends, or for ten times this. Defaults to 3
	// seconds.
	Timeout time.Duration

	// MaxDead is how many dead letters a queue keeps. The broker trims and counts the
	// oldest of more. Defaults to 10,000.
	MaxDead int

	// AllowEviction accepts a server that may evict keys, and with them queued runs, if
	// its memory is full. Defaults to false: Open refuses such a server.
	AllowEviction bool

	// Acknowledge is how safe a run has to be before the call that queues it returns nil.
	// If the run is stored, and not confirmed within three quarters of Timeout or until
	// the context ends, the error wraps [broker.ErrNotReplicated]. Defaults to Memory.
	Acknowledge Acknowledge

	// Replicas is the number of replicas that confirm an enqueue. Defaults to 1 with
	// Acknowledge Replica, else to none.
	Replicas int

	// RequireDurable has Open refuse a server without append-only file, which loses queued
	// runs in a crash. Defaults to false.
	RequireDurable bool

	// Logger receives what the broker skips because it cannot be used, each once: names
	// that no queue can have, keys of a wrong type, and lost ticks of schedules. Defaults
	// to slog's default logger.
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
