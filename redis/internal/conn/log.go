package conn

import (
	"context"
	"fmt"
	"log/slog"

	goredis "github.com/redis/go-redis/v9"
)

// LogLibrary has what go-redis logs be logged by logger; nil drops it.
func LogLibrary(logger *slog.Logger) {
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
