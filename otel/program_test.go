package otel_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/taskgen/taskgen/examples/tracing/api"
	"github.com/taskgen/taskgen/internal/redistest"
	taskotel "github.com/taskgen/taskgen/otel"
	"github.com/taskgen/taskgen/redis"
)

// TestATraceReachesACollector runs the example, with its child process, against both
// brokers. A collector receives the trace from the tick to the last run of the chain.
func TestATraceReachesACollector(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "tracing")
	out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, "../examples/tracing").CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Run("embedded", func(t *testing.T) { testTrace(t, binary, "memory:", "", 0) })
	t.Run("redis", func(t *testing.T) {
		server := redistest.Start(t)
		host, port, err := net.SplitHostPort(server.Addr())
		require.NoError(t, err)
		n, err := strconv.Atoi(port)
		require.NoError(t, err)
		testTrace(t, binary, server.URL(), host, n)
	})
}

func testTrace(t *testing.T, binary, broker, address string, port int) {
	c := startCollector(t)
	cmd := exec.CommandContext(t.Context(), binary, "serve")
	cmd.Env = append(os.Environ(), "TASKGEN_BROKER="+broker, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.server.URL, "OTEL_BSP_SCHEDULE_DELAY=100")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	var logged bytes.Buffer
	cmd.Stderr = &logged
	require.NoError(t, cmd.Start())
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			require.NoError(t, cmd.Process.Signal(os.Interrupt))
			require.NoError(t, cmd.Wait(), logged.String())
		}
	}
	defer stop()
	collect, resize, publish := c.attempt("collect"), c.attempt("resize"), c.attempt("publish")
	sent, child, shrink := c.named("send default"), c.named("resize"), c.named("shrink")
	if address != "" {
		testProducer(t, c, broker)
	}
	stop()

	require.Equal(t, tracepb.Span_SPAN_KIND_PRODUCER, sent.Kind)
	require.Empty(t, collect.links(), "a tick has no producer")
	require.Equal(t, collect.id(), sent.parent(), "the call is below the attempt that made it")
	require.Equal(t, []string{sent.id()}, resize.links())
	require.Empty(t, resize.parent(), "a link, and no parent")
	require.Equal(t, tracepb.Span_SPAN_KIND_INTERNAL, child.Kind)
	require.Equal(t, resize.id(), child.parent(), "the child process is below the attempt")
	require.Equal(t, child.id(), shrink.parent(), "the task's own span is below that")
	require.Equal(t, resize.trace(), shrink.trace())
	require.EqualValues(t, 1, attributes(child.Attributes)["taskgen.attempt"])
	require.NotEqual(t, int64(cmd.Process.Pid), attributes(child.Attributes)["process.pid"])
	require.Equal(t, []string{resize.id()}, publish.links(), "the run that follows links to the one before")
	require.Equal(t, resize.id(), publish.parent(), "and is its child, as the directive asks")
	require.Equal(t, resize.trace(), publish.trace())

	for _, s := range []received{collect, resize, publish, sent, child} {
		require.Equal(t, "github.com/taskgen/taskgen/otel", s.scope)
		require.Equal(t, taskotel.SchemaURL, s.schema)
	}
	attrs := attributes(resize.Attributes)
	require.NotEmpty(t, attrs["messaging.message.id"])
	want := map[string]any{
		"messaging.system": "taskgen", "messaging.operation.name": "process", "messaging.operation.type": "process",
		"messaging.destination.name": "default", "messaging.message.id": attributes(sent.Attributes)["messaging.message.id"],
		"messaging.message.conversation_id": attributes(collect.Attributes)["messaging.message.id"],
		"taskgen.task":                      "resize", "taskgen.attempt": int64(1), "taskgen.delivery": int64(1), "taskgen.outcome": "success",
	}
	if address != "" {
		want["server.address"], want["server.port"] = address, int64(port)
	}
	require.Equal(t, want, attrs)
	testLogged(t, logged.String(), collect, publish)
}

// testProducer: the attempt links to the span of a producer that has but the generated client.
func testProducer(t *testing.T, c *collector, url string) {
	b, err := redis.Open(t.Context(), url, redis.Config{})
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Close()) }()
	f := newTracing(t)
	ctx, cancel := context.WithTimeout(f.client(b), time.Minute)
	defer cancel()
	handle, err := api.QueueResize(ctx, "dog.png")
	require.NoError(t, err)
	small, err := handle.Wait(ctx)
	require.NoError(t, err)
	require.Equal(t, "small-dog.png", small)
	attempt := c.wait("attempt of the producer's run", func(s received) bool {
		return s.Kind == tracepb.Span_SPAN_KIND_CONSUMER && attributes(s.Attributes)["messaging.message.id"] == handle.ID
	})
	require.Equal(t, []string{f.one("send default").SpanContext.SpanID().String()}, attempt.links())
}

// testLogged: what tasks log has the ids of their attempts.
func testLogged(t *testing.T, logged string, collect, publish received) {
	line := regexp.MustCompile(`(?m)^.* msg="found a picture" .*$`).FindString(logged)
	require.Contains(t, line, " trace_id="+collect.trace()+" span_id="+collect.id(), logged)
	line = regexp.MustCompile(`(?m)^.* msg=published .*$`).FindString(logged)
	require.Contains(t, line, " trace_id="+publish.trace()+" span_id="+publish.id(), logged)
	require.Equal(t, 1, strings.Count(line, "trace_id="))
}
