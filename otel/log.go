package otel

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// LogHandler returns a handler that adds trace_id and span_id to the records of next, from
// the span in the context of each. It is for LogHandler of taskapp.App, or for the Logger of
// [taskrt.ConsumerConfig]: the lines about an attempt, what its task logs by [taskrt.Logger],
// and the output of child processes then have those of the attempt.
//
// In groups that a logger has opened by WithGroup, the two are members of the group.
func LogHandler(next slog.Handler) slog.Handler { return logHandler{next} }

type logHandler struct{ slog.Handler }

func (h logHandler) Handle(ctx context.Context, rec slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		rec = rec.Clone()
		rec.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, rec)
}

func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(attrs)}
}

func (h logHandler) WithGroup(name string) slog.Handler {
	return logHandler{h.Handler.WithGroup(name)}
}
