package subprocess

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/taskgen/taskgen/codec"
)

// Handler returns a handler that sends records to the parent's Config.Logger, which
// gets them with the attribute pid. Groups are flattened to dotted keys. Values of no
// basic kind become text. Records after the end of the run are dropped.
func (p *Parent) Handler() slog.Handler { return &recordHandler{parent: p} }

// recordHandler keeps its attributes encoded, so that each value is that of the time
// of WithAttrs.
type recordHandler struct {
	parent *Parent
	prefix string // of the keys that follow, with a trailing dot
	attrs  []byte
	count  int
}

func (h *recordHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.parent.level
}

func (h *recordHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := *h
	out.attrs = h.attrs[:len(h.attrs):len(h.attrs)]
	for _, a := range attrs {
		out.attrs, out.count = appendAttr(out.attrs, out.count, h.prefix, a)
	}
	return &out
}

func (h *recordHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	out := *h
	out.prefix += name + "."
	return &out
}

func (h *recordHandler) Handle(_ context.Context, rec slog.Record) error {
	attrs, count := h.attrs[:len(h.attrs):len(h.attrs)], h.count
	rec.Attrs(func(a slog.Attr) bool {
		attrs, count = appendAttr(attrs, count, h.prefix, a)
		return true
	})
	if err := h.parent.send(h.frame(rec, attrs, count)); err != nil {
		return fmt.Errorf("send log record: %w", err)
	}
	return nil
}

func (h *recordHandler) frame(rec slog.Record, attrs []byte, count int) []byte {
	if len(attrs) > h.parent.server.w.max-2*maxText {
		attrs, count = appendAttr(nil, 0, "", slog.Int("attributes_cut", count))
	}
	b := newFrame(nil, frameLog, h.parent.seq)
	b = codec.AppendInt(b, int64(rec.Level))
	b = codec.AppendTime(b, rec.Time)
	b = appendText(b, rec.Message, maxText)
	return append(codec.AppendArrayLen(b, 3*count), attrs...)
}

// appendAttr appends an attribute as key, kind and value, and a group as its members.
func appendAttr(b []byte, n int, prefix string, a slog.Attr) ([]byte, int) {
	v := a.Value.Resolve()
	if a.Key == "" && v.Kind() == slog.KindAny && v.Any() == nil {
		return b, n // slog asks handlers to ignore empty attributes
	}
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, m := range v.Group() {
			b, n = appendAttr(b, n, prefix, m)
		}
		return b, n
	}
	b = appendText(b, prefix+a.Key, maxText)
	kind := v.Kind()
	if kind == slog.KindAny {
		kind = slog.KindString
	}
	b = codec.AppendInt(b, int64(kind))
	switch kind {
	case slog.KindBool:
		b = codec.AppendBool(b, v.Bool())
	case slog.KindDuration:
		b = codec.AppendDuration(b, v.Duration())
	case slog.KindFloat64:
		b = codec.AppendFloat64(b, v.Float64())
	case slog.KindInt64:
		b = codec.AppendInt(b, v.Int64())
	case slog.KindUint64:
		b = codec.AppendUint(b, v.Uint64())
	case slog.KindTime:
		b = codec.AppendTime(b, v.Time())
	default:
		b = appendText(b, v.String(), maxText)
	}
	return b, n + 1
}

// readRecord decodes a record in the parent.
func readRecord(r *codec.Reader) (slog.Record, error) {
	level, at, msg := slog.Level(r.Int()), r.Time(), r.String()
	rec := slog.NewRecord(at, level, msg, 0)
	n := r.ArrayLen()
	for ; n >= 3 && r.More(); n -= 3 {
		rec.AddAttrs(slog.Attr{Key: r.String(), Value: readValue(r)})
	}
	if n != 0 && r.More() {
		r.Fail(fmt.Errorf("attributes are not key, kind and value"))
	}
	return rec, r.Done()
}

func readValue(r *codec.Reader) slog.Value {
	switch kind := slog.Kind(r.Int()); kind {
	case slog.KindBool:
		return slog.BoolValue(r.Bool())
	case slog.KindDuration:
		return slog.DurationValue(r.Duration())
	case slog.KindFloat64:
		return slog.Float64Value(r.Float64())
	case slog.KindInt64:
		return slog.Int64Value(r.Int64())
	case slog.KindUint64:
		return slog.Uint64Value(r.Uint64())
	case slog.KindTime:
		return slog.TimeValue(r.Time())
	case slog.KindString:
		return slog.StringValue(r.String())
	default:
		r.Fail(fmt.Errorf("attribute of kind %d", kind))
		return slog.Value{}
	}
}

// lowestLevel returns the lowest of slog's levels that the logger handles. A child
// does not send records below it.
func lowestLevel(ctx context.Context, l *slog.Logger) slog.Level {
	for level := slog.LevelDebug; level < slog.LevelError; level += 4 {
		if l.Enabled(ctx, level) {
			return level
		}
	}
	return slog.LevelError
}
