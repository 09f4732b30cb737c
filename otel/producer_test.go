package otel_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskotel "github.com/taskgen/taskgen/otel"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// headersOf returns the headers of the runs that wait in the queue default.
func headersOf(t *testing.T, b broker.Broker) (all []map[string]string) {
	t.Helper()
	runs, err := b.GetTaskRuns(context.Background(), []string{"default"}, broker.MaxRuns)
	require.NoError(t, err)
	for _, run := range runs {
		all = append(all, run.Headers)
	}
	return all
}

// parentOf returns the span context as a traceparent header.
func parentOf(c trace.SpanContext) string {
	return fmt.Sprintf("00-%s-%s-%s", c.TraceID(), c.SpanID(), c.TraceFlags())
}

func TestAQueuedRunIsASendSpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := newTracing(t), newMemory(t)
		ctx, parent := f.provider.Tracer("test").Start(f.client(b), "request")
		handle, err := tasks.QueueRecorderRecord(ctx, "x")
		require.NoError(t, err)
		parent.End()
		s := f.one("send default")
		require.Equal(t, trace.SpanKindProducer, s.SpanKind)
		require.Equal(t, parent.SpanContext().SpanID(), s.Parent.SpanID())
		require.Equal(t, map[string]any{
			"messaging.system": "taskgen", "messaging.operation.name": "send", "messaging.operation.type": "send",
			"messaging.destination.name": "default", "messaging.message.id": handle.ID, "messaging.message.conversation_id": handle.ID,
			"taskgen.task": "recorder_record",
		}, values(s.Attributes))
		require.Equal(t, codes.Unset, s.Status.Code)
		require.Equal(t, "https://opentelemetry.io/schemas/1.43.0", s.InstrumentationScope.SchemaURL)
		require.Equal(t, taskotel.SchemaURL, s.InstrumentationScope.SchemaURL)
		require.Equal(t, "github.com/taskgen/taskgen/otel", s.InstrumentationScope.Name)
		require.Equal(t, []map[string]string{{"traceparent": parentOf(s.SpanContext)}}, headersOf(t, b))
	})
}

func TestABatchIsOneSpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := newTracing(t), newMemory(t)
		_, err := tasks.QueueRecorderRecordBatch(f.client(b), make([]tasks.RecorderRecordParams, 1000))
		require.NoError(t, err)
		require.Len(t, f.exporter.GetSpans(), 1)
		s := f.one("send default")
		require.Equal(t, trace.SpanKindProducer, s.SpanKind)
		attrs := values(s.Attributes)
		require.EqualValues(t, 1000, attrs["messaging.batch.message_count"])
		require.Equal(t, "recorder_record", attrs["taskgen.task"])
		require.NotContains(t, attrs, "messaging.message.id")
		headers := headersOf(t, b)
		require.Len(t, headers, 1000)
		for _, h := range headers {
			require.Equal(t, parentOf(s.SpanContext), h["traceparent"])
		}
	})
}

func TestABatchIsOneSpanForEachRunIfAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := newTracing(t, taskotel.WithCreateSpans()), newMemory(t)
		handles, err := tasks.QueueRecorderRecordBatch(f.client(b), make([]tasks.RecorderRecordParams, 3))
		require.NoError(t, err)
		send := f.one("send default")
		require.Equal(t, trace.SpanKindClient, send.SpanKind)
		require.EqualValues(t, 3, values(send.Attributes)["messaging.batch.message_count"])
		created := f.spans()["create default"]
		require.Len(t, created, 3)
		var ids []trace.SpanID
		for i, headers := range headersOf(t, b) {
			ids = append(ids, created[i].SpanContext.SpanID())
			require.Equal(t, trace.SpanKindProducer, created[i].SpanKind)
			require.Equal(t, handles[i].ID, values(created[i].Attributes)["messaging.message.id"])
			require.Equal(t, "create", values(created[i].Attributes)["messaging.operation.type"])
			require.Equal(t, parentOf(created[i].SpanContext), headers["traceparent"])
		}
		require.Equal(t, ids, linked(send))
		f.exporter.Reset()
		_, err = tasks.QueueRecorderRecord(f.client(b), "alone")
		require.NoError(t, err)
		require.Len(t, f.exporter.GetSpans(), 1, "a single run needs none")
		require.Equal(t, trace.SpanKindProducer, f.one("send default").SpanKind)
	})
}

