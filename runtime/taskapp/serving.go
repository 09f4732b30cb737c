package taskapp

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/taskgen/taskgen/broker"
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

	fleet   *fleet.Reader
	healths []func() taskrt.Health
	state   atomic.Int32
	told    [2]atomic.Pointer[string] // why a probe last failed, by probe; nil: it did not
}

// The states of serve.
const (
	stateStarting int32 = iota
	stateServing
	stateStopping
)

// newServing returns what serve --http shows of these roles.
func newServing(b broker.Broker, r roles, logger *slog.Logger) *Serving {
	s := &Serving{Broker: b, Tasks: r.tasks, Logger: logger, Registry: prometheus.NewRegistry()}
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

// Handler returns what serve --http serves without an [App.Handler]: /metrics, /livez,
// /readyz and /scale. A path that is none of these is not found.
func (s *Serving) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, handler := range map[string]http.Handler{"/metrics": s.Metrics(), "/livez": s.Live(), "/readyz": s.Ready(), "/scale": s.Scale()} {
		mux.Handle("GET "+path, handler)
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, path+" is for GET", http.StatusMethodNotAllowed)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "not found; here are /metrics, /livez, /readyz and /scale?queue=NAME", http.StatusNotFound)
	})
	return mux
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
