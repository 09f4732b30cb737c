package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/dashboard/internal/bulk"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestMain serves runs if the process is a child of a consumer.
func TestMain(m *testing.M) {
	taskrt.ServeChild(tasks.Tasks(new(tasks.Recorder)))
	os.Exit(m.Run())
}

// site is the API on a server of its own.
type site struct {
	t      *testing.T
	server *httptest.Server
	broker broker.Broker
	client *taskrt.Client
	log    *buffer

	conformer *conformer // every reply is held to the OpenAPI document
}

// buffer is a log that may be written and read concurrently.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// newSite serves the API of a broker, the embedded one if it is nil, with the tasks of the
// test program. Without a finder everybody may do everything.
func newSite(t *testing.T, b broker.Broker, f access.Finder) *site {
	t.Helper()
	if b == nil {
		m := memory.New()
		t.Cleanup(func() { _ = m.Close() })
		b = m
	}
	all, err := taskrt.MergeTasks(tasks.Tasks(new(tasks.Recorder)))
	require.NoError(t, err)
	inspector, err := taskrt.NewInspector(b, all)
	require.NoError(t, err)
	s := &site{t: t, broker: b, client: taskrt.NewClient(b, taskrt.ClientConfig{}), log: new(buffer)}
	logger := slog.New(slog.NewTextHandler(s.log, nil))
	h := New(Config{Broker: b, Inspector: inspector, Client: s.client, Tasks: all, Jobs: bulk.New(inspector, logger), Name: "testapp", Logger: logger})
	doc := httptest.NewRecorder()
	h.ServeHTTP(doc, httptest.NewRequestWithContext(access.WithUser(t.Context(), access.NewUser("test", access.Admin, nil, nil)), http.MethodGet, Base+"/openapi.json", nil))
	s.conformer = conformerOf(t, doc.Body.Bytes())
	s.server = httptest.NewUnstartedServer(access.NewGuard(access.GuardConfig{Finder: f, Logger: logger}).Wrap(h))
	base, cancel := context.WithCancel(t.Context())
	s.server.Config.BaseContext = func(net.Listener) context.Context { return base }
	s.server.Start()
	t.Cleanup(s.server.Close)
	t.Cleanup(cancel)
	return s
}

// answer is a reply with its JSON.
type answer struct {
	*http.Response
	text string
	json map[string]any
}

// do sends a request. headers are names and values in turn.
func (s *site) do(method, path, body string, headers ...string) answer {
	s.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.server.URL+Base+path, in)
	require.NoError(s.t, err)
	if body != "" {
		req.Header.Set("Content-Type", mediaJSON)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := s.server.Client().Do(req)
	require.NoError(s.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(s.t, err)
	a := answer{Response: res, text: string(text)}
	if len(text) > 0 && strings.Contains(res.Header.Get("Content-Type"), "json") {
		require.NoError(s.t, json.Unmarshal(text, &a.json), a.text)
	}
	s.conformer.check(s.t, method, path, a)
	return a
}

// want is do, and checks the status and the code of a problem.
func (s *site) want(status int, code, method, path, body string, headers ...string) answer {
	s.t.Helper()
	a := s.do(method, path, body, headers...)
	require.Equal(s.t, status, a.StatusCode, "%s %s: %s", method, path, a.text)
	if code != "" {
		require.Equal(s.t, code, a.json["code"], "%s %s: %s", method, path, a.text)
		require.Equal(s.t, "application/problem+json", a.Header.Get("Content-Type"))
	}
	return a
}

// consume has a consumer execute the tasks until the test ends.
func (s *site) consume(recorder *tasks.Recorder) {
	s.t.Helper()
	c, err := taskrt.NewConsumer(s.broker, taskrt.ConsumerConfig{Logger: slog.New(slog.DiscardHandler)}, tasks.Tasks(recorder))
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		require.NoError(s.t, <-ended)
	})
}
