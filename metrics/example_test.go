package metrics_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/examples/greeter/tasks"
	"github.com/taskgen/taskgen/metrics"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// A program with a main of its own has its consumer, its client and a collector count into the
// default recorder.
func Example() {
	b := memory.New()
	defer b.Close()
	consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{
		Observers: []taskrt.Observer{metrics.Default()}, // or Middleware: metrics.Middleware
		Address:   ":8080",                              // of several such processes one shows the fleet
	}, tasks.Tasks())
	if err != nil {
		fmt.Println(err)
		return
	}
	taskrt.SetDefault(taskrt.NewClient(b, taskrt.ClientConfig{Middleware: []taskrt.QueueMiddleware{metrics.QueueMiddleware}}))
	defer taskrt.SetDefault(nil)
	prometheus.MustRegister(metrics.NewCollector(b, tasks.Tasks()).Watch(consumer))

	server := &http.Server{Addr: "127.0.0.1:0", Handler: promhttp.Handler(), ReadHeaderTimeout: time.Second}
	go server.ListenAndServe()
	defer server.Close()
	ctx, stop := context.WithCancel(context.Background())
	stop() // at a signal
	fmt.Println(consumer.Run(ctx))
}

// Other classic buckets need a recorder of one's own.
func ExampleNewRecorder() {
	recorder, err := metrics.NewRecorder(metrics.Config{Buckets: []float64{1, 60, 3600}})
	if err != nil {
		fmt.Println(err)
		return
	}
	b := memory.New()
	defer b.Close()
	registry := prometheus.NewRegistry()
	fmt.Println(registry.Register(recorder.NewCollector(b, tasks.Tasks())))
	// Output: <nil>
}
