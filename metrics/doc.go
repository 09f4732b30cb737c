// Package metrics gives Prometheus what a process does to runs, and what waits in the
// queues of its broker:
//
//	consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{
//		Middleware: []taskrt.Middleware{metrics.Middleware},
//	}, tasks.Tasks())
//	…
//	prometheus.MustRegister(metrics.NewCollector(b, tasks.Tasks()).Watch(consumer))
//
// [Middleware] and [QueueMiddleware] count into the package's default recorder, of which
// each [NewCollector] is a view. A program that needs two, or other buckets, makes
// a [Recorder] of its own. The command serve --http of package taskapp does all of that.
//
// A binary that does not import this package does not link the client library of
// Prometheus.
//
// # Metrics
//
// What this process measured:
//
//	taskgen_runs_queued_total{task,queue}            runs that clients queued
//	taskgen_runs_refused_total{task,reason}          runs that were not queued
//	taskgen_attempts_total{task,queue,outcome}       attempts, once their outcome is recorded
//	taskgen_attempt_duration_seconds{task}           from the start of an attempt to its end
//	taskgen_wait_seconds{task,queue}                 from when a run is due to the start
//	taskgen_total_seconds{task}                      from the queueing of a run to its end
//	taskgen_last_success_timestamp_seconds{task}     when a run succeeded last
//	taskgen_outcomes_fenced_total                    outcomes that came after the lease was lost
//	taskgen_slots{kind}, taskgen_slots_busy{kind}    slots, and those in which a run executes
//	taskgen_child_kills_total{reason}                child processes that were killed
//	taskgen_leases_lost_total                        sessions that lost their lease
//	taskgen_runs_recovered_total                     runs of dead consumers that went back
//	taskgen_broker_operation_seconds{op}             requests to the broker
//	taskgen_ticks_total{task,result}                 instants of schedules
//	taskgen_tick_lag_seconds                         from the instant of a tick to its queueing
//
// The fleet, as the broker knows it, from one process of it:
//
//	taskgen_up                                       1 if the broker answered, of each process
//	taskgen_queues_unread                            queues that could not be read, or not in full
//	taskgen_queue_runs{queue,state}                  state: ready, held, delayed, running, dead
//	taskgen_queue_oldest_seconds{queue}              since when the run is due that waits the longest
//	taskgen_queue_paused{queue}                      1 if it is paused
//	taskgen_dead_dropped_total{queue}                dead letters that were trimmed
//
// The outcome of an attempt is succeeded, retried if another attempt follows, given_back
// if the run goes back without one spent, and else how the run failed: failed, timeout,
// crashed, oom, cancelled, expired or schema. Runs that expired, or that nobody could
// read, have no attempt and are counted too.
//
// Names of tasks that this program does not have are counted as the task "other". No label
// holds an id, a text or a parameter, so that the number of series is bounded.
package metrics
