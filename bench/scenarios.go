package main

import (
	"slices"

	"github.com/taskgen/taskgen/metrics"
)

// scenario is one measurement of several subjects in turn.
type scenario struct {
	name     string
	about    string // description for the page
	subjects []subject
	goals    []goal    // for the first subject
	chart    []charted // figures in the chart
}

// charted is a figure in the chart and its label.
type charted struct{ figure, label string }

// goal is a bound for one figure of a scenario's first subject, or for its ratio to
// another's.
type goal struct {
	figure  string
	against string  // a subject; empty: the bound is for the figure itself
	atLeast float64 // 0: there is no such bound
	atMost  float64 // 0: there is no such bound
}

// Names of figures.
const (
	tasksRate   = "tasks/s"
	redisCPU    = "Redis µs/task"
	clientCPU   = "client µs/task"
	commands    = "commands/task"
	commandRate = "commands/s"
	scripts     = "scripts/task"
	bytesRun    = "bytes/run"
	median50    = "p50 ms"
	median99    = "p99 ms"
	makespan    = "makespan s"
	overIdeal   = "× ideal"
	dispatched  = "dispatch µs"
	endedAfter  = "ended after s"
	grown       = "consumer grown by MiB"
)

// figures are the columns of the report in order. For marked ones, more is better.
var figures = []struct {
	name string
	more bool
}{
	{tasksRate, true}, {median50, false}, {median99, false}, {makespan, false}, {overIdeal, false}, {commandRate, false},
	{dispatched, false}, {endedAfter, false}, {grown, false},
	{redisCPU, false}, {clientCPU, false}, {commands, false}, {scripts, false}, {bytesRun, false},
}

// scenarios returns the scenarios in order. The first subject of each is this
// project; the others are compared with it.
func scenarios(e *environment) []scenario {
	if e.connections {
		return connections(e)
	}
	return slices.Concat(running(e), enqueueing(), waiting(e), manyQueues(e), costs(e), withoutServer(e), children())
}

// running returns scenarios with busy handlers.
func running(e *environment) []scenario {
	ours, peer := taskgenSystem{}, asynqSystem{}
	untuned := asynqSystem{defaults: true}
	asynq := peer.name()
	drained := "drain of " + thousands(e.drain)
	return []scenario{
		{
			name:     "queue and run, 64 callers, 64 slots",
			about:    "64 goroutines queue one task a call while 64 slots execute them; the callers stop for a moment when they are 4,096 tasks ahead.",
			subjects: of(steady(64, 64, noop), ours, peer, untuned),
			goals: []goal{
				{figure: tasksRate, against: asynq, atLeast: 25},
				{figure: redisCPU, atMost: 4},
				{figure: redisCPU, against: asynq, atMost: 1. / 25},
				{figure: clientCPU, atMost: 10},
				{figure: clientCPU, against: asynq, atMost: 1. / 15},
			},
			chart: []charted{
				{tasksRate, "queue and run, tasks/s"},
				{redisCPU, "the same, Redis CPU a task"},
				{clientCPU, "the same, client CPU a task"},
			},
		}, {
			name:     "queue and run, results kept for 1h",
			about:    "The same, and what became of each task can be asked for during an hour: `//task:result 1h` beside `asynq.Retention(time.Hour)`.",
			subjects: of(steady(64, 64, kept), ours, peer),
			goals:    []goal{{figure: tasksRate, against: asynq, atLeast: 12}},
			chart:    []charted{{tasksRate, "queue and run, results kept"}},
		}, {
			name:     "queue and run, counted by package metrics",
			about:    "The first row again, with a recorder that counts what the producers and the consumer do, as `serve --http` has it.",
			subjects: of(steady(64, 64, noop), taskgenSystem{metrics: metrics.Default()}, ours),
			goals:    []goal{{figure: tasksRate, against: ours.name(), atLeast: 0.97}},
		}, {
			name:     drained + ", 64 slots",
			about:    "All tasks are queued first. Then one consumer of 64 slots starts, and the time runs until the last task has been executed.",
			subjects: of(drain(64), ours, peer),
			goals:    []goal{{figure: tasksRate, against: asynq, atLeast: 60}},
			chart:    []charted{{tasksRate, "drain, 64 slots"}},
		}, {
			name:     drained + ", 10 slots",
			about:    "The same with 10 slots.",
			subjects: of(drain(10), ours, peer),
			goals:    []goal{{figure: tasksRate, against: asynq, atLeast: 25}},
			chart:    []charted{{tasksRate, "drain, 10 slots"}},
		}, {
			name:     "groups of 10,000 chains of 3, 64 slots",
			about:    "4 groups of 10,000 members, each of which is three tasks that follow each other, are queued first; then as above. The other has no such thing.",
			subjects: []subject{{ours.name(), drainGroups}},
			goals:    []goal{{figure: tasksRate, atLeast: 20_000}},
			chart:    []charted{{tasksRate, "drain of groups of chains"}},
		},
	}
}

