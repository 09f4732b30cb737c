//go:build !windows

package taskapp_test

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/promtest"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	"github.com/taskgen/taskgen/metrics"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestPrometheusAgreesWithTheLedger has Prometheus scrape two serves under load, and the
// producer, and compares what it knows with what the runs wrote and with what was queued.
// With TASKGEN_SOAK the load lasts a minute.
func TestPrometheusAgreesWithTheLedger(t *testing.T) {
	f := newFleet(t)
	f.serve(2*time.Millisecond, "--http", "127.0.0.1:0", "--consume", "--queues", "laptop") // nobody scrapes it
	first := f.serve(2*time.Millisecond, "--http", "127.0.0.1:0", "--lease", "20s")
	second := f.serve(2*time.Millisecond, "--http", "127.0.0.1:0", "--consume", "--lease", "20s")
	recorder, err := metrics.NewRecorder(metrics.Config{})
	require.NoError(t, err)
	registry := prometheus.NewRegistry()
	require.NoError(t, registry.Register(prometheus.WrapCollectorWith(prometheus.Labels{"producer": "test"}, recorder.NewCollector(f.broker, tasks.Tasks(nil)))))
	producer := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	defer producer.Close()
	rules, err := filepath.Abs("../../docs/grafana/alerts.yml")
	require.NoError(t, err)
	config := promtest.Config{
		Targets:  []string{f.address(first), f.address(second), strings.TrimPrefix(producer.URL, "http://")},
		Interval: 500 * time.Millisecond, Rules: []string{rules},
	}
	server := promtest.Start(t, config)
	config.Native = true
	native := promtest.Start(t, config)

	records, squares := f.load(recorder)
	value := func(s *promtest.Server, expression string) float64 {
		v, _ := s.Value(expression)
		return v
	}
	equals := func(s *promtest.Server, want int, expression string) {
		t.Helper()
		f.await("Prometheus has "+expression, func() bool { return value(s, expression) == float64(want) })
	}
	f.await("all runs have ended", func() bool { _, ends := f.counts(); return total(ends) >= records })
	_, ends := f.counts()
	require.Equal(t, records, total(ends), "the ledger has each run once")
	const record, square, misbehave = `{task="recorder_record"}`, `{task="square"}`, `{task="misbehave"}`
	for _, s := range []*promtest.Server{server, native} {
		equals(s, records, `sum(taskgen_attempts_total{task="recorder_record",outcome="succeeded"})`)
		equals(s, squares, `sum(taskgen_attempts_total{task="square",outcome="succeeded"})`)
		equals(s, 1, `sum(taskgen_attempts_total{task="misbehave",outcome="failed"})`)
		equals(s, 2, `sum(taskgen_attempts_total{task="misbehave",outcome="retried"})`)
		equals(s, 1, `sum(taskgen_attempts_total{task="misbehave",outcome="timeout"})`)
		equals(s, records, `sum(taskgen_runs_queued_total`+record+`)`)
		equals(s, squares, `sum(taskgen_runs_queued_total`+square+`)`)
		equals(s, 2, `sum(taskgen_runs_queued_total`+misbehave+`)`)
		equals(s, 0, `sum(taskgen_queue_runs{state=~"ready|running|held"})`)
		equals(s, 2, `max(taskgen_queue_runs{state="dead",queue="default"})`)
		equals(s, 1, `max(taskgen_queue_runs{state="delayed",queue="mail"})`)
		equals(s, 1, `min(taskgen_up)`)
		equals(s, 2, `sum(taskgen_child_kills_total{reason="timeout"})`)
		require.Zero(t, value(s, `sum(taskgen_outcomes_fenced_total) + sum(taskgen_leases_lost_total) + sum(taskgen_runs_recovered_total)`))
	}
	for _, name := range []string{"taskgen_attempt_duration_seconds", "taskgen_wait_seconds", "taskgen_total_seconds"} {
		require.EqualValues(t, records, value(server, `sum(`+name+`_count`+record+`)`), name)
		require.EqualValues(t, records, value(server, `sum(`+name+`_bucket{task="recorder_record",le="+Inf"})`), name)
		require.EqualValues(t, records, value(native, `histogram_count(sum(`+name+record+`))`), "native: "+name)
		require.InEpsilon(t, value(server, `sum(`+name+`_sum`+record+`)`), value(native, `histogram_sum(sum(`+name+record+`))`), 1e-9, name)
	}
	require.GreaterOrEqual(t, value(server, `sum(taskgen_attempt_duration_seconds_sum`+record+`)`), .002*float64(records), "each run took two milliseconds at least")
	require.GreaterOrEqual(t, value(native, `histogram_quantile(0.01, sum(taskgen_attempt_duration_seconds`+record+`))`), .0018)
	require.Positive(t, value(server, `sum(taskgen_ticks_total{task="recorder_tick",result="queued"})`))
	require.Less(t, time.Since(time.Unix(int64(value(server, `max(taskgen_last_success_timestamp_seconds`+record+`)`)), 0)), time.Minute)
	equals(server, 1, `count(taskgen_queue_runs{producer="",queue="default",state="ready"})`) // of two serves one shows the fleet
	for _, expression := range dashboardExpressions(t) {
		server.Query(expression) // it fails the test if it cannot be evaluated
	}
	server.CheckRules()

	// What Prometheus shows of an outage.
	f.server.Stop()
	equals(server, 0, `max(taskgen_up)`)
	equals(server, 1, `absent(taskgen_queue_runs)`)
	equals(server, records, `sum(taskgen_attempts_total{task="recorder_record",outcome="succeeded"})`) // once the scrapes are in time again
	f.server.Restart()
	equals(server, 1, `min(taskgen_up)`)

	// When the serve ends that shows the fleet, the other one does.
	shows := func(target int) string {
		return `count(taskgen_queue_runs{instance="` + config.Targets[target] + `",queue="default",state="ready"})`
	}
	processes, shower := []*process{first, second}, 0
	if value(server, shows(1)) == 1 {
		shower = 1
	}
	require.NoError(t, processes[shower].end(syscall.SIGTERM))
	equals(server, 1, shows(1-shower))
	require.NoError(t, processes[1-shower].end(syscall.SIGTERM))
}

