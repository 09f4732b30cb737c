package runtime

import (
	"context"
	"log/slog"
	"sync"

	"github.com/taskgen/taskgen/internal/subprocess"
)

// runLog bounds what a run logs through [Logger]. It may be used concurrently.
type runLog struct {
	mu     sync.Mutex
	budget subprocess.Budget
}

func (l *runLog) take(size int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.budget.Take(size)
}

// boundedHandler drops the records of a run that has logged enough.
type boundedHandler struct {
	slog.Handler
	log   *runLog
	given int // bytes of the attributes that each record has
}

func (h *boundedHandler) Handle(ctx context.Context, rec slog.Record) error {
	size := h.given + len(rec.Message)
	rec.Attrs(func(a slog.Attr) bool {
		size += sizeOf(a)
		return true
	})
	if !h.log.take(size) {
		return nil
	}
	return h.Handler.Handle(ctx, rec)
}

func (h *boundedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	given := h.given
	for _, a := range attrs {
		given += sizeOf(a)
	}
	return &boundedHandler{h.Handler.WithAttrs(attrs), h.log, given}
}

func (h *boundedHandler) WithGroup(name string) slog.Handler {
	return &boundedHandler{h.Handler.WithGroup(name), h.log, h.given + len(name)}
}

// sizeOf estimates how many bytes an attribute takes. Only the handler knows how it writes
// a value that is neither text nor bytes.
func sizeOf(a slog.Attr) int {
	size := len(a.Key)
	switch a.Value.Kind() {
	case slog.KindString:
		return size + len(a.Value.String())
	case slog.KindGroup:
		for _, member := range a.Value.Group() {
			size += sizeOf(member)
		}
		return size
	case slog.KindAny:
		if b, ok := a.Value.Any().([]byte); ok {
			return size + len(b)
		}
	}
	const other = 16
	return size + other
}

// contextHandler gives records that were logged without a context that of the task, so that
// a handler finds in it what middleware has set, such as a span.
type contextHandler struct {
	slog.Handler
	ctx context.Context
}

func (h *contextHandler) Handle(ctx context.Context, rec slog.Record) error {
	if ctx == context.Background() {
		ctx = h.ctx
	}
	return h.Handler.Handle(ctx, rec)
}

func (h *contextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &contextHandler{h.Handler.WithAttrs(attrs), h.ctx}
}

func (h *contextHandler) WithGroup(name string) slog.Handler {
	return &contextHandler{h.Handler.WithGroup(name), h.ctx}
}
