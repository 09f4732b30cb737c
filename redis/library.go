package redis

import (
	"log/slog"

	"github.com/taskgen/taskgen/redis/internal/conn"
)

// LogClientLibrary has logger log what the client library go-redis logs about itself, such
// as the masters that sentinels name, which otherwise goes to standard error. nil drops
// it. The logger is that of the whole process, for all users of go-redis: a program's main
// sets it before it opens brokers, as taskapp.Main does. LogClientLibrary may be called
// concurrently.
func LogClientLibrary(logger *slog.Logger) {
	conn.LogLibrary(logger)
}