// TestAContextOfTheCallersOwnStays, and the span links to it.
func TestAContextOfTheCallersOwnStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := newTracing(t), newMemory(t)
		const own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		_, err := tasks.QueueRecorderRecord(f.client(b), "x", taskrt.Header("traceparent", own))
		require.NoError(t, err)
		s := f.one("send default")
		require.Equal(t, trace.SpanKindClient, s.SpanKind)
		require.Len(t, s.Links, 1)
		require.Equal(t, own, parentOf(s.Links[0].SpanContext))
		require.Equal(t, []map[string]string{{"traceparent": own}}, headersOf(t, b))
	})
}

// TestACallOfManyRunsCountsThoseThatItQueues: what follows them is within them.
func TestACallOfManyRunsCountsThoseThatItQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := newTracing(t), newMemory(t)
		ctx := f.client(b)
		record := func(opts ...taskrt.QueueOption) taskrt.Call[taskrt.None] {
			return tasks.CallRecorderRecord("x").With(opts...)
		}
		after := taskrt.After[taskrt.None](record())
		chain := taskrt.Then(taskrt.Then(record(taskrt.ID("first")), after), after)
		_, err := chain.Queue(ctx)
		require.NoError(t, err)
		attrs := values(f.one("send default").Attributes)
		require.Equal(t, "first", attrs["messaging.message.id"])
		require.NotContains(t, attrs, "messaging.batch.message_count")

		f.exporter.Reset()
		mail := tasks.CallRecorderMail("ada")
		_, err = taskrt.Group([]taskrt.Call[taskrt.None]{record(), mail, taskrt.Then(record(), after)}, taskrt.After[[]taskrt.None](record())).Queue(ctx)
		require.NoError(t, err)
		attrs = values(f.one("send").Attributes)
		require.EqualValues(t, 4, attrs["messaging.batch.message_count"], "three members and what gathers them")
		require.NotContains(t, attrs, "messaging.destination.name", "there are two queues")
		require.NotContains(t, attrs, "taskgen.task")
	})
}

func TestErrorsOfACallAreOnItsSpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			err  error
			want string
		}{
			{taskrt.ErrDuplicate, "duplicate"},
			{fmt.Errorf("queue: %w", taskrt.ErrQueueFull), "queue_full"},
			{taskrt.ErrPayloadTooLarge, "payload_too_large"},
			{taskrt.ErrNotReplicated, "not_replicated"},
			{taskrt.ErrOutcomeUnknown, "outcome_unknown"},
			{broker.ErrClosed, "closed"},
			{context.DeadlineExceeded, "timeout"},
			{context.Canceled, "canceled"},
			{fmt.Errorf("dial: %w", errors.New("refused")), "*errors.errorString"},
		} {
			f := newTracing(t)
			err := taskotel.QueueMiddleware(f.options...)(func(context.Context, ...*broker.TaskRun) error { return c.err })(
				context.Background(), &broker.TaskRun{ID: "1", Task: "t", Queue: "q"})
			require.Equal(t, c.err, err)
			s := f.one("send q")
			require.Equal(t, codes.Error, s.Status.Code)
			require.Equal(t, c.err.Error(), s.Status.Description)
			require.Equal(t, c.want, values(s.Attributes)["error.type"])
		}
	})
}

