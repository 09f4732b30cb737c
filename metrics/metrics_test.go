package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/metrics"
	taskrt "github.com/taskgen/taskgen/runtime"
)

var began = time.Unix(1_000_000, 0)

// attempt returns the events of an attempt.
func attempt(task, queue string, outcome taskrt.EventKind, kind taskrt.FailureKind) [2]taskrt.Event {
	run := &taskrt.Run{ID: "1", Task: task, Queue: queue}
	e := taskrt.Event{
		Kind: taskrt.RunStarted, Run: run, Outcome: taskrt.RunStarted, Began: began,
		Waited: 20 * time.Millisecond, Took: 3 * time.Millisecond, Total: 23 * time.Millisecond,
	}
	end := e
	end.Kind, end.Outcome = taskrt.RunRecorded, outcome
	if kind != "" {
		end.Err = &taskrt.RunError{Kind: kind}
	}
	return [2]taskrt.Event{e, end}
}

func newRecorder(t testing.TB, cfg metrics.Config) *metrics.Recorder {
	t.Helper()
	r, err := metrics.NewRecorder(cfg)
	require.NoError(t, err)
	return r
}

func observe(r *metrics.Recorder, events [2]taskrt.Event) {
	r.Observe(events[0])
	r.Observe(events[1])
}

// gather returns the metrics of a collector by their names.
func gather(t testing.TB, c prometheus.Collector) map[string]*dto.MetricFamily {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(c))
	families, err := reg.Gather()
	require.NoError(t, err)
	by := make(map[string]*dto.MetricFamily)
	for _, f := range families {
		by[f.GetName()] = f
	}
	return by
}

// series returns the series of a family as "label=value …" and their values.
func series(f *dto.MetricFamily) map[string]float64 {
	values := make(map[string]float64)
	for _, m := range f.GetMetric() {
		var labels []string
		for _, l := range m.GetLabel() {
			labels = append(labels, l.GetName()+"="+l.GetValue())
		}
		v := m.GetCounter().GetValue() + m.GetGauge().GetValue()
		if h := m.GetHistogram(); h != nil {
			v = float64(h.GetSampleCount())
		}
		values[strings.Join(labels, " ")] = v
	}
	return values
}

// TestOutcomesAreCounted has an attempt of each outcome.
func TestOutcomesAreCounted(t *testing.T) {
	r := newRecorder(t, metrics.Config{})
	observe(r, attempt("a", "q", taskrt.RunSucceeded, ""))
	observe(r, attempt("a", "q", taskrt.RunRetried, taskrt.Timeout))
	observe(r, attempt("a", "q", taskrt.RunReturned, ""))
	for _, kind := range []taskrt.FailureKind{taskrt.Failed, taskrt.Timeout, taskrt.Crashed, taskrt.OOM, taskrt.Schema} {
		observe(r, attempt("a", "q", taskrt.RunFailed, kind))
	}
	observe(r, attempt("a", "q", taskrt.RunDropped, taskrt.Cancelled))
	expired := attempt("a", "q", taskrt.RunDropped, taskrt.Expired)[1]
	expired.Began, expired.Took, expired.Waited = time.Time{}, 0, 0
	r.Observe(expired)
	fenced := attempt("a", "q", taskrt.RunSucceeded, "")[1]
	fenced.Kind = taskrt.RunFenced
	r.Observe(fenced)
	r.Observe(taskrt.Event{Kind: taskrt.RunDropped, Run: expired.Run, Err: &taskrt.RunError{Kind: taskrt.Duplicate}})

	got := gather(t, r.NewCollector(memory.New()))
	want := map[string]float64{}
	for _, outcome := range []string{"succeeded", "retried", "failed", "timeout", "crashed", "oom", "cancelled", "expired", "schema", "given_back"} {
		want["outcome="+outcome+" queue=q task=a"] = 1
	}
	require.Equal(t, want, series(got["taskgen_attempts_total"]))
	require.Equal(t, map[string]float64{"task=a": 8}, series(got["taskgen_attempt_duration_seconds"]), "all but the one given back, and the one that never began")
	require.Equal(t, map[string]float64{"queue=q task=a": 9}, series(got["taskgen_wait_seconds"]))
	require.Equal(t, map[string]float64{"task=a": 8}, series(got["taskgen_total_seconds"]), "not of those that go on")
	require.EqualValues(t, 1, series(got["taskgen_runs_refused_total"])["reason=duplicate task=a"])
	require.Equal(t, map[string]float64{"task=a": 1_000_000.003}, series(got["taskgen_last_success_timestamp_seconds"]))
}

