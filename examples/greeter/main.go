// Greeter is a complete application: tasks, and a main of one line.
package main

import (
	"github.com/taskgen/taskgen/examples/greeter/tasks"
	"github.com/taskgen/taskgen/runtime/taskapp"
)

func main() { taskapp.Main(tasks.Tasks()) }
