// Command man writes the man pages of a program made of tasks, here of the greeter: a
// page for each command, and of exec and queue one for each task.
//
//	go run . DIR
//
// It is a module of its own, so that package doc of cobra reaches no user of taskgen.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/taskgen/taskgen/examples/greeter/tasks"
	"github.com/taskgen/taskgen/runtime/taskapp"
)

func main() {
	root := new(taskapp.App).Command(tasks.Tasks())
	root.Use = "greeter"
	if err := write(root, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

func write(root *cobra.Command, args []string) error {
	if len(args) != 1 {
		return errors.New("the directory of the pages is needed")
	}
	if err := os.MkdirAll(args[0], 0o777); err != nil {
		return err
	}
	root.DisableAutoGenTag = true // the day would be in it
	complete(root)
	return doc.GenManTree(root, &doc.GenManHeader{Title: "GREETER", Section: "1", Source: "taskgen"}, args[0])
}

// complete puts the program's name before the examples.
func complete(cmd *cobra.Command) {
	if cmd.Example != "" {
		cmd.Example = cmd.Root().Name() + " " + cmd.Example
	}
	for _, sub := range cmd.Commands() {
		complete(sub)
	}
}
