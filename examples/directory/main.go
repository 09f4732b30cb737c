// Directory is an application whose tasks need what it opens late: Start runs for serve, exec
// and child processes, and not for list, status or --help.
package main

import (
	"github.com/taskgen/taskgen/examples/directory/tasks"
	"github.com/taskgen/taskgen/runtime/taskapp"
)

func main() {
	d := &tasks.Directory{}
	app := &taskapp.App{Start: d.Open}
	app.Main(tasks.Tasks(d))
}
