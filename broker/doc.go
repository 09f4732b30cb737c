// Package broker is the contract between taskgen's runtime and a store of its runs.
//
// Three methods make a [Broker]. The runtime asserts further interfaces on the broker
// and on its sessions. Each is a part of the contract that a broker may leave out. The third
// column names the parts that a part needs:
//
//	part             adds                                             needs
//	Broker           runs are delivered at most once
//	Leaser           runs are delivered at least once
//	Records          results, status, waiting, dead letters            Leaser
//	Heartbeater*     reports progress; learns of cancellations         Records
//	Controls         inspect, cancel, pause, disable, requeue          Heartbeater
//	Policies         unique, limits, fair order, queues follow-ups     Leaser
//	Starter*         frees unique keys when runs start (until=start)   Policies
//	Groups           a run after a group of runs                       Records
//	Ticks            a schedule's tick is queued once
//	Clock            schedulers with wrong clocks are found            Ticks
//	ScheduleStore    schedules made at run time                        Ticks
//	RiskReporter     a server that may lose runs is warned of
//	Searcher         pages of runs and dead letters that match         Controls
//	Changer          changes all that match: cancel, run, requeue      Searcher
//	Instances        which consumers and schedulers are up
//	Tallies          counts and times of runs, by task and minute
//
// A part with a star is an interface of the broker's sessions. A broker that keeps
// [PolicyUnique] needs Starter too.
//
// A follow-up is queued in the step that records the success before it, if the broker has
// [PolicyNext]. A Leaser without it gets no run with a follow-up: the runtime returns an
// error. At a broker that is no Leaser the consumer queues follow-ups itself, after the
// success; one that dies in between loses them.
//
// brokertest.Run tests a broker for the parts that it has, and logs which are missing.
//
// A run is live from its queueing until it has ended: it succeeded, became a dead letter
// or was dropped. It is due once its Due or Delay has passed, by the broker's clock.
//
// Unless a method says otherwise:
//   - it may be called concurrently;
//   - it returns ctx's error soon after ctx has ended;
//   - an error wraps [ErrUnavailable] if the call may succeed later, and [ErrClosed] if
//     the broker was closed;
//   - it neither keeps nor changes what it was given after it has returned, and what it
//     returns is the caller's;
//   - it stores and returns only runs that [TaskRun.Validate] accepts. A stored run that
//     cannot be read becomes a dead letter, or an error: it must not stop the others.
package broker