// enqueueing returns scenarios of producers alone.
func enqueueing() []scenario {
	ours, peer, raw := taskgenSystem{}, asynqSystem{}, rawSystem{}
	return []scenario{
		{
			name:     "enqueue, 1 caller",
			about:    "One goroutine queues one task a call; nobody consumes. go-redis does one `RPUSH` of 100 bytes: the bare round trip.",
			subjects: of(enqueue(1, 1), ours, peer, raw),
			goals:    []goal{{figure: tasksRate, against: raw.name(), atLeast: 0.85}},
			chart:    []charted{{tasksRate, "enqueue, 1 caller"}},
		}, {
			name:     "enqueue, 64 callers",
			about:    "The same with 64 goroutines at once.",
			subjects: of(enqueue(64, 1), ours, peer, raw),
			goals:    []goal{{figure: tasksRate, against: peer.name(), atLeast: 6}},
			chart:    []charted{{tasksRate, "enqueue, 64 callers"}},
		}, {
			name:     "enqueue, 8 callers, batches of 100",
			about:    "8 goroutines queue 100 tasks a call. asynq has no such call and queues them one by one; go-redis does one `RPUSH` of 100 values.",
			subjects: of(enqueue(8, 100), ours, peer, raw),
			goals:    []goal{{figure: tasksRate, against: raw.name(), atLeast: 0.7}},
			chart:    []charted{{tasksRate, "enqueue, batches of 100"}},
		},
	}
}

// waiting returns scenarios of consumers without work.
func waiting(e *environment) []scenario {
	ours, peer, raw := taskgenSystem{}, asynqSystem{}, rawSystem{}
	untuned := asynqSystem{defaults: true}
	return []scenario{
		{
			name:     "pickup when idle",
			about:    "One task at a time is queued while the consumer waits, 200 in a round or as many as fit into " + (2 * e.length).String() + "; the time runs from the call that queues it to its first line. go-redis hands a value over by `BLPOP`.",
			subjects: of(pickup, ours, peer, untuned, raw),
			goals: []goal{
				{figure: median50, against: raw.name(), atMost: 1.5},
				{figure: median99, against: raw.name(), atMost: 3},
			},
			chart: []charted{{median50, "pickup when idle, p50"}},
		}, {
			name:     "ticks when idle",
			about:    "A task that runs every 100 ms by its schedule, with one scheduler and one consumer: the time from each tick's instant to the task's first line, " + (2 * e.length).String() + " a round.",
			subjects: []subject{{ours.name(), tickLateness}},
			goals:    []goal{{figure: median99, atMost: 20}},
		}, {
			name:     "idle, 1 queue",
			about:    "What a consumer without work asks of the server. asynq has its defaults here: they ask least.",
			subjects: of(idle(1), ours, untuned),
			goals:    []goal{{figure: commandRate, atMost: 2}},
		}, {
			name:     "idle, 10 queues",
			about:    "The same consumer on ten queues.",
			subjects: of(idle(10), ours, untuned),
			goals:    []goal{{figure: commandRate, atMost: 2}},
		},
	}
}

