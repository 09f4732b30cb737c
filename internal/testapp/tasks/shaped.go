package tasks

import (
	"context"
	"fmt"
	"time"
)

// Size is a structured parameter.
type Size struct {
	Width, Height int
}

// Shaped returns its parameters, which are written in many ways.
//
//task:io
//task:default pause 1m30s
//task:default at "2026-01-02T03:04:05Z"
//task:default blob "a\"b"
//task:default text "a\"b"
//task:default pair [2]int{1, 2}
func Shaped(ctx context.Context, size Size, list []int, byName map[string]int, best *Size, pair [2]int,
	pause time.Duration, at time.Time, blob []byte, text string) (string, error) {
	return fmt.Sprintf("%v %#v %#v %v %v %s %s %s %s", size, list, byName, best, pair, pause, at.Format(time.RFC3339), blob, text), nil
}
