// Chain counts the words of documents, and reports the count of one and the sum of several,
// also of those that a task finds.
// Each run that follows others is queued in the step that records the end of its
// predecessors.
//
//	go run ./examples/chain
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/taskgen/taskgen/broker/memory"
	taskrt "github.com/taskgen/taskgen/runtime"
)

//go:generate go tool taskgen

// CountWords counts the words of a text.
//
//task:io
func CountWords(ctx context.Context, text string) (int, error) { return len(strings.Fields(text)), nil }

// Add adds numbers up.
//
//task:io
func Add(ctx context.Context, numbers []int) (int, error) {
	sum := 0
	for _, n := range numbers {
		sum += n
	}
	return sum, nil
}

// Report returns a sentence with the total.
//
//task:io
func Report(ctx context.Context, words int, title string) (string, error) {
	return fmt.Sprintf("%s: %d words", title, words), nil
}

// reportOne is a pipeline. The compiler checks that Report takes what CountWords returns.
func reportOne(title, text string) taskrt.Call[string] {
	return taskrt.Then(CallCountWords(text), NextReport(title))
}

// reportAll counts the words of all texts at once, and reports their sum.
func reportAll(title string, texts ...string) taskrt.Call[string] {
	counts := make([]taskrt.Call[int], len(texts))
	for i, text := range texts {
		counts[i] = CallCountWords(text)
	}
	return taskrt.Then(taskrt.Group(counts, NextAdd()), NextReport(title))
}

// shelves are where the texts are.
var shelves = map[string][]string{
	"poems": {"Bright star, would I were", "stedfast as thou art"},
}

// ReportShelf reports the words of all texts on a shelf. Which texts these are it learns as
// it runs: the call that it returns takes the place of its run.
//
//task:io
func ReportShelf(ctx context.Context, shelf string) (taskrt.Call[string], error) {
	texts, ok := shelves[shelf]
	if !ok {
		return taskrt.Call[string]{}, taskrt.Permanent(fmt.Errorf("there is no shelf %q", shelf))
	}
	return reportAll(shelf, texts...), nil
}

func run() error {
	b := memory.New()
	consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{}, Tasks())
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(taskrt.WithClient(context.Background(), taskrt.NewClient(b, taskrt.ClientConfig{})))
	stopped := make(chan error, 1)
	go func() { stopped <- consumer.Run(ctx) }()
	defer func() { stop(); <-stopped }()

	for _, report := range []taskrt.Call[string]{
		reportOne("one line", "Shall I compare thee to a summer's day?"),
		reportAll("three lines", "So long as men can breathe", "or eyes can see", "so long lives this"),
		CallReportShelf("poems"),
	} {
		handle, err := report.Queue(ctx)
		if err != nil {
			return err
		}
		text, err := handle.Wait(ctx)
		if err != nil {
			return err
		}
		fmt.Println(text)
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "chain:", err)
		os.Exit(1)
	}
}
