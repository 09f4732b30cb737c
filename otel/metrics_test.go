package otel_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskotel "github.com/taskgen/taskgen/otel"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// collect returns the metrics of a reader by their names.
func collect(t *testing.T, reader *sdkmetric.ManualReader) map[string]metricdata.Metrics {
	var all metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(context.Background(), &all))
	require.Len(t, all.ScopeMetrics, 1)
	require.Equal(t, taskotel.SchemaURL, all.ScopeMetrics[0].Scope.SchemaURL)
	byName := make(map[string]metricdata.Metrics)
	for _, m := range all.ScopeMetrics[0].Metrics {
		byName[m.Name] = m
	}
	return byName
}

// counts returns the values of a counter, by task and, behind a space, error.type.
func counts(t *testing.T, m metricdata.Metrics) map[string]int64 {
	sum, ok := m.Data.(metricdata.Sum[int64])
	require.True(t, ok)
	require.True(t, sum.IsMonotonic)
	found := make(map[string]int64)
	for _, p := range sum.DataPoints {
		found[labels(p.Attributes)] = p.Value
	}
	return found
}

func labels(set attribute.Set) string {
	task, _ := set.Value("taskgen.task")
	failed, ok := set.Value("error.type")
	if !ok {
		return task.AsString()
	}
	return task.AsString() + " " + failed.AsString()
}

// times returns the histogram's counts, as counts does, and checks its buckets.
func times(t *testing.T, m metricdata.Metrics) map[string]uint64 {
	histogram, ok := m.Data.(metricdata.Histogram[float64])
	require.True(t, ok)
	require.Equal(t, "s", m.Unit)
	found := make(map[string]uint64)
	for _, p := range histogram.DataPoints {
		require.Equal(t, []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}, p.Bounds)
		found[labels(p.Attributes)] = p.Count
	}
	return found
}

func TestMetricsAreThoseOfTheConventions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := sdkmetric.NewManualReader()
		meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
		f, b := newTracing(t, taskotel.WithMeterProvider(meters)), newMemory(t)
		ctx := f.client(b)
		f.consume(ctx, b, taskrt.ConsumerConfig{}, func(ctx context.Context, run *taskrt.Run, note string) error {
			time.Sleep(3 * time.Second)
			if note == "fails" {
				return taskrt.Permanent(errors.New("no luck"))
			}
			return nil
		})
		_, err := tasks.QueueRecorderRecordBatch(ctx, make([]tasks.RecorderRecordParams, 10))
		require.NoError(t, err)
		_, err = tasks.QueueRecorderRecord(ctx, "fails", taskrt.ID("7"))
		require.NoError(t, err)
		_, err = tasks.QueueRecorderRecord(ctx, "again", taskrt.ID("7"))
		require.ErrorIs(t, err, taskrt.ErrDuplicate)
		mail := taskrt.Group([]taskrt.Call[taskrt.None]{tasks.CallRecorderMail("ada")}, taskrt.After[[]taskrt.None](tasks.CallRecorderRecord("x")))
		_, err = mail.Queue(ctx)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		synctest.Wait()
		found := collect(t, reader)
		require.Len(t, found, 4)
		require.Equal(t, map[string]int64{"recorder_record": 12, "recorder_record duplicate": 1, "recorder_mail": 1}, counts(t, found["messaging.client.sent.messages"]))
		require.Equal(t, map[string]int64{"recorder_record": 11, "recorder_record failed": 1, "recorder_mail": 1}, counts(t, found["messaging.client.consumed.messages"]))
		require.Equal(t, map[string]uint64{"recorder_record": 2, "recorder_record duplicate": 1, "": 1}, times(t, found["messaging.client.operation.duration"]))
		process := found["messaging.process.duration"]
		require.Equal(t, map[string]uint64{"recorder_record": 11, "recorder_record failed": 1, "recorder_mail": 1}, times(t, process))
		for _, p := range process.Data.(metricdata.Histogram[float64]).DataPoints {
			require.InDelta(t, 3*float64(p.Count), p.Sum, 0.1, "in seconds")
			require.Equal(t, map[string]string{"recorder_record": "default", "recorder_mail": "mail"}[attr(p.Attributes, "taskgen.task")], attr(p.Attributes, "messaging.destination.name"))
			require.Equal(t, "taskgen", attr(p.Attributes, "messaging.system"))
			require.Equal(t, "process", attr(p.Attributes, "messaging.operation.name"))
		}
	})
}

func attr(set attribute.Set, key attribute.Key) string {
	value, _ := set.Value(key)
	return value.AsString()
}

// TestOldConventionsOnlyIfAskedFor: the variable lists messaging/dup.
func TestOldConventionsOnlyIfAskedFor(t *testing.T) {
	for list, old := range map[string]bool{"": false, "messaging": false, "http/dup,database": false, "http, messaging/dup ,messaging": true} {
		t.Run(list, func(t *testing.T) {
			t.Setenv("OTEL_SEMCONV_STABILITY_OPT_IN", list)
			synctest.Test(t, func(t *testing.T) {
				reader := sdkmetric.NewManualReader()
				f, b := newTracing(t, taskotel.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))), newMemory(t)
				ctx := f.client(b)
				f.consume(ctx, b, taskrt.ConsumerConfig{}, nil)
				_, err := tasks.QueueRecorderRecord(ctx, "x")
				require.NoError(t, err)
				time.Sleep(time.Second)
				synctest.Wait()
				sent, attempt := values(f.one("send default").Attributes), values(f.one("process default").Attributes)
				require.Equal(t, "send", sent["messaging.operation.type"])
				require.Equal(t, "process", attempt["messaging.operation.type"])
				found := collect(t, reader)
				if !old {
					require.NotContains(t, sent, "messaging.operation")
					require.NotContains(t, attempt, "messaging.operation")
					require.Len(t, found, 4)
					return
				}
				require.Equal(t, "publish", sent["messaging.operation"])
				require.Equal(t, "deliver", attempt["messaging.operation"])
				require.Len(t, found, 8)
				for _, name := range []string{"messaging.publish.messages", "messaging.deliver.messages"} {
					require.Equal(t, map[string]int64{"recorder_record": 1}, counts(t, found[name]))
				}
				for _, name := range []string{"messaging.publish.duration", "messaging.deliver.duration"} {
					require.Equal(t, map[string]uint64{"recorder_record": 1}, times(t, found[name]))
				}
			})
		})
	}
}
