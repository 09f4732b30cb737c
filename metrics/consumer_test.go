package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/metrics"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// params are no parameters.
type params struct{}

func (*params) append(b []byte) ([]byte, error) { return append(b, 0x80), nil }

func (*params) read(r *codec.Reader) {
	for n := r.MapLen(); n > 0 && r.More(); n-- {
		r.Key()
		r.Skip()
	}
}

// define returns what a task without parameters is made of.
func define(spec taskrt.Spec) *taskrt.Definition[params, taskrt.None] {
	return &taskrt.Definition[params, taskrt.None]{Spec: spec, AppendParams: (*params).append, ReadParams: (*params).read}
}

// boundTask returns a task of the queue default that calls do.
func boundTask(name string, do func(context.Context) error) taskrt.Task {
	return taskrt.Bind(define(taskrt.Spec{Name: name, Queue: "default", Timeout: time.Minute}), func(ctx context.Context, _ *params) (taskrt.None, error) { return taskrt.None{}, do(ctx) })
}

// TestMiddlewareAloneCounts has a consumer with the middleware of a recorder alone, and one
// with both the middleware and the recorder as observer.
func TestMiddlewareAloneCounts(t *testing.T) {
	for name, observed := range map[string]bool{"middleware alone": false, "and an observer": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := memory.New()
				defer b.Close()
				task := boundTask("t", func(context.Context) error { time.Sleep(2 * time.Second); return nil })
				r := newRecorder(t, metrics.Config{})
				cfg := taskrt.ConsumerConfig{Logger: slog.New(slog.DiscardHandler), Concurrency: 1, Middleware: []taskrt.Middleware{r.Middleware}}
				if observed {
					cfg.Observers = []taskrt.Observer{r}
				}
				consumer, err := taskrt.NewConsumer(b, cfg, []taskrt.Task{task})
				require.NoError(t, err)
				ctx, stop := context.WithCancel(t.Context())
				stopped := make(chan error, 1)
				go func() { stopped <- consumer.Run(ctx) }()
				for range 3 {
					_, err = taskrt.NewClient(b, taskrt.ClientConfig{}).QueueTask(t.Context(), task, []byte{0x80})
					require.NoError(t, err)
				}
				collector := r.NewCollector(b, []taskrt.Task{task}).Watch(consumer)
				time.Sleep(time.Second)
				got := gather(t, collector)
				require.EqualValues(t, 1, series(got["taskgen_slots_busy"])["kind=io"])
				require.EqualValues(t, 1, series(got["taskgen_wait_seconds"])["queue=default task=t"], "the wait is known from the start on")
				require.EqualValues(t, 2, series(got["taskgen_queue_runs"])["queue=default state=ready"]+series(got["taskgen_queue_runs"])["queue=default state=running"]-1)
				time.Sleep(time.Minute)
				got = gather(t, collector)
				require.EqualValues(t, 3, series(got["taskgen_attempts_total"])["outcome=succeeded queue=default task=t"])
				require.EqualValues(t, 3, series(got["taskgen_attempt_duration_seconds"])["task=t"])
				h := got["taskgen_attempt_duration_seconds"].GetMetric()[0].GetHistogram()
				require.InDelta(t, 6, h.GetSampleSum(), 1e-9)
				require.InDelta(t, 0+2+4, got["taskgen_wait_seconds"].GetMetric()[0].GetHistogram().GetSampleSum(), .1)
				require.InDelta(t, 2+4+6, got["taskgen_total_seconds"].GetMetric()[0].GetHistogram().GetSampleSum(), .1)
				stop()
				require.NoError(t, <-stopped)
			})
		})
	}
}

// TestTicksOfASchedulerAreShown watches one.
func TestTicksOfASchedulerAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.New()
		defer b.Close()
		d := define(taskrt.Spec{Name: "t", Queue: "default", Schedule: taskrt.Timing{Every: time.Second}})
		task := taskrt.Bind(d, func(context.Context, *params) (taskrt.None, error) { return taskrt.None{}, nil })
		scheduler, err := taskrt.NewScheduler(b, taskrt.SchedulerConfig{Logger: slog.New(slog.DiscardHandler)}, []taskrt.Task{task})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		stopped := make(chan error, 1)
		go func() { stopped <- scheduler.Run(ctx) }()
		time.Sleep(10*time.Second + time.Millisecond)
		got := gather(t, newRecorder(t, metrics.Config{}).NewCollector(b, []taskrt.Task{task}).WatchScheduler(scheduler))
		require.EqualValues(t, 10, series(got["taskgen_ticks_total"])["result=queued task=t"])
		require.EqualValues(t, 10, series(got["taskgen_tick_lag_seconds"])[""])
		stop()
		require.NoError(t, <-stopped)
	})
}

