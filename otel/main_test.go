package otel_test

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskotel "github.com/taskgen/taskgen/otel"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func TestMain(m *testing.M) {
	taskrt.ServeChild(tasks.Tasks(nil))
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		os.Stderr.WriteString("goroutines outlive the tests: " + err.Error() + "\n")
		code = 1
	}
	os.Exit(code)
}

// tracing is a tracer provider that keeps its spans, and a program that uses it.
type tracing struct {
	t        *testing.T
	exporter *tracetest.InMemoryExporter
	provider *sdktrace.TracerProvider
	open     openSpans
	options  []taskotel.Option
}

// newTracing checks at the end of the test that each span has ended.
func newTracing(t *testing.T, opts ...taskotel.Option) *tracing {
	f := &tracing{t: t, exporter: tracetest.NewInMemoryExporter()}
	f.provider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(&f.open), sdktrace.WithSyncer(f.exporter))
	f.options = append([]taskotel.Option{taskotel.WithTracerProvider(f.provider)}, opts...)
	t.Cleanup(func() { require.Zero(t, f.open.count(), "spans that have not ended") })
	return f
}

// client returns a context with a client whose calls are traced.
func (f *tracing) client(b broker.Broker) context.Context {
	middleware := []taskrt.QueueMiddleware{taskotel.QueueMiddleware(f.options...)}
	return taskrt.WithClient(context.Background(), taskrt.NewClient(b, taskrt.ClientConfig{Middleware: middleware}))
}

// consume runs a consumer whose attempts are traced, until the test ends or the returned
// function is called. Its tasks queue with the client of ctx.
func (f *tracing) consume(ctx context.Context, b broker.Broker, cfg taskrt.ConsumerConfig, do func(ctx context.Context, run *taskrt.Run, note string) error) (stop func()) {
	cfg.Middleware = append([]taskrt.Middleware{taskotel.Middleware(f.options...)}, cfg.Middleware...)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if do == nil {
		do = func(context.Context, *taskrt.Run, string) error { return nil }
	}
	c, err := taskrt.NewConsumer(b, cfg, tasks.Tasks(&tasks.Recorder{Do: do}))
	require.NoError(f.t, err)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(f.t, <-done)
	})
	f.t.Cleanup(stop)
	return stop
}

// spans returns the spans that have ended, by their names.
func (f *tracing) spans() map[string][]tracetest.SpanStub {
	spans := make(map[string][]tracetest.SpanStub)
	for _, s := range f.exporter.GetSpans() {
		spans[s.Name] = append(spans[s.Name], s)
	}
	return spans
}

// one returns the only span of a name.
func (f *tracing) one(name string) tracetest.SpanStub {
	f.t.Helper()
	found := f.spans()[name]
	require.Len(f.t, found, 1, "spans %q", name)
	return found[0]
}

// openSpans counts the spans that have started and not ended.
type openSpans struct {
	mu sync.Mutex
	n  int
}

func (o *openSpans) add(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.n += n
}

func (o *openSpans) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.n
}

func (o *openSpans) OnStart(context.Context, sdktrace.ReadWriteSpan) { o.add(1) }
func (o *openSpans) OnEnd(sdktrace.ReadOnlySpan)                     { o.add(-1) }
func (o *openSpans) Shutdown(context.Context) error                  { return nil }
func (o *openSpans) ForceFlush(context.Context) error                { return nil }

// values returns attributes as a map.
func values(attrs []attribute.KeyValue) map[string]any {
	m := make(map[string]any, len(attrs))
	for _, kv := range attrs {
		m[string(kv.Key)] = kv.Value.AsInterface()
	}
	return m
}

// linked returns the ids of the spans that a span links to.
func linked(s tracetest.SpanStub) []trace.SpanID {
	var ids []trace.SpanID
	for _, l := range s.Links {
		ids = append(ids, l.SpanContext.SpanID())
	}
	return ids
}

func newMemory(t *testing.T) *memory.Broker {
	b := memory.New()
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}
