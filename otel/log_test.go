package otel_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskotel "github.com/taskgen/taskgen/otel"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// logged is what a program logs as JSON, with the ids of spans.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) logger() *slog.Logger {
	return slog.New(taskotel.LogHandler(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})))
}

// line returns the only line with a message.
func (l *logged) line(t *testing.T, message string) map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []map[string]any
	for line := range bytes.Lines(l.b.Bytes()) {
		var m map[string]any
		require.NoError(t, json.Unmarshal(line, &m))
		if m["msg"] == message {
			found = append(found, m)
		}
	}
	require.Len(t, found, 1, "%s in\n%s", message, l.b.String())
	return found[0]
}

// requireOf checks that a line has the ids of a span.
func requireOf(t *testing.T, s tracetest.SpanStub, line map[string]any) {
	t.Helper()
	require.Equal(t, s.SpanContext.TraceID().String(), line["trace_id"], line)
	require.Equal(t, s.SpanContext.SpanID().String(), line["span_id"], line)
}

// TestTheEndOfAnAttemptIsLoggedWithItsSpan, one line each.
func TestTheEndOfAnAttemptIsLoggedWithItsSpan(t *testing.T) {
	for _, c := range []struct {
		name, message, level, kind string
		do                         func(ctx context.Context, run *taskrt.Run) error
	}{
		{"succeeds", "run succeeded", "DEBUG", "", func(context.Context, *taskrt.Run) error { return nil }},
		{"fails", "run failed for good", "ERROR", "failed", func(context.Context, *taskrt.Run) error { return taskrt.Permanent(errors.New("no luck")) }},
		{"is retried", "run failed, it will be tried again", "WARN", "failed", func(context.Context, *taskrt.Run) error {
			return taskrt.RetryAfter(time.Hour, errors.New("no luck"))
		}},
		{"is late", "run failed, it will be tried again", "WARN", "timeout", func(ctx context.Context, _ *taskrt.Run) error {
			<-ctx.Done()
			return taskrt.RetryAfter(time.Hour, ctx.Err())
		}},
		{"snoozes", "run snoozed", "DEBUG", "", func(context.Context, *taskrt.Run) error { return taskrt.Snooze(time.Hour) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var l logged
				f, b := newTracing(t), memory.New()
				t.Cleanup(func() { require.NoError(t, b.Close()) })
				ctx := f.client(b)
				f.consume(ctx, b, taskrt.ConsumerConfig{Logger: l.logger()}, func(ctx context.Context, run *taskrt.Run, _ string) error {
					time.Sleep(time.Second)
					taskrt.Logger(ctx).WithGroup("own").Info("without a context", "k", "v")
					inner, span := f.provider.Tracer("test").Start(ctx, "inner")
					defer span.End()
					taskrt.Logger(ctx).InfoContext(inner, "within a span")
					return c.do(ctx, run)
				})
				handle, err := tasks.QueueRecorderRecord(ctx, "payload that nobody logs")
				require.NoError(t, err)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				line, attempt := l.line(t, c.message), f.one("process default")
				requireOf(t, attempt, line)
				require.Equal(t, c.level, line["level"])
				require.Equal(t, "recorder_record", line["task"])
				require.Equal(t, handle.ID, line["run"])
				require.GreaterOrEqual(t, line["took"], float64(time.Second))
				if c.kind != "" {
					require.Equal(t, c.kind, line["kind"])
				}
				require.NotContains(t, l.b.String(), "payload that nobody logs")
				grouped := l.line(t, "without a context")["own"].(map[string]any)
				requireOf(t, attempt, grouped)
				requireOf(t, f.one("inner"), l.line(t, "within a span"))
			})
		})
	}
}

// TestWhatAChildWritesIsLoggedWithTheSpanOfTheAttempt: records, and lines of its output.
func TestWhatAChildWritesIsLoggedWithTheSpanOfTheAttempt(t *testing.T) {
	var l logged
	f, b := newTracing(t), newMemory(t)
	ctx, cancel := context.WithTimeout(f.client(b), time.Minute)
	defer cancel()
	stop := f.consume(ctx, b, taskrt.ConsumerConfig{Logger: l.logger(), Processes: 1}, nil)
	handle, err := tasks.QueueDescend(ctx)
	require.NoError(t, err)
	_, err = handle.Wait(ctx)
	require.NoError(t, err)
	stop()
	var attempt, queued tracetest.SpanStub
	for _, s := range f.exporter.GetSpans() {
		switch attrs := values(s.Attributes); {
		case s.Name == "process default" && attrs["taskgen.task"] == "descend":
			attempt = s
		case s.Name == "send default" && attrs["taskgen.task"] == "recorder_record":
			queued = s
		}
	}
	requireOf(t, attempt, l.line(t, "descending"))
	requireOf(t, attempt, l.line(t, "on standard output"))
	require.Equal(t, attempt.SpanContext.SpanID(), queued.Parent.SpanID(), "what a child queues is below its attempt")
	require.NotContains(t, l.line(t, "child process started"), "trace_id", "a child is of no run")
}

// TestLinesOutsideOfASpanStayAsTheyAre.
func TestLinesOutsideOfASpanStayAsTheyAre(t *testing.T) {
	var l logged
	l.logger().With("k", "v").Info("x")
	line := l.line(t, "x")
	delete(line, "time")
	require.Equal(t, map[string]any{"level": "INFO", "msg": "x", "k": "v"}, line)
}
