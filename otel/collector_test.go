package otel_test

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector is an OpenTelemetry collector: it receives spans by OTLP over HTTP.
type collector struct {
	t      *testing.T
	server *httptest.Server

	mu      sync.Mutex
	spans   []received
	arrived chan struct{} // closed at the next request
}

// received is a span with what the request says of where it is from.
type received struct {
	*tracepb.Span
	scope, schema string
	pid           any // of the process, by its resource
}

func startCollector(t *testing.T) *collector {
	c := &collector{t: t, arrived: make(chan struct{})}
	c.server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.server.Close)
	return c
}

func (c *collector) serve(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = unzipped
	}
	b, err := io.ReadAll(body)
	var request collectorpb.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(b, &request)
	}
	if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		c.t.Errorf("%s %s: %v", r.Method, r.URL, err)
		http.Error(w, "not a request of OTLP", http.StatusBadRequest)
		return
	}
	c.add(&request)
	reply, _ := proto.Marshal(&collectorpb.ExportTraceServiceResponse{})
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(reply)
}

func (c *collector) add(request *collectorpb.ExportTraceServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range request.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			for _, s := range scope.Spans {
				c.spans = append(c.spans, received{s, scope.Scope.GetName(), scope.SchemaUrl, attributes(resource.Resource.GetAttributes())["process.pid"]})
			}
		}
	}
	close(c.arrived)
	c.arrived = make(chan struct{})
}

// wait blocks until a span matches, and returns it.
func (c *collector) wait(what string, match func(received) bool) received {
	c.t.Helper()
	late := time.After(time.Minute)
	for {
		c.mu.Lock()
		arrived := c.arrived
		for _, s := range c.spans {
			if match(s) {
				c.mu.Unlock()
				return s
			}
		}
		c.mu.Unlock()
		select {
		case <-arrived:
		case <-late:
			require.FailNow(c.t, "no such span arrived", "%s; those that did: %s", what, c.names())
		}
	}
}

func (c *collector) names() (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		names = append(names, s.Name)
	}
	return names
}

// attempt waits for the span of an attempt of a task.
func (c *collector) attempt(task string) received {
	c.t.Helper()
	return c.wait("attempt of "+task, func(s received) bool {
		return s.Kind == tracepb.Span_SPAN_KIND_CONSUMER && attributes(s.Attributes)["taskgen.task"] == task
	})
}

// named waits for a span of a name.
func (c *collector) named(name string) received {
	c.t.Helper()
	return c.wait(name, func(s received) bool { return s.Name == name })
}

// links returns the ids of the spans that the span links to.
func (s received) links() (ids []string) {
	for _, l := range s.Links {
		ids = append(ids, hex.EncodeToString(l.SpanId))
	}
	return ids
}

func (s received) id() string     { return hex.EncodeToString(s.SpanId) }
func (s received) parent() string { return hex.EncodeToString(s.ParentSpanId) }
func (s received) trace() string  { return hex.EncodeToString(s.TraceId) }

// attributes returns attributes as a map.
func attributes(list []*commonpb.KeyValue) map[string]any {
	m := make(map[string]any, len(list))
	for _, kv := range list {
		switch v := kv.Value.GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			m[kv.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			m[kv.Key] = v.IntValue
		default:
			m[kv.Key] = v
		}
	}
	return m
}
