package tasks

import (
	"context"

	taskrt "github.com/taskgen/taskgen/runtime"
)

// Recorder is the receiver of tasks that record their runs.
type Recorder struct {
	// Do returns the outcome of a run; nil lets all succeed. It is called
	// concurrently.
	Do func(ctx context.Context, run *taskrt.Run, note string) error
}

func (r *Recorder) record(ctx context.Context, note string) error {
	run, _ := taskrt.CurrentRun(ctx)
	if r == nil || r.Do == nil {
		return nil
	}
	return r.Do(ctx, run, note)
}
