package runtime

import (
	"context"
	"log/slog"
	"sync"

	"github.com/taskgen/taskgen/internal/subprocess"
)

// Logger returns the consumer's logger with the run's id, task and attempt,
// also in a child process, from where the records travel to the consumer's
// log. A run's records are bounded as a child's are: 16 MiB are logged, each record
// counting 128 bytes more than it has. Outside of a task it is slog's default logger.
func Logger(ctx context.Context) *slog.Logger {
	logger, ok := ctx.Value(loggerKey{}).(*slog.Logger)
	if !ok {
		return slog.Default()
	}
	if c, ok := ctx.Value(progressKey{}).(*runContext); ok && c.offers.bounded {
		c.log.CompareAndSwap(nil, new(runLog))
		logger = slog.New(&boundedHandler{Handler: logger.Handler(), log: c.log.Load()})
	}
	if run, ok := CurrentRun(ctx); ok {
		return logger.With("task", run.Task, "run", run.ID, "attempt", run.Attempt)
	}
	return logger
}

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

// logCut logs how much of what the run logged was not kept.
func (x *execution) logCut() {
	l := x.runContext.log.Load()
	if l == nil {
		return
	}
	l.mu.Lock()
	cut, size := l.budget.Cut()
	l.mu.Unlock()
	if cut > 0 {
		x.executor.logger.Warn(subprocess.TooManyRecords, "run", x.info.ID, "task", x.info.Task, "records_cut", cut, "bytes_cut", size)
	}
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

// sizeOf is about how many bytes an attribute takes. How a value that is neither text
// nor bytes is written is the handler's to know.
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
