// Package otel traces runs with OpenTelemetry: from the call that queues a run to its
// attempts, into child processes and on to the runs that follow.
//
//	import taskotel "github.com/taskgen/taskgen/otel"
//
//	client := taskrt.NewClient(b, taskrt.ClientConfig{
//		Middleware: []taskrt.QueueMiddleware{taskotel.QueueMiddleware()},
//	})
//	consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{
//		Middleware: []taskrt.Middleware{taskotel.Middleware()},
//	}, tasks.Tasks())
//
// The spans, their attributes and the metrics follow the semantic conventions for messaging
// of [SchemaURL]:
//
//   - send QUEUE, of kind PRODUCER, is one call that queues runs, however many. Its context
//     travels in the headers of the runs.
//   - process QUEUE, of kind CONSUMER, is one attempt. It links to the span that queued the
//     run. With //task:trace child it is a child of that span, too. A run that follows
//     another links to the attempt before it.
//
// An attempt that failed has the status Error and, as error.type, the kind of the failure,
// such as timeout or oom, also if another attempt follows. One that was snoozed, or was
// given back at a stop, did not fail.
//
// Attributes of spans, beside those of the conventions: taskgen.task, taskgen.attempt,
// taskgen.delivery, and taskgen.outcome, which is success, failure or returned. No span has
// parameters or results, and messages of errors hide secret parameters.
//
// If the environment variable OTEL_SEMCONV_STABILITY_OPT_IN lists messaging/dup, spans have
// the attributes of version 1.24.0 of the conventions too, and its metrics are recorded
// beside the others. The value messaging changes nothing: no old conventions are followed
// by default.
package otel
