// Greeter is a complete application: tasks, and a main of one line.
package main

import (
	"github.com/taskgen/taskgen/examples/greeter/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func main() { taskrt.Main(tasks.Tasks()) }
