// Package runtime runs the tasks that taskgen generates stubs for: a [Client]
// queues runs, a [Consumer] executes them, and a [Scheduler] queues the periodic
// ones. Import it as taskrt:
//
//	import taskrt "github.com/taskgen/taskgen/runtime"
//
// Package taskapp makes a whole program of tasks. A program with a main of its own puts
// the parts together:
//
//	taskrt.ServeChild(tasks.Tasks())                  // first line of main: CPU-bound tasks run here
//	b, err := brokerurl.Open(ctx, "redis://localhost:6379")
//	taskrt.SetDefault(taskrt.NewClient(b, taskrt.ClientConfig{}))
//	consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{}, tasks.Tasks())
//	err = consumer.Run(ctx)
//
// This package imports no broker; your program chooses which to link.
//
// With a broker that has broker.Leaser, such as the two that are included, delivery is at
// least once. If a machine dies after a task has done its work, and before
// the outcome is recorded, the run starts again.
package runtime