// costs returns scenarios of the cost of waiting runs, and of sharing them out.
func costs(e *environment) []scenario {
	ours, peer := taskgenSystem{}, asynqSystem{}
	const shallow = 1000
	deep := subject{"with " + thousands(10*e.drain) + " queued", takeAndAck(10 * e.drain)}
	flat := subject{"with " + thousands(shallow) + " queued", takeAndAck(shallow)}
	return []scenario{
		{
			name:     "bytes in Redis, 100-byte payload",
			about:    "By how much the server's memory grows with each of " + thousands(e.drain) + " tasks that wait, each with a payload of 100 bytes as stored; the buffers of clients are left out.",
			subjects: of(bytesQueued, ours, peer),
			goals:    []goal{{figure: bytesRun, atMost: 200}},
			chart:    []charted{{bytesRun, "bytes a queued task"}},
		}, {
			name:     "take and ack, deep and shallow queue",
			about:    "One session of the broker takes and finishes batches of 64 while this many tasks wait: no handlers, and the queue is filled up again outside the time measured.",
			subjects: []subject{deep, flat},
			goals: []goal{
				{figure: tasksRate, against: flat.name, atLeast: 0.9},
				{figure: redisCPU, against: flat.name, atMost: 1.1},
			},
		}, {
			name: "100 consumers, uneven tasks",
			about: "A burst of tasks of " + shortTask(e.length).String() + ", one in a hundred of " + (100 * shortTask(e.length)).String() + ", reaches 100 idle consumers of one slot each, all in one process, each with its own connections. " +
				"The long ones are spread over the first four fifths. The time runs from the first task queued to the last one done; the ideal is the whole work shared evenly, at the nominal length of each task.",
			subjects: []subject{{ours.name(), uneven}},
			goals:    []goal{{figure: overIdeal, atMost: 1.15}},
		}, {
			name:     "drain beside runs over their limit",
			about:    "What tasks without a limit cost while 10,000 runs of one with `//task:concurrency 2` wait in the same queue, held back before. The queue is paused while it is filled, and 64 slots are free in both.",
			subjects: []subject{{"with 10,000 held back", drainBeside(10_000)}, {"alone", drainBeside(0)}},
			goals: []goal{
				{figure: tasksRate, against: "alone", atLeast: 0.9},
				{figure: redisCPU, against: "alone", atMost: 1.1},
			},
		},
	}
}

// withoutServer returns the scenario that needs no server.
func withoutServer(e *environment) []scenario {
	return []scenario{
		{
			name:     "embedded broker, queue and run",
			about:    "What the broker that needs no server does with 64 callers and 64 slots in one process.",
			subjects: embedded(steady(64, 64, noop)),
		}, {
			name:     "embedded broker, drain of " + thousands(e.drain),
			about:    "The same broker, filled first, then drained with 64 slots.",
			subjects: embedded(drain(64)),
		},
	}
}

// children returns scenarios of CPU-bound tasks, which run in child processes.
func children() []scenario {
	const ours, pipes, process, idle = "taskgen", "bare pipes", "a Go process", "children idle"
	const threads = "two threads"
	const consumer = "taskgen, whole consumer"
	trips, rate := &poolBenchmark{name: "BenchmarkDispatch", operations: "20x"}, &poolBenchmark{name: "BenchmarkTwoChildren", operations: "13x"}
	return []scenario{
		{
			name: "dispatch to a warm child",
			about: "What it takes to have a warm child do nothing: the pool of children by itself, as `go test -bench Dispatch ./internal/subprocess` measures it, in turns with as many bytes through bare pipes to a process that sends them back. " +
				"A Go process is a program that does nothing, started and waited for. The whole consumer is the time from its first middleware to the answer while it works through a queue of the embedded broker.",
			subjects: []subject{
				{ours, trips.of(dispatched, "warm-ns", 1e-3)}, {pipes, trips.of(dispatched, "raw-ns", 1e-3)},
				{process, goProcess}, {consumer, dispatch},
			},
			goals: []goal{
				{figure: dispatched, against: pipes, atMost: 2.5},
				{figure: dispatched, against: process, atMost: 1. / 20},
			},
		}, {
			name: "10,000 CPU-bound tasks, 2 children",
			about: "Tasks that do nothing, as fast as two children take them, measured likewise, beside bare pipes to two processes. " +
				"The whole consumer: from the first one queued over the embedded broker to the last one done. The target is 15,000 tasks/s where the pipes do twice that.",
			subjects: []subject{{ours, rate.of(tasksRate, "warm/s", 1)}, {pipes, rate.of(tasksRate, "raw/s", 1)}, {consumer, childRate(2, 10_000)}},
			goals:    []goal{{figure: tasksRate, against: pipes, atLeast: 0.5}},
		}, {
			name:     "two CPU-bound tasks of 1s, 2 children",
			about:    "Each uses a processor for a second, and meanwhile io tasks are queued through Redis, one at a time, to the same consumer. The makespan is that of the two, beside that of two threads of one process that do the same with nothing else to do; the pickup is that of the io tasks, beside the same with nothing else to do.",
			subjects: []subject{{ours, pickupWhile(true)}, {idle, pickupWhile(false)}, {threads, burnBare}},
			goals: []goal{
				{figure: makespan, atMost: 1.15},
				{figure: makespan, against: threads, atMost: 1.15},
				{figure: median99, against: idle, atMost: 5},
			},
		}, {
			name:     "200 MB against a cap of 64 MiB",
			about:    "A task takes more memory than it may: the time from the call that queues it until its end as oom is known, and by how much the consumer's resident size has grown.",
			subjects: []subject{{ours, greed}},
			goals: []goal{
				{figure: endedAfter, atMost: 1},
				{figure: grown, atMost: 8},
			},
		},
	}
}
