package redis

import (
	"log/slog"

	"github.com/taskgen/taskgen/redis/internal/conn"
)

// LogClientLibrary has what the client library go-redis logs about itself, such as
// the masters that sentinels name, be logged by logger instead of on standard error;
// nil drops it. That logger is the whole process's, for all users of go-redis: it is
// for a program's main to set, before it opens brokers. The command line of taskapp.Main
// does. It may be called concurrently.
func LogClientLibrary(logger *slog.Logger) {
	conn.LogLibrary(logger)
}
