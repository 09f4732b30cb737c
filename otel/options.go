package otel

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"

	otelapi "go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// SchemaURL is that of the semantic conventions which spans and metrics follow.
const SchemaURL = semconv.SchemaURL

// scope is the name of the instrumentation.
const scope = "github.com/taskgen/taskgen/otel"

// Option changes a middleware. Only this package makes options.
type Option interface{ apply(*observer) }

type option func(*observer)

func (o option) apply(to *observer) { o(to) }

// WithTracerProvider has spans made by p. Defaults to OpenTelemetry's global provider, which
// may be set later.
func WithTracerProvider(p trace.TracerProvider) Option {
	return option(func(o *observer) { o.provider = p })
}

// WithPropagator has p write contexts to headers of runs and read them. Defaults to
// OpenTelemetry's global propagator. If none is set, it is that of W3C Trace Context and
// Baggage. Both ends need the same.
func WithPropagator(p propagation.TextMapPropagator) Option {
	return option(func(o *observer) { o.headers.own = p })
}

// WithMeterProvider records the metrics of the conventions: messaging.client.operation.duration,
// messaging.client.sent.messages, messaging.client.consumed.messages and
// messaging.process.duration. Defaults to none.
func WithMeterProvider(p metric.MeterProvider) Option {
	return option(func(o *observer) { o.meters = p })
}

// WithCreateSpans has a [QueueMiddleware] make a span create QUEUE for each run of a call
// that queues several, and the attempts link to these. Defaults to one span for all.
func WithCreateSpans() Option {
	return option(func(o *observer) { o.createSpans = true })
}

// observer is what the middleware of this package share.
type observer struct {
	provider    trace.TracerProvider // nil: the global one
	meters      metric.MeterProvider // nil: no metrics
	headers     headers
	createSpans bool
	old         bool // also the attributes and metrics of version 1.24.0

	tracer  trace.Tracer
	metrics *metrics    // nil: none
	set     atomic.Bool // a provider
}

func newObserver(opts []Option) *observer {
	o := &observer{old: optsIn(os.Getenv("OTEL_SEMCONV_STABILITY_OPT_IN"), "messaging/dup")}
	for _, opt := range opts {
		if opt != nil {
			opt.apply(o)
		}
	}
	o.tracer = o.currentProvider().Tracer(scope, trace.WithSchemaURL(SchemaURL))
	if o.meters != nil {
		o.metrics = newMetrics(o.meters, o.old)
	}
	return o
}

// currentProvider returns the provider of the spans. Until a global one is set, the global
// one makes tracers that pass on to it later.
func (o *observer) currentProvider() trace.TracerProvider {
	if o.provider != nil {
		return o.provider
	}
	return otelapi.GetTracerProvider()
}

// idle reports whether nobody wants spans or metrics: the program has set no provider. Then
// contexts travel, and that is all.
func (o *observer) idle() bool {
	if o.provider != nil || o.metrics != nil || o.set.Load() {
		return false
	}
	t := reflect.TypeOf(otelapi.GetTracerProvider())
	if t.Kind() == reflect.Pointer && t.Elem().PkgPath() == placeholder {
		return true
	}
	o.set.Store(true)
	return false
}

// placeholder is the package of the provider that OpenTelemetry has until one is set. It
// exports nothing to compare with; if it were called otherwise, idle would cost more.
const placeholder = "go.opentelemetry.io/otel/internal/global"

// optsIn reports whether a list in the form of OTEL_SEMCONV_STABILITY_OPT_IN has a value.
func optsIn(list, value string) bool {
	return slices.ContainsFunc(strings.Split(list, ","), func(s string) bool { return strings.TrimSpace(s) == value })
}