// TestQueuedRunsAreCounted has a client queue, and be refused.
func TestQueuedRunsAreCounted(t *testing.T) {
	r := newRecorder(t, metrics.Config{})
	queue := func(err error, runs ...*broker.TaskRun) {
		h := r.QueueMiddleware(func(context.Context, ...*broker.TaskRun) error { return err })
		require.Equal(t, err, h(t.Context(), runs...))
	}
	a, b := &broker.TaskRun{ID: "1", Task: "a", Queue: "q"}, &broker.TaskRun{ID: "2", Task: "b", Queue: "q"}
	queue(nil, a, a, b)
	queue(fmt.Errorf("x: %w", taskrt.ErrNotReplicated), a)
	for _, err := range []error{
		taskrt.ErrDuplicate, taskrt.ErrQueueFull, taskrt.ErrPayloadTooLarge, taskrt.ErrOutcomeUnknown,
		broker.ErrUnavailable, context.Canceled, errors.New("else"),
	} {
		queue(fmt.Errorf("x: %w", err), b, b)
	}
	got := gather(t, r.NewCollector(memory.New()))
	require.Equal(t, map[string]float64{"queue=q task=a": 3, "queue=q task=b": 1}, series(got["taskgen_runs_queued_total"]))
	want := map[string]float64{}
	for _, reason := range []string{"duplicate", "queue_full", "too_large", "outcome_unknown", "unavailable", "cancelled", "other"} {
		want["reason="+reason+" task=b"] = 2
	}
	require.Equal(t, want, series(got["taskgen_runs_refused_total"]))
	require.Equal(t, map[string]float64{"op=queue": 9}, series(got["taskgen_broker_operation_seconds"]))
}

// TestHistogramsHaveClassicAndNativeBuckets compares both with what was observed.
func TestHistogramsHaveClassicAndNativeBuckets(t *testing.T) {
	r := newRecorder(t, metrics.Config{Buckets: []float64{.001, 1, 2}})
	times := []time.Duration{-1, 0, 900 * time.Nanosecond, time.Millisecond, time.Millisecond + 1, time.Second, 1090 * time.Millisecond, 2 * time.Second, time.Hour, 1 << 62}
	for _, d := range times {
		events := attempt("a", "q", taskrt.RunRetried, taskrt.Failed)
		events[1].Took = d
		observe(r, events)
	}
	h := gather(t, r.NewCollector(memory.New()))["taskgen_attempt_duration_seconds"].GetMetric()[0].GetHistogram()
	var classic []uint64
	for _, b := range h.GetBucket() {
		classic = append(classic, b.GetCumulativeCount())
	}
	require.Equal(t, []uint64{4, 6, 8}, classic)
	require.EqualValues(t, len(times), h.GetSampleCount())

	require.EqualValues(t, 3, h.GetZeroCount())
	require.EqualValues(t, 3, h.GetSchema())
	native := map[int]int64{}
	index, count, at := 0, int64(0), 0
	for _, span := range h.GetPositiveSpan() {
		index += int(span.GetOffset())
		for range span.GetLength() {
			count += h.GetPositiveDelta()[at]
			if count != 0 {
				native[index] = count
			}
			at, index = at+1, index+1
		}
	}
	want := map[int]int64{22*8 + 7: 1} // the longest is in the last one
	for _, d := range times[3:9] {
		want[int(math.Ceil(math.Log2(d.Seconds())*8-1e-9))]++
	}
	want[int(math.Ceil(math.Log2(.001)*8))] = 2 // of a nanosecond more too
	delete(want, int(math.Ceil(math.Log2(.001)*8))+1)
	require.Equal(t, want, native)
}

// TestAHistogramHasAtMostAHundredNativeBuckets spreads times over many powers of two.
func TestAHistogramHasAtMostAHundredNativeBuckets(t *testing.T) {
	r := newRecorder(t, metrics.Config{})
	n := 0
	for d := 2 * time.Microsecond; d < 100*time.Hour; d += d/20 + 1 {
		events := attempt("a", "q", taskrt.RunRetried, taskrt.Failed)
		events[1].Took = d
		observe(r, events)
		n++
	}
	h := gather(t, r.NewCollector(memory.New()))["taskgen_attempt_duration_seconds"].GetMetric()[0].GetHistogram()
	require.LessOrEqual(t, len(h.GetPositiveDelta()), 100)
	require.Greater(t, len(h.GetPositiveDelta()), 50)
	var sum, count int64
	for _, delta := range h.GetPositiveDelta() {
		count += delta
		sum += count
	}
	require.EqualValues(t, n, sum, "none is lost as buckets are joined")
}

