package taskapp

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/taskgen/taskgen/internal/text"
)

// skipLogger returns the logger of a command's broker. It writes lines to standard error
// as the command does.
func (c *commandLine) skipLogger() *slog.Logger { return slog.New(&lineHandler{line: c}) }

// lineHandler writes warnings as lines of a command.
type lineHandler struct {
	line  *commandLine
	mu    sync.Mutex
	attrs []slog.Attr
}

// Enabled reports whether a record is one for whoever typed the command.
func (h *lineHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}

// Handle writes a record as one line.
func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	var details []string
	add := func(a slog.Attr) bool {
		details = append(details, a.Key+": "+a.Value.String())
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	message := r.Message
	if len(details) > 0 {
		message += " (" + strings.Join(details, ", ") + ")"
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := fmt.Fprintf(h.line.stderr, "%s: %s\n", h.line.name(), text.Printable(message))
	return err
}

// WithAttrs returns a handler that adds the attributes to each line.
func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &lineHandler{line: h.line, attrs: append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

// WithGroup returns the handler itself: lines for people have no groups.
func (h *lineHandler) WithGroup(string) slog.Handler { return h }
