// Ownroot is a program with commands of its own; the commands of its tasks hang below
// its root.
//
//	go run ./examples/ownroot price book
//	go run ./examples/ownroot tasks exec quote --item book --copies 3
//	go run ./examples/ownroot tasks --help
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	taskrt "github.com/taskgen/taskgen/runtime"
	"github.com/taskgen/taskgen/runtime/taskapp"
)

//go:generate go tool taskgen

// prices is what tasks need: Start opens it.
var prices map[string]int

// Quote returns the price of some copies.
//
//task:cpu
func Quote(ctx context.Context, item string, copies int) (int, error) {
	price, ok := prices[item]
	if !ok {
		return 0, taskrt.Permanent(fmt.Errorf("no %s is sold here", item))
	}
	return price * copies, nil
}

// open stands for a database.
func open(context.Context) error {
	prices = map[string]int{"book": 12, "pen": 2}
	return nil
}

func main() {
	app := &taskapp.App{
		Broker:   "memory:", // --broker and $TASKGEN_BROKER win
		Consumer: taskrt.ConsumerConfig{Grace: time.Minute},
		Start:    open, // before serve and exec, and in each child; never for list or --help
	}
	root := &cobra.Command{Use: "shop", SilenceUsage: true}
	root.AddCommand(app.Command(Tasks())) // first: a child process ends here
	root.AddCommand(&cobra.Command{Use: "price ITEM", Args: cobra.ExactArgs(1), RunE: price})
	os.Exit(taskapp.ExitCode(root.Execute()))
}

func price(cmd *cobra.Command, args []string) error {
	if err := open(cmd.Context()); err != nil {
		return err
	}
	price, ok := prices[args[0]]
	if !ok {
		return errors.New("it is not sold here")
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), price)
	return err
}
