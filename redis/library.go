package redis

import (
	"context"
	"fmt"
	"log/slog"

	goredis "github.com/redis/go-redis/v9"
)

// LogClientLibrary has what the client library go-redis logs about itself, such as
// the masters that sentinels name, be logged by logger instead of on standard error;
// nil drops it. That logger is the whole process's, for all users of go-redis: it is
// for a program's main to set, before it opens brokers. The command line of taskrt.Main
// does. It may be called concurrently.
func LogClientLibrary(logger *slog.Logger) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	goredis.SetLogger(libraryLogger{logger})
}

// libraryLogger is a logger as go-redis wants one.
type libraryLogger struct{ logger *slog.Logger }

// Printf logs what the library would have printed.
func (l libraryLogger) Printf(ctx context.Context, format string, args ...any) {
	l.logger.InfoContext(ctx, "go-redis: "+fmt.Sprintf(format, args...))
}
