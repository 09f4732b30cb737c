package conn

import (
	"context"
	"fmt"
	"log/slog"

	goredis "github.com/redis/go-redis/v9"
)

// LogLibrary sends go-redis's own log, which is one for the process, to logger. Nil
// drops it.
func LogLibrary(logger *slog.Logger) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	goredis.SetLogger(libraryLogger{logger})
}

// libraryLogger implements go-redis's logger.
type libraryLogger struct{ logger *slog.Logger }

// Printf logs a line of go-redis.
func (l libraryLogger) Printf(ctx context.Context, format string, args ...any) {
	l.logger.InfoContext(ctx, "go-redis: "+fmt.Sprintf(format, args...))
}
