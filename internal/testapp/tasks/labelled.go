package tasks

import (
	"context"
	"fmt"
)

// Labelled returns what it is given. Its parameters are called like flags of the
// command line, and some may be left out.
//
//task:io
//task:default note "none"
//task:default times 3
func Labelled(ctx context.Context, id string, wait bool, json, help string, dataIDs []string, note string, times int, title *string) (string, error) {
	shown := "untitled"
	if title != nil {
		shown = *title
	}
	return fmt.Sprint(id, " ", wait, " ", json, " ", help, " ", dataIDs, " ", note, " ", times, " ", shown), nil
}

// Twins has parameters whose flags would be the same.
//
//task:io
func Twins(ctx context.Context, dataID, dataId, user_name string, h int) (string, error) {
	return fmt.Sprint(dataID, dataId, user_name, h), nil
}

// Ratio prints, and returns a result that JSON cannot represent.
//
//task:io
//task:timeout 200ms
func Ratio(ctx context.Context, a, b float64) (float64, error) {
	fmt.Println("on standard output")
	if a < 0 {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return a / b, nil
}
