// Package instance announces consumers and schedulers to the broker while they are up.
package instance

import (
	"context"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

const (
	announceEvery   = broker.InstanceKept / 3
	announceTimeout = 5 * time.Second
	// withdrawTimeout bounds how long a stop waits. An instance that is not withdrawn is
	// listed until its time is over.
	withdrawTimeout = 500 * time.Millisecond
)

// Announce announces what describe returns to the broker until ctx ends: at once, at each
// change, and every few seconds. Then it withdraws the instance. If the broker does not take
// it, Announce logs that once and tries again. It does nothing for a broker that knows no
// instances.
func Announce(ctx context.Context, b broker.Broker, logger *slog.Logger, changes <-chan struct{}, describe func() *broker.Instance) {
	instances, ok := b.(broker.Instances)
	if !ok {
		return
	}
	ticker := time.NewTicker(announceEvery)
	defer ticker.Stop()
	var id string
	for failing := false; ; {
		i := describe()
		id = i.ID
		trying, cancel := context.WithTimeout(ctx, announceTimeout)
		err := instances.Announce(trying, i)
		cancel()
		if err != nil && ctx.Err() == nil && !failing {
			logger.Warn("cannot announce itself to the broker, trying again: others do not see that it is up", "role", i.Role, "instance", id, "error", err)
		}
		failing = err != nil
		select {
		case <-ticker.C:
			continue
		case <-changes:
			continue
		case <-ctx.Done():
		}
		break
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTimeout)
	defer cancel()
	if err := instances.Withdraw(ctx, id); err != nil {
		logger.Debug("cannot withdraw itself from the broker", "instance", id, "error", err)
	}
}

// Host returns the name of this machine, empty if it is unknown.
var Host = sync.OnceValue(func() string {
	name, _ := os.Hostname()
	return name
})

// Version returns the version of the program: of its main module, or the first digits of the
// commit that it was built of. It is empty if neither is known.
var Version = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return versionOf(info)
})

// Built returns when the commit was made that the program was built of, or when the program
// started if that is unknown or the files were changed.
var Built = sync.OnceValue(func() time.Time {
	if info, ok := debug.ReadBuildInfo(); ok {
		if at := committed(info); !at.IsZero() {
			return at
		}
	}
	return started
})

var started = time.Now()

// committed returns the time of the commit of a build, zero if there is none or files were
// changed since.
func committed(info *debug.BuildInfo) (at time.Time) {
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.time":
			at, _ = time.Parse(time.RFC3339, s.Value)
		case s.Key == "vcs.modified" && s.Value == "true":
			return time.Time{}
		}
	}
	return at
}

func versionOf(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	var revision, dirty string
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value[:min(len(s.Value), 12)]
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "+dirty"
			}
		}
	}
	if revision == "" {
		return ""
	}
	return revision + dirty
}