// load queues runs for a while: records of which the ledger has each, squares in child
// processes, two that become dead letters, and one that is delayed.
func (f *fleet) load(recorder *metrics.Recorder) (records, squares int) {
	f.t.Helper()
	ctx := taskrt.WithClient(f.ctx, taskrt.NewClient(f.broker, taskrt.ClientConfig{Middleware: []taskrt.QueueMiddleware{recorder.QueueMiddleware}}))
	for _, how := range []string{"error", "spin"} {
		h, err := tasks.QueueMisbehave(ctx, how)
		require.NoError(f.t, err)
		if how == "spin" {
			continue // it is killed, and tried again
		}
		_, err = h.Wait(ctx)
		require.Error(f.t, err)
	}
	_, err := tasks.QueueRecorderMail(ctx, "later", taskrt.Delay(time.Hour))
	require.NoError(f.t, err)
	lasts := 5 * time.Second
	if os.Getenv("TASKGEN_SOAK") != "" {
		lasts = time.Minute
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(lasts); time.Now().Before(end); <-tick.C {
		params := make([]tasks.RecorderRecordParams, 20)
		for i := range params {
			params[i].Note = "load"
		}
		_, err := tasks.QueueRecorderRecordBatch(ctx, params)
		require.NoError(f.t, err)
		_, err = tasks.QueueSquare(ctx, int64(squares))
		require.NoError(f.t, err)
		records, squares = records+len(params), squares+1
	}
	return records, squares
}

// dashboardExpressions returns those of all panels, for all jobs, queues and tasks.
func dashboardExpressions(t *testing.T) (expressions []string) {
	b, err := os.ReadFile("../../docs/grafana/taskgen.json")
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	require.NoError(t, json.Unmarshal(b, &dashboard))
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			expressions = append(expressions, strings.NewReplacer("$job", ".*", "$queue", ".*", "$task", ".*", "$__rate_interval", "1m").Replace(target.Expr))
		}
	}
	require.Greater(t, len(expressions), 20)
	return expressions
}

// TestTheExpositionIsRight has promtool check what serve --http shows.
func TestTheExpositionIsRight(t *testing.T) {
	f := newFleet(t)
	p := f.serve(0, "--http", "127.0.0.1:0")
	c, url := httpClient(t), "http://"+f.address(p)
	f.queue(10)
	var body string
	f.await("the runs are counted", func() bool {
		_, body = get(t, c, url+"/metrics")
		return strings.Contains(body, "\n"+`taskgen_attempts_total{outcome="succeeded",queue="default",task="recorder_record"} 10`)
	})
	own := slices.DeleteFunc(slices.Collect(strings.Lines(body)), func(line string) bool {
		return !regexp.MustCompile(`^(# (HELP|TYPE) )?taskgen_`).MatchString(line)
	})
	require.Greater(t, len(own), 100)
	output, ok := promtest.Tool(t, strings.Join(own, ""), "check", "metrics")
	require.True(t, ok, output)
}
