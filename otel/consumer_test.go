package otel_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskotel "github.com/taskgen/taskgen/otel"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// served is a broker with an address.
type served struct{ *memory.Broker }

func (served) Server() (string, int) { return "tasks.example", 6379 }

func TestAnAttemptIsASpanThatLinksToItsProducer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := newTracing(t), served{newMemory(t)}
		member, err := baggage.NewMember("tenant", "7")
		require.NoError(t, err)
		bag, err := baggage.New(member)
		require.NoError(t, err)
		ctx := f.client(b)
		f.consume(ctx, b, taskrt.ConsumerConfig{}, func(ctx context.Context, run *taskrt.Run, _ string) error {
			require.Equal(t, "7", baggage.FromContext(ctx).Member("tenant").Value())
			_, inner := f.provider.Tracer("test").Start(ctx, "inner")
			inner.End()
			return nil
		})
		handle, err := tasks.QueueRecorderRecord(baggage.ContextWithBaggage(ctx, bag), "x")
		require.NoError(t, err)
		time.Sleep(time.Second)
		synctest.Wait()
		sent, s, inner := f.one("send default"), f.one("process default"), f.one("inner")
		require.Equal(t, trace.SpanKindConsumer, s.SpanKind)
		require.Equal(t, []trace.SpanID{sent.SpanContext.SpanID()}, linked(s))
		require.False(t, s.Parent.IsValid(), "a link, and no parent")
		require.NotEqual(t, sent.SpanContext.TraceID(), s.SpanContext.TraceID())
		require.Equal(t, map[string]any{
			"messaging.system": "taskgen", "messaging.operation.name": "process", "messaging.operation.type": "process",
			"messaging.destination.name": "default", "messaging.message.id": handle.ID, "messaging.message.conversation_id": handle.ID,
			"server.address": "tasks.example", "server.port": int64(6379),
			"taskgen.task": "recorder_record", "taskgen.attempt": int64(1), "taskgen.delivery": int64(1), "taskgen.outcome": "success",
		}, values(s.Attributes))
		require.Equal(t, "tasks.example", values(sent.Attributes)["server.address"])
		require.EqualValues(t, 6379, values(sent.Attributes)["server.port"])
		require.Equal(t, codes.Unset, s.Status.Code)
		require.Equal(t, s.SpanContext.SpanID(), inner.Parent.SpanID(), "the task's own span is below it")
		require.Equal(t, "https://opentelemetry.io/schemas/1.43.0", s.InstrumentationScope.SchemaURL)
	})
}

// TestEachAttemptIsASpan: one that failed has the status Error, also if another follows.
func TestEachAttemptIsASpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := newTracing(t), newMemory(t)
		ctx := f.client(b)
		f.consume(ctx, b, taskrt.ConsumerConfig{}, func(ctx context.Context, run *taskrt.Run, _ string) error {
			switch run.Attempt {
			case 1:
				return errors.New("busy")
			case 2:
				panic("no luck")
			case 3:
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		_, err := tasks.QueueRecorderRecord(ctx, "x")
		require.NoError(t, err)
		time.Sleep(time.Minute)
		synctest.Wait()
		sent, all := f.one("send default"), f.spans()["process default"]
		require.Len(t, all, 4)
		for i, want := range []struct{ kind, message string }{
			{"failed", "busy"}, {"failed", "panic: no luck"}, {"timeout", "context deadline exceeded"}, {},
		} {
			s, attrs := all[i], values(all[i].Attributes)
			require.Equal(t, []trace.SpanID{sent.SpanContext.SpanID()}, linked(s))
			require.EqualValues(t, i+1, attrs["taskgen.attempt"])
			if want.kind == "" {
				require.Equal(t, codes.Unset, s.Status.Code)
				require.NotContains(t, attrs, "error.type")
				continue
			}
			require.Equal(t, codes.Error, s.Status.Code)
			require.Equal(t, want.message, s.Status.Description)
			require.Equal(t, want.kind, attrs["error.type"])
			require.Equal(t, "failure", attrs["taskgen.outcome"])
		}
		require.Len(t, all[1].Events, 1, "the stack of the panic")
		require.Equal(t, "exception", all[1].Events[0].Name)
		require.Contains(t, values(all[1].Events[0].Attributes)["exception.stacktrace"], "consumer_test.go")
	})
}

// TestAnAttemptThatDidNotFailIsNoError: one that was snoozed, or interrupted by a stop.
func TestAnAttemptThatDidNotFailIsNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := newTracing(t), newMemory(t)
		ctx := f.client(b)
		stop := f.consume(ctx, b, taskrt.ConsumerConfig{Grace: time.Second}, func(ctx context.Context, _ *taskrt.Run, note string) error {
			if note == "snoozes" {
				return taskrt.Snooze(time.Hour)
			}
			<-ctx.Done()
			return ctx.Err()
		})
		for _, note := range []string{"snoozes", "waits"} {
			_, err := tasks.QueueRecorderRecord(ctx, note)
			require.NoError(t, err)
			time.Sleep(time.Second)
			synctest.Wait()
		}
		stop()
		all := f.spans()["process default"]
		require.Len(t, all, 2)
		for _, s := range all {
			require.Equal(t, codes.Unset, s.Status.Code)
			require.Equal(t, "returned", values(s.Attributes)["taskgen.outcome"])
			require.NotContains(t, values(s.Attributes), "error.type")
		}
	})
}

