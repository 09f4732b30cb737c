// Package tasks is the application's background work.
package tasks

import (
	"context"
	"fmt"
	"unicode/utf8"
)

// Greet writes a greeting and asks for its length.
//
//task:io
//task:retry 5 backoff=1s..1m
func Greet(ctx context.Context, name string) (string, error) {
	greeting := "Hello, " + name + "!"
	_, err := QueueCount(ctx, greeting)
	return greeting, err
}

// Count counts the characters of a text, in a child process.
//
//task:cpu
//task:timeout 30s
func Count(ctx context.Context, text string) (int, error) {
	fmt.Printf("counting %q\n", text)
	return utf8.RuneCountInString(text), nil
}

// Remind says something every second.
//
//task:io
//task:every 1s
func Remind(ctx context.Context) error {
	fmt.Println("still here")
	return nil
}
