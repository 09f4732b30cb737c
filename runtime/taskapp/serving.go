package taskapp

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard"
	"github.com/taskgen/taskgen/internal/fleet"
	"github.com/taskgen/taskgen/metrics"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// Serving is a running serve --http, for [App.Handler]. Its fields are not changed. Its
// methods may be called concurrently, and their handlers as well.
type Serving struct {
	// Broker is the one that serve works on.
	Broker broker.Broker
	// Tasks are those of the program.
	Tasks []taskrt.Task
	// Logger is that of serve.
	Logger *slog.Logger
	// Registry has the metrics of [Serving.Metrics]: those of package metrics, of Go's
	// runtime and of the process. An application may add its own.
	Registry *prometheus.Registry

	auth      *httpAccess
	prefix    string
	hosts     []string
	dashboard http.Handler
	fleet     *fleet.Reader
	healths   []func() taskrt.Health
	state     atomic.Int32
	told      [2]atomic.Pointer[string] // why a probe last failed, by probe; nil: it did not
}

// The states of serve.
const (
	stateStarting int32 = iota
	stateServing
	stateStopping
)

// newServing returns what serve --http shows of these roles.
func newServing(b broker.Broker, r roles, client *taskrt.Client, o *serveOptions, logger *slog.Logger) *Serving {
	s := &Serving{Broker: b, Tasks: r.tasks, Logger: logger, Registry: prometheus.NewRegistry(), auth: &o.auth, prefix: o.prefix, hosts: o.hosts}
	if o.http != "" {
		s.dashboard = s.newDashboard(client)
	}
	collector := metrics.NewCollector(b, r.tasks)
	if r.consumer != nil {
		collector.Watch(r.consumer)
		s.healths = append(s.healths, r.consumer.Health)
	}
	if r.scheduler != nil {
		collector.WatchScheduler(r.scheduler)
		s.healths = append(s.healths, r.scheduler.Health)
	}
	s.Registry.MustRegister(collector, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.fleet = fleet.NewReader(b, ownQueues(r.tasks)...)
	return s
}

// measure has the package metrics count what a consumer and a client do.
func measure(consumer *taskrt.ConsumerConfig, client *taskrt.ClientConfig) {
	consumer.Observers = append(slices.Clip(consumer.Observers), metrics.Default())
	client.Middleware = append(slices.Clip(client.Middleware), metrics.QueueMiddleware)
}

// begin has serve be ready until ctx ends. The caller calls end.
func (s *Serving) begin(ctx context.Context) (end func()) {
	s.state.CompareAndSwap(stateStarting, stateServing)
	stop := context.AfterFunc(ctx, func() { s.state.Store(stateStopping) })
	return func() {
		stop()
		s.state.Store(stateStopping)
	}
}

// ownQueues returns the queues of the tasks, sorted.
func ownQueues(tasks []taskrt.Task) []string {
	var queues []string
	for _, t := range tasks {
		queues = append(queues, t.Spec().Queues()...)
	}
	slices.Sort(queues)
	return slices.Compact(queues)
}

// newDashboard returns the dashboard, or a handler that says why there is none.
func (s *Serving) newDashboard(client *taskrt.Client) http.Handler {
	h, err := dashboard.New(s.Broker, dashboard.Config{Access: s.auth.access, Client: client, Logger: s.Logger, Prefix: s.prefix, Hosts: s.hosts}, s.Tasks)
	if err == nil {
		return h
	}
	s.Logger.Warn("there is no dashboard", "error", err)
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "there is no dashboard: the broker lacks a part of the contract that it needs; the log of serve names it", http.StatusNotImplemented)
	})
}

// Handler returns what serve --http serves without an [App.Handler]: the dashboard and its
// API, /metrics, /livez, /readyz and /scale. With --http-auth probes alone there is no
// dashboard, and a path that is none of the others is not found.
func (s *Serving) Handler() http.Handler {
	own := map[string]http.Handler{"/metrics": s.Metrics(), "/livez": s.Live(), "/readyz": s.Ready(), "/scale": s.Scale()}
	if !s.auth.probes {
		own["/metrics"], own["/scale"] = s.Restrict(own["/metrics"], dashboard.ActionRead), s.Restrict(own["/scale"], dashboard.ActionRead)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// No ServeMux: it would redirect paths by detours before the access is known.
		handler, found := own[r.URL.Path]
		switch {
		case found && r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, r.URL.Path+" is for GET", http.StatusMethodNotAllowed)
		case found:
			handler.ServeHTTP(w, r)
		case s.auth.probes && !s.auth.chosen:
			http.Error(w, "not found; here are /metrics, /livez, /readyz and /scale?queue=NAME", http.StatusNotFound)
		case s.prefix != "" && r.URL.Path != s.prefix && !strings.HasPrefix(r.URL.Path, s.prefix+"/"):
			http.Error(w, "not found; here are /metrics, /livez, /readyz, /scale?queue=NAME and "+s.prefix+"/", http.StatusNotFound)
		default:
			s.dashboard.ServeHTTP(w, r)
		}
	})
}

// Dashboard returns the dashboard and its API, behind the access that --http-auth or
// [App.Access] gives.
func (s *Serving) Dashboard() http.Handler { return s.dashboard }

// Restrict returns a handler that lets a request pass to the next one if its user may do the
// action with all tasks, by --http-auth or [App.Access].
func (s *Serving) Restrict(next http.Handler, action dashboard.Action) http.Handler {
	return dashboard.Restrict(next, action, dashboard.Config{Access: s.auth.access, Logger: s.Logger, Hosts: s.hosts})
}

// Metrics returns a handler of the metrics, for Prometheus.
func (s *Serving) Metrics() http.Handler {
	return promhttp.HandlerFor(s.Registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(s.Logger.Handler(), slog.LevelWarn), MaxRequestsInFlight: 10,
	})
}

// Live returns a handler that replies with status 200 as long as the loops of the consumer
// and the scheduler turn, and else with 503: then only a restart helps. It does not ask the
// broker, so an outage of that restarts nothing.
func (s *Serving) Live() http.Handler {
	return s.probe(0, "live", func(h taskrt.Health) bool { return h.Live })
}

// Ready returns a handler that replies with status 200 if the consumer and the scheduler
// work, and with 503 while serve starts, while the broker does not reply, and once serve was
// asked to stop. It does not ask the broker itself.
func (s *Serving) Ready() http.Handler {
	return s.probe(1, "ready", func(h taskrt.Health) bool { return h.Ready })
}

// probe returns a handler of a probe. It logs why the probe fails, each time that changes,
// and does not show it: anybody may ask.
func (s *Serving) probe(n int, word string, passes func(taskrt.Health) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		why := ""
		if n == 1 {
			why = [...]string{stateStarting: "serve starts", stateServing: "", stateStopping: "serve stops"}[s.state.Load()]
		}
		for _, health := range s.healths {
			if h := health(); why == "" && s.state.Load() != stateStarting && !passes(h) {
				why = h.Reason
			}
		}
		last := s.told[n].Swap(&why)
		if why != "" && (last == nil || *last != why) {
			s.Logger.Warn("not "+word, "reason", why)
		}
		w.Header().Set("Cache-Control", "no-store")
		if why != "" {
			http.Error(w, "not "+word, http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(word + "\n"))
	})
}

// readFleet returns what the broker knows of its queues, at most a second old.
func (s *Serving) readFleet(ctx context.Context) *fleet.Fleet { return s.fleet.Read(ctx) }