// TestARunThatFollowsLinksToTheOneBefore, which links to the call.
func TestARunThatFollowsLinksToTheOneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := newTracing(t), newMemory(t)
		ctx := f.client(b)
		f.consume(ctx, b, taskrt.ConsumerConfig{}, nil)
		record := func(id string) taskrt.Call[taskrt.None] {
			return tasks.CallRecorderRecord(id).With(taskrt.ID(id))
		}
		group := taskrt.Group([]taskrt.Call[taskrt.None]{record("member1"), record("member2")}, taskrt.After[[]taskrt.None](record("last")))
		handle, err := taskrt.Then(taskrt.Then(record("first"), taskrt.After[taskrt.None](record("second"))), taskrt.After[taskrt.None](group)).Queue(ctx, taskrt.Keep(time.Hour))
		require.NoError(t, err)
		_, err = handle.Wait(ctx)
		require.NoError(t, err)
		time.Sleep(time.Second)
		synctest.Wait()
		sent := f.one("send default").SpanContext.SpanID()
		ids, links := map[string]trace.SpanID{}, map[string][]trace.SpanID{}
		for _, s := range f.spans()["process default"] {
			id := values(s.Attributes)["messaging.message.id"].(string)
			ids[id], links[id] = s.SpanContext.SpanID(), linked(s)
			require.Equal(t, "first", values(s.Attributes)["messaging.message.conversation_id"])
		}
		require.Equal(t, []trace.SpanID{sent}, links["first"])
		require.Equal(t, []trace.SpanID{ids["first"]}, links["second"])
		require.Equal(t, []trace.SpanID{ids["second"]}, links["member1"])
		require.Equal(t, []trace.SpanID{ids["second"]}, links["member2"])
		require.Equal(t, []trace.SpanID{ids["second"]}, links["last"])
	})
}

// TestWhatATaskQueuesIsBelowItsAttempt, also a call that it returns.
func TestWhatATaskQueuesIsBelowItsAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := newTracing(t), newMemory(t)
		ctx := f.client(b)
		f.consume(ctx, b, taskrt.ConsumerConfig{}, func(ctx context.Context, run *taskrt.Run, note string) error {
			if note == "queues" {
				_, err := tasks.QueueRecorderMail(ctx, "ada")
				return err
			}
			return nil
		})
		_, err := tasks.QueueRecorderRecord(ctx, "queues")
		require.NoError(t, err)
		time.Sleep(time.Second)
		synctest.Wait()
		attempt, sent, mail := f.one("process default"), f.one("send mail"), f.one("process mail")
		require.Equal(t, attempt.SpanContext.SpanID(), sent.Parent.SpanID())
		require.Equal(t, []trace.SpanID{sent.SpanContext.SpanID()}, linked(mail))
	})
}

// TestTraceChildMakesOneTrace: the attempt is a child of the span that queued the run, and
// links to it and to the span within which the consumer runs. Without the directive it is a
// child of that one.
func TestTraceChildMakesOneTrace(t *testing.T) {
	f := newTracing(t)
	tracer := f.provider.Tracer("test")
	_, queued := tracer.Start(context.Background(), "queued")
	queued.End()
	ambient, around := tracer.Start(context.Background(), "around")
	around.End()
	attempt := taskotel.Middleware(f.options...)(func(context.Context, *taskrt.Run) error { return nil })
	for _, c := range []struct {
		queue    string
		ctx      context.Context
		relation taskrt.Trace
		headers  map[string]string
		parent   trace.Span
		links    []trace.Span
	}{
		{"child", context.Background(), taskrt.TraceChild, map[string]string{"traceparent": parentOf(queued.SpanContext())}, queued, []trace.Span{queued}},
		{"child-within", ambient, taskrt.TraceChild, map[string]string{"traceparent": parentOf(queued.SpanContext())}, queued, []trace.Span{queued, around}},
		{"child-of-none", ambient, taskrt.TraceChild, nil, around, nil},
		{"link-within", ambient, taskrt.TraceLink, map[string]string{"traceparent": parentOf(queued.SpanContext())}, around, []trace.Span{queued}},
		{"link-broken", ambient, taskrt.TraceLink, map[string]string{"traceparent": "00-not-a-context"}, around, nil},
	} {
		require.NoError(t, attempt(c.ctx, &taskrt.Run{ID: "1", Task: "t", Queue: c.queue, Trace: c.relation, Headers: c.headers}))
		s := f.one("process " + c.queue)
		require.Equal(t, c.parent.SpanContext().SpanID(), s.Parent.SpanID(), c.queue)
		require.Equal(t, c.parent.SpanContext().TraceID(), s.SpanContext.TraceID(), c.queue)
		var ids []trace.SpanID
		for _, link := range c.links {
			ids = append(ids, link.SpanContext().SpanID())
		}
		require.Equal(t, ids, linked(s), c.queue)
	}
}

// TestADirectiveMakesOneTrace, of a task with //task:trace child.
func TestADirectiveMakesOneTrace(t *testing.T) {
	f, b := newTracing(t), newMemory(t)
	ctx, cancel := context.WithTimeout(f.client(b), time.Minute)
	defer cancel()
	stop := f.consume(ctx, b, taskrt.ConsumerConfig{Processes: 1}, nil)
	handle, err := tasks.QueueSquare(ctx, 3)
	require.NoError(t, err)
	_, err = handle.Wait(ctx)
	require.NoError(t, err)
	stop()
	sent, attempt := f.one("send default").SpanContext, f.one("process default")
	require.Equal(t, sent.SpanID(), attempt.Parent.SpanID())
	require.Equal(t, sent.TraceID(), attempt.SpanContext.TraceID())
}