// TestASpanEndsAlthoughTheCallPanics.
func TestASpanEndsAlthoughTheCallPanics(t *testing.T) {
	f := newTracing(t)
	require.Panics(t, func() {
		_ = taskotel.QueueMiddleware(f.options...)(func(context.Context, ...*broker.TaskRun) error { panic("no luck") })(
			context.Background(), &broker.TaskRun{ID: "1", Task: "t", Queue: "q"})
	})
	require.Panics(t, func() {
		_ = taskotel.Middleware(f.options...)(func(context.Context, *taskrt.Run) error { panic("no luck") })(
			context.Background(), &taskrt.Run{ID: "1", Task: "t", Queue: "q"})
	})
	require.Equal(t, codes.Error, f.one("send q").Status.Code)
	require.Equal(t, codes.Error, f.one("process q").Status.Code)
}

// TestHeadersNeverMakeARunInvalid: baggage that is too large for a header, or one too many,
// is dropped.
func TestHeadersNeverMakeARunInvalid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := newTracing(t), newMemory(t)
		large, err := baggage.NewMember("k", strings.Repeat("v", broker.MaxHeader))
		require.NoError(t, err)
		bag, err := baggage.New(large)
		require.NoError(t, err)
		ctx := baggage.ContextWithBaggage(f.client(b), bag)
		_, err = tasks.QueueRecorderRecord(ctx, "large")
		require.NoError(t, err)
		full := make([]taskrt.QueueOption, broker.MaxHeaders)
		for i := range full {
			full[i] = taskrt.Header(strings.Repeat("h", i+1), "")
		}
		_, err = tasks.QueueRecorderRecord(f.client(b), "full", full...)
		require.NoError(t, err)
		small, err := baggage.NewMember("k", "v")
		require.NoError(t, err)
		bag, err = baggage.New(small)
		require.NoError(t, err)
		_, err = tasks.QueueRecorderRecord(baggage.ContextWithBaggage(f.client(b), bag), "one place", full[1:]...)
		require.NoError(t, err)
		headers := headersOf(t, b)
		require.Len(t, headers[0], 1)
		require.Contains(t, headers[0], "traceparent")
		require.Len(t, headers[1], broker.MaxHeaders)
		require.NotContains(t, headers[1], "traceparent")
		require.Len(t, headers[2], broker.MaxHeaders)
		require.Contains(t, headers[2], "traceparent", "it comes before baggage")
	})
}

// TestAContextThatIsNotSampledTravelsToo, so that the other side does not sample it either.
func TestAContextThatIsNotSampledTravelsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := newTracing(t), newMemory(t)
		f.options = []taskotel.Option{taskotel.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample())))}
		_, err := tasks.QueueRecorderRecord(f.client(b), "x")
		require.NoError(t, err)
		require.Regexp(t, "^00-.*-00$", headersOf(t, b)[0]["traceparent"])
		time.Sleep(time.Second)
		synctest.Wait()
	})
}

// TestWithoutAProviderContextsTravel, and that is all: runs have the caller's context in their
// headers, and the middleware cost next to nothing.
func TestWithoutAProviderContextsTravel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := newTracing(t), newMemory(t)
		f.options = nil
		const remote = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		ctx := f.client(b)
		var seen []string
		f.consume(ctx, b, taskrt.ConsumerConfig{}, func(ctx context.Context, run *taskrt.Run, note string) error {
			seen = append(seen, note+" "+run.Headers["traceparent"])
			return nil
		})
		record := tasks.CallRecorderRecord
		_, err := record("no trace").Queue(ctx)
		require.NoError(t, err)
		time.Sleep(time.Second)
		synctest.Wait()
		traced := propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": remote})
		_, err = taskrt.Then(record("first"), taskrt.After[taskrt.None](record("second"))).Queue(traced)
		require.NoError(t, err)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"no trace ", "first " + remote, "second " + remote}, seen)
	})
	attempt := taskotel.Middleware()(func(context.Context, *taskrt.Run) error { return nil })
	run := &taskrt.Run{ID: "1", Task: "t", Queue: "q"}
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = attempt(context.Background(), run) }))
	queue := taskotel.QueueMiddleware()(func(context.Context, ...*broker.TaskRun) error { return nil })
	task := &broker.TaskRun{ID: "1", Task: "t", Queue: "q"}
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { _ = queue(context.Background(), task) }), 3.0)
	require.Nil(t, task.Headers)
}
