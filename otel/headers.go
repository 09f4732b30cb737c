package otel

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	otelapi "go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/taskgen/taskgen/broker"
)

// headers writes and reads contexts in the headers of runs.
type headers struct {
	own    propagation.TextMapPropagator // nil: the global one
	global atomic.Pointer[propagation.TextMapPropagator]
}

// standard is for programs that have set no propagator.
var standard = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})

// propagator returns the propagator. The global one may be set after the middleware is made.
func (h *headers) propagator() propagation.TextMapPropagator {
	if h.own != nil {
		return h.own
	}
	if known := h.global.Load(); known != nil {
		return *known
	}
	global := otelapi.GetTextMapPropagator()
	if len(global.Fields()) == 0 {
		return standard
	}
	h.global.Store(&global)
	return global
}

// extract returns ctx with what headers carry, and the span context in them, which is
// invalid if there is none. The span in ctx stays.
func (h *headers) extract(ctx context.Context, from map[string]string) (context.Context, trace.SpanContext) {
	if len(from) == 0 {
		return ctx, trace.SpanContext{}
	}
	ambient := trace.SpanFromContext(ctx)
	carried := h.propagator().Extract(trace.ContextWithSpan(ctx, noSpan), carrier(from))
	return trace.ContextWithSpan(carried, ambient), trace.SpanContextFromContext(carried)
}

// noSpan takes the place of the span in a context.
var noSpan = trace.SpanFromContext(context.Background())

// inject returns the headers that carry ctx, without those too large for a run.
func (h *headers) inject(ctx context.Context) map[string]string {
	c := make(carrier, 2)
	h.propagator().Inject(ctx, c)
	return c
}

// carrier is the headers of a run. It drops what no run can have as a header.
type carrier map[string]string

var _ propagation.TextMapCarrier = carrier(nil)

// Get implements [propagation.TextMapCarrier].
func (c carrier) Get(key string) string { return c[key] }

// Set implements [propagation.TextMapCarrier].
func (c carrier) Set(key, value string) {
	if key != "" && len(key)+len(value) <= broker.MaxHeader && utf8.ValidString(key) && utf8.ValidString(value) {
		c[key] = value
	}
}

// Keys implements [propagation.TextMapCarrier].
func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for key := range c {
		keys = append(keys, key)
	}
	return keys
}

// add adds headers as far as a run has room for them: traceparent first, and the others in the
// order of their names, so that runs of one program carry the same ones.
func add(to, more map[string]string) map[string]string {
	if to == nil && len(more) > 0 {
		to = make(map[string]string, len(more))
	}
	if len(to)+len(more) <= broker.MaxHeaders {
		maps.Copy(to, more)
		return to
	}
	keys := slices.SortedFunc(maps.Keys(more), func(a, b string) int {
		switch {
		case a == b:
			return 0
		case a == traceParent:
			return -1
		case b == traceParent:
			return 1
		}
		return strings.Compare(a, b)
	})
	for _, key := range keys {
		if _, has := to[key]; has || len(to) < broker.MaxHeaders {
			to[key] = more[key]
		}
	}
	return to
}

// traceParent is the header of W3C Trace Context without which the others mean nothing.
const traceParent = "traceparent"
