package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/taskgen/taskgen/examples/imaging/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// report queues a run for each file and reports the outcome.
func report(ctx context.Context, files []string, thumbs string) error {
	var params []tasks.ThumbnailParams
	for _, file := range files {
		params = append(params, tasks.ThumbnailParams{Picture: file, Dir: thumbs})
	}
	handles, err := tasks.QueueThumbnailBatch(ctx, params)
	if err != nil {
		return err
	}
	ends := make(map[string]int)
	for i, handle := range handles {
		thumb, err := handle.Wait(ctx)
		end, text := "done", fmt.Sprintf("%d×%d by process %d", thumb.Width, thumb.Height, thumb.PID)
		var failure *taskrt.RunError
		if errors.As(err, &failure) {
			end, text = string(failure.Kind), failure.Message+place(failure.Stack)
		} else if err != nil {
			return err
		}
		ends[end]++
		fmt.Printf("%-16s %-8s %s\n", filepath.Base(files[i]), end, text)
	}
	fmt.Printf("%d done, %d crashed, %d out of memory, %d timed out\n", ends["done"], ends["crashed"], ends["oom"], ends["timeout"])
	return nil
}

// place returns the task's function in which its process ended, if its stack shows
// that.
func place(stack string) string {
	for line := range strings.Lines(stack) {
		if _, function, ok := strings.Cut(line, "/imaging/tasks."); ok {
			function, _, _ = strings.Cut(function, "(")
			return ", in " + function
		}
	}
	return ""
}
