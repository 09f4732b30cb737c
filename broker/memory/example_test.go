package memory_test

import (
	"context"
	"fmt"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
)

// Programs use package runtime. This is what it asks of a broker.
func Example() {
	ctx := context.Background()
	b := memory.New()
	defer b.Close()
	if err := b.QueueTasks(ctx, &broker.TaskRun{ID: "1", Task: "send_mail", Queue: "mail"}); err != nil {
		fmt.Println(err)
		return
	}
	lengths, err := b.QueueLength(ctx)
	fmt.Println(lengths, err)
	runs, err := b.GetTaskRuns(ctx, []string{"mail"}, 10)
	fmt.Println(len(runs), runs[0].Task, err)
	// Output:
	// map[mail:1] <nil>
	// 1 send_mail <nil>
}