// BenchmarkConsumer measures a run on the embedded broker, without metrics and with them.
func BenchmarkConsumer(b *testing.B) {
	for _, by := range []string{"none", "observer", "middleware"} {
		b.Run("metrics="+by, func(b *testing.B) {
			broke := memory.New()
			defer broke.Close()
			var ended atomic.Int64
			done := make(chan struct{})
			task := boundTask("t", func(context.Context) error {
				if ended.Add(1) == int64(b.N) {
					close(done)
				}
				return nil
			})
			cfg := taskrt.ConsumerConfig{Logger: slog.New(slog.DiscardHandler)}
			switch by {
			case "observer":
				cfg.Observers = []taskrt.Observer{newRecorder(b, metrics.Config{})}
			case "middleware":
				cfg.Middleware = []taskrt.Middleware{newRecorder(b, metrics.Config{}).Middleware}
			}
			consumer, err := taskrt.NewConsumer(broke, cfg, []taskrt.Task{task})
			require.NoError(b, err)
			runs := make([]*broker.TaskRun, b.N)
			for i := range runs {
				runs[i] = &broker.TaskRun{ID: fmt.Sprint(i), Task: "t", Queue: "default", Payload: []byte{0x80}, QueuedAt: time.Now()}
			}
			for len(runs) > 0 {
				n := min(len(runs), broker.MaxRuns)
				require.NoError(b, broke.QueueTasks(b.Context(), runs[:n]...))
				runs = runs[n:]
			}
			ctx, stop := context.WithCancel(b.Context())
			stopped := make(chan error, 1)
			b.ReportAllocs()
			b.ResetTimer()
			go func() { stopped <- consumer.Run(ctx) }()
			<-done
			b.StopTimer()
			stop()
			require.NoError(b, <-stopped)
		})
	}
}

// byEvents hides that a recorder counts by itself, so that its consumer tells it of each event.
type byEvents struct{ r *metrics.Recorder }

func (b byEvents) Observe(e taskrt.Event) { b.r.Observe(e) }

// ofStarted returns the series without those of runs that never started, which no middleware sees.
func ofStarted(series map[string]float64) map[string]float64 {
	maps.DeleteFunc(series, func(labels string, _ float64) bool { return strings.Contains(labels, "task=expires") })
	return series
}

// TestARecorderCountsTheSameByEvents has one of the recorders of a consumer told of events.
func TestARecorderCountsTheSameByEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.New()
		defer b.Close()
		attempts := make(map[string]int)
		spec := taskrt.Spec{Queue: "default", Timeout: time.Second, Retry: taskrt.RetryPolicy{Attempts: 2, Min: time.Second, Max: time.Second}}
		tasks := make([]taskrt.Task, 0, 7)
		for name, do := range map[string]func(ctx context.Context, n int) error{
			"fine":    func(context.Context, int) error { return nil },
			"expires": func(context.Context, int) error { return nil },
			"again":   func(_ context.Context, n int) error { return map[int]error{1: errors.New("not yet")}[n] },
			"bad":     func(context.Context, int) error { return taskrt.Permanent(errors.New("bad")) },
			"panics":  func(context.Context, int) error { panic("at the disco") },
			"slow":    func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() },
			"snoozes": func(_ context.Context, n int) error { return map[int]error{1: taskrt.Snooze(time.Second)}[n] },
		} {
			spec.Name, spec.Expire = name, map[string]time.Duration{"expires": time.Second}[name]
			tasks = append(tasks, taskrt.Bind(define(spec), func(ctx context.Context, _ *params) (taskrt.None, error) {
				attempts[name]++
				return taskrt.None{}, do(ctx, attempts[name])
			}))
		}
		direct, told, within := newRecorder(t, metrics.Config{}), newRecorder(t, metrics.Config{}), newRecorder(t, metrics.Config{})
		client := taskrt.NewClient(b, taskrt.ClientConfig{})
		for _, task := range tasks {
			_, err := client.QueueTask(t.Context(), task, []byte{0x80})
			require.NoError(t, err)
		}
		require.NoError(t, b.Pause(t.Context(), "default", true))
		time.AfterFunc(5*time.Second, func() { require.NoError(t, b.Pause(t.Context(), "default", false)) })
		consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{
			Logger: slog.New(slog.DiscardHandler), Concurrency: 1, Observers: []taskrt.Observer{direct, byEvents{told}},
			Middleware: []taskrt.Middleware{within.Middleware},
		}, tasks)
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		stopped := make(chan error, 1)
		go func() { stopped <- consumer.Run(ctx) }()
		time.Sleep(time.Minute)
		stop()
		require.NoError(t, <-stopped)
		got, want, middle := gather(t, direct.NewCollector(b, tasks)), gather(t, told.NewCollector(b, tasks)), gather(t, within.NewCollector(b, tasks))
		for _, name := range []string{"attempts_total", "attempt_duration_seconds", "wait_seconds", "total_seconds", "runs_refused_total"} {
			require.Equal(t, series(want["taskgen_"+name]), series(got["taskgen_"+name]), name)
			require.Equal(t, ofStarted(series(want["taskgen_"+name])), ofStarted(series(middle["taskgen_"+name])), name)
		}
		require.EqualValues(t, 1, series(got["taskgen_attempts_total"])["outcome=given_back queue=default task=snoozes"])
		require.EqualValues(t, 1, series(got["taskgen_attempts_total"])["outcome=expired queue=default task=expires"])
		require.EqualValues(t, 2, series(got["taskgen_attempts_total"])["outcome=retried queue=default task=panics"]+series(got["taskgen_attempts_total"])["outcome=failed queue=default task=panics"])
	})
}
