package taskapp_test

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/examples/shop/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
	"github.com/taskgen/taskgen/runtime/taskapp"
)

// This is a whole program: "shop serve" executes the tasks, "shop queue charge
// --order 1001 --cents 4200" queues one, and "shop --help" lists the other commands.
func Example() {
	taskapp.Main(tasks.Tasks())
}

// An App has settings of its own. Flags and the environment win over them.
func ExampleApp() {
	app := taskapp.App{
		Broker: "redis://localhost:6379",
		Brokers: map[string]brokerurl.Opener{
			"mine": func(context.Context, string) (broker.Broker, error) { return memory.New(), nil },
		},
		Consumer: taskrt.ConsumerConfig{Concurrency: 100},
		Start: func(ctx context.Context) error {
			return nil // open what the tasks need, such as a database
		},
	}
	app.Main(tasks.Tasks())
}

// Command hangs the command line below a root of one's own.
func ExampleApp_Command() {
	var app taskapp.App
	root := &cobra.Command{Use: "shop", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(app.Command(tasks.Tasks()))
	root.SetArgs([]string{"tasks", "exec", "charge", "--order", "1001", "--cents", "4200"})
	if err := root.Execute(); err != nil {
		fmt.Println(err)
		os.Exit(taskapp.ExitCode(err))
	}
	// Output: "receipt-1001"
}
