package browsertest

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/dashboard"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/internal/testapp/desk"
	"github.com/taskgen/taskgen/redis"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// site is a dashboard over a broker of its own.
type site struct {
	t      *testing.T
	ctx    context.Context // has the client, for the stubs
	desk   *desk.Desk
	broker *redis.Broker
	tasks  []taskrt.Task
	look   *taskrt.Inspector
	http   *httptest.Server
	base   string // address of the dashboard, with a slash at its end

	letGo func() // ends all runs of Hold
}

// sites counts the sites, so that each has keys of its own.
var sites atomic.Int64

// newSite starts a dashboard over the server of all tests.
func newSite(t *testing.T) *site {
	t.Helper()
	name := strings.NewReplacer("/", ".", " ", "_").Replace(t.Name())
	return newSiteOn(t, server, redis.Config{Prefix: fmt.Sprint(name, ".", sites.Add(1))})
}

func newSiteOn(t *testing.T, server *redistest.Server, cfg redis.Config) *site {
	t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	b, err := redis.Open(t.Context(), server.URL(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	s := &site{t: t, desk: &desk.Desk{Open: make(chan struct{})}, broker: b}
	s.letGo = sync.OnceFunc(func() { close(s.desk.Open) })
	s.tasks = desk.Tasks(s.desk)
	s.look, err = taskrt.NewInspector(b, s.tasks)
	require.NoError(t, err)
	client := taskrt.NewClient(b, taskrt.ClientConfig{})
	s.ctx = taskrt.WithClient(t.Context(), client)
	s.http = httptest.NewServer(s.handler(dashboard.Config{}))
	t.Cleanup(s.close)
	s.base = s.http.URL + "/"
	return s
}

// handler returns a dashboard of the site's broker.
func (s *site) handler(cfg dashboard.Config) http.Handler {
	s.t.Helper()
	cfg.Name, cfg.Logger = "desk", slog.New(slog.DiscardHandler)
	h, err := dashboard.New(s.broker, cfg, s.tasks)
	require.NoError(s.t, err)
	return h
}

// close ends the streams and the server.
func (s *site) close() {
	s.http.CloseClientConnections()
	s.http.Close()
}

// consume starts a consumer that ends with the test, and returns what ends it before.
func (s *site) consume(cfg taskrt.ConsumerConfig) (stop func()) {
	s.t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	if cfg.Grace == 0 {
		cfg.Grace = time.Second
	}
	consumer, err := taskrt.NewConsumer(s.broker, cfg, s.tasks)
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.ctx))
	ended := make(chan error, 1)
	go func() { ended <- consumer.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			s.letGo()
			cancel()
			require.NoError(s.t, <-ended)
		}
	}
	s.t.Cleanup(stop)
	return stop
}

// schedule starts a scheduler that ends with the test.
func (s *site) schedule() {
	s.t.Helper()
	scheduler, err := taskrt.NewScheduler(s.broker, taskrt.SchedulerConfig{Logger: slog.New(slog.DiscardHandler)}, s.tasks)
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.ctx))
	ended := make(chan error, 1)
	go func() { ended <- scheduler.Run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		require.NoError(s.t, <-ended)
	})
}

// tab opens a tab at a page.
func (s *site) tab(address string) *tab {
	s.t.Helper()
	b := newTab(s.t, s.base)
	b.open(address)
	return b
}

// greet queues a run of Greet for a guest.
func (s *site) greet(name string, opts ...taskrt.QueueOption) *taskrt.Handle[string] {
	s.t.Helper()
	h, err := desk.QueueGreetGuest(s.ctx, name, 1, time.Now(), 0, desk.Address{Street: "Hauptstr. 12", City: "Berlin"}, nil, "4711", opts...)
	require.NoError(s.t, err)
	return h
}

// queue returns what the broker knows of a queue.
func (s *site) queue(name string) taskrt.QueueStatus {
	s.t.Helper()
	all, err := s.look.Queues(s.t.Context(), name)
	require.NoError(s.t, err)
	require.Len(s.t, all.Queues, 1)
	return all.Queues[0]
}

// hostile queues a run that fails, and of which all texts are this one.
func (s *site) hostile(text string) {
	s.t.Helper()
	header := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text[:min(len(text), 60)])
	_, err := desk.QueueGreetGuest(s.ctx, "nobody", 1, time.Now(), 0, desk.Address{Street: text, City: text}, []string{text}, text, taskrt.Header("x-text", header))
	require.NoError(s.t, err)
}