// TestAMillionIdsAddNoSeries has runs of a million ids, of unknown tasks and of many queues.
func TestAMillionIdsAddNoSeries(t *testing.T) {
	r := newRecorder(t, metrics.Config{MaxSeries: 100})
	r.Know([]taskrt.Task{testTask("known", "q", "former")})
	c := r.NewCollector(memory.New())
	observe(r, attempt("known", "q", taskrt.RunSucceeded, ""))
	observe(r, attempt("no_such_task", "q", taskrt.RunSucceeded, ""))
	before := testutil.CollectAndCount(c)
	started, recorded := attempt("known", "q", taskrt.RunSucceeded, "")[0], attempt("known", "q", taskrt.RunSucceeded, "")[1]
	for i := range 1_000_000 {
		started.Run.ID = fmt.Sprint(i)
		recorded.Run.ID = started.Run.ID
		r.Observe(started)
		r.Observe(recorded)
	}
	for i := range 10_000 {
		observe(r, attempt(fmt.Sprint("unknown", i), "q", taskrt.RunSucceeded, ""))
	}
	observe(r, attempt("former", "q", taskrt.RunSucceeded, ""))
	require.Equal(t, before, testutil.CollectAndCount(c))
	got := series(gather(t, c)["taskgen_attempts_total"])
	require.EqualValues(t, 1_000_002, got["outcome=succeeded queue=q task=known"], "those of its alias included")
	require.EqualValues(t, 10_001, got["outcome=succeeded queue=q task=other"])

	for i := range 10_000 {
		observe(r, attempt("known", fmt.Sprint("queue", i), taskrt.RunSucceeded, ""))
	}
	got = series(gather(t, c)["taskgen_attempts_total"])
	require.LessOrEqual(t, len(got), 110*10)
	sum := 0.0
	for labels, n := range got {
		if strings.Contains(labels, "succeeded") && strings.Contains(labels, "task=known") {
			sum += n
		}
	}
	require.EqualValues(t, 1_010_002, sum, "runs of many queues are counted as those of other")
}

// TestWrongConfigsAreRefused names the field.
func TestWrongConfigsAreRefused(t *testing.T) {
	for name, cfg := range map[string]metrics.Config{
		"Buckets has 0":        {Buckets: []float64{0}},
		"Buckets has 1 behind": {Buckets: []float64{2, 1}},
		"Buckets has NaN":      {Buckets: []float64{math.NaN()}},
		"MaxSeries is -1":      {MaxSeries: -1},
	} {
		_, err := metrics.NewRecorder(cfg)
		require.ErrorContains(t, err, name)
	}
}

// TestMetricsAreLinted by the linter of the client library.
func TestMetricsAreLinted(t *testing.T) {
	r := newRecorder(t, metrics.Config{})
	observe(r, attempt("a", "q", taskrt.RunSucceeded, ""))
	problems, err := testutil.CollectAndLint(r.NewCollector(memory.New()))
	require.NoError(t, err)
	require.Empty(t, problems)
}

// TestAnAttemptAllocatesNothing measures what a run costs beside its own work.
func TestAnAttemptAllocatesNothing(t *testing.T) {
	r := newRecorder(t, metrics.Config{})
	events := attempt("a", "q", taskrt.RunSucceeded, "")
	require.Zero(t, testing.AllocsPerRun(1000, func() { observe(r, events) }))
	h := r.QueueMiddleware(func(context.Context, ...*broker.TaskRun) error { return nil })
	run, ctx := &broker.TaskRun{Task: "a", Queue: "q"}, t.Context()
	runs := []*broker.TaskRun{run}
	require.Zero(t, testing.AllocsPerRun(1000, func() { _ = h(ctx, runs...) }))
}

// BenchmarkAnAttempt measures what counting a run costs.
func BenchmarkAnAttempt(b *testing.B) {
	r := newRecorder(b, metrics.Config{})
	r.Know([]taskrt.Task{testTask("heavy_calculation", "default")})
	events := attempt("heavy_calculation", "default", taskrt.RunSucceeded, "")
	b.ReportAllocs()
	for b.Loop() {
		r.Observe(events[0])
		r.Observe(events[1])
	}
}

// BenchmarkQueued measures what counting a queued run costs.
func BenchmarkQueued(b *testing.B) {
	r := newRecorder(b, metrics.Config{})
	h := r.QueueMiddleware(func(context.Context, ...*broker.TaskRun) error { return nil })
	runs := []*broker.TaskRun{{Task: "heavy_calculation", Queue: "default"}}
	b.ReportAllocs()
	for b.Loop() {
		_ = h(b.Context(), runs...)
	}
}

// testTask returns a task that does nothing.
func testTask(name, queue string, aliases ...string) taskrt.Task {
	return taskrt.Bind(define(taskrt.Spec{Name: name, Queue: queue, Aliases: aliases}), func(context.Context, *params) (taskrt.None, error) { return taskrt.None{}, nil })
}
