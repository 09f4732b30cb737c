// Chain counts the words of documents. One run counts each document, one adds up the
// counts, and one reports the sum. Each is queued in the step that records the end of
// its predecessors.
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

// report is a call that counts the words of texts and reports their sum. The compiler
// checks that Add takes what CountWords returns, and Report what Add returns.
func report(title string, texts ...string) taskrt.Call[string] {
	counts := make([]taskrt.Call[int], len(texts))
	for i, text := range texts {
		counts[i] = CallCountWords(text)
	}
	return taskrt.Then(taskrt.Group(counts, NextAdd()), NextReport(title))
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

	handle, err := report("three lines", "So long as men can breathe", "or eyes can see", "so long lives this").Queue(ctx)
	if err != nil {
		return err
	}
	text, err := handle.Wait(ctx)
	fmt.Println(text)
	return err
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "chain:", err)
		os.Exit(1)
	}
}
