package access

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
)

const (
	maxLogged = 100 // ids of an audit line
	maxText   = 512 // bytes of each text of it: a request of 8 MB may not become a line of 8 MB
)

// Entry is the audit line of a request that may write. Its methods may be called
// concurrently, and do nothing for nil.
type Entry struct {
	mu     sync.Mutex
	action Action
	task   string
	ids    []string
	more   []any
	err    error
}

func newEntry() *Entry { return new(Entry) }

// EntryOf returns the entry of the request, for the handler to fill. That of a request that
// only reads is nil.
func EntryOf(ctx context.Context) *Entry {
	e, _ := ctx.Value(entryKey).(*Entry)
	return e
}

// Set says what the request does, with which task, if it is one, and what it changes: the ids
// of runs, or the names of a queue or schedule. A handler calls it before it does that.
// Values of parameters do not belong there.
func (e *Entry) Set(action Action, task string, ids ...string) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.action, e.task, e.ids = action, task, append([]string(nil), ids...)
}

// Add adds names and values, as slog has them: such as a filter, or a count.
func (e *Entry) Add(args ...any) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.more = append(e.more, args...)
}

// Fail says by which error the change did not come about. It may not quote parameters.
func (e *Entry) Fail(err error) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
}

// audit logs the line of a request.
func (g *Guard) audit(r *http.Request, u *User, e *Entry, status int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	outcome, level := "done", slog.LevelInfo
	switch {
	case status >= http.StatusInternalServerError, status < http.StatusBadRequest && e.err != nil: // such as a page that redirects and then says so
		outcome, level = "failed", slog.LevelWarn
	case status >= http.StatusBadRequest:
		outcome, level = "refused", slog.LevelWarn
	}
	args := []any{"user", u.Name, "action", e.action, "outcome", outcome, "status", status, "method", r.Method, "path", cut(r.URL.Path), "remote", r.RemoteAddr}
	if e.task != "" {
		args = append(args, "task", cut(e.task))
	}
	if len(e.ids) > 0 {
		ids := slices.Clone(e.ids[:min(len(e.ids), maxLogged)])
		for i := range ids {
			ids[i] = cut(ids[i])
		}
		args = append(args, "ids", ids)
	}
	if len(e.ids) > maxLogged {
		args = append(args, "ids_in_all", len(e.ids))
	}
	for _, value := range e.more {
		if text, ok := value.(string); ok {
			value = cut(text)
		}
		args = append(args, value)
	}
	if e.err != nil {
		args = append(args, "error", cut(e.err.Error()))
	}
	g.Logger.Log(context.WithoutCancel(r.Context()), level, "dashboard write", args...)
}

// cut returns the beginning of a text, and how long it was.
func cut(text string) string {
	if len(text) <= maxText {
		return text
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(text[:maxText], ""), len(text))
}

// statusWriter remembers the status of a reply.
type statusWriter struct {
	http.ResponseWriter
	status int // 0: none was written
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for [http.ResponseController].
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
