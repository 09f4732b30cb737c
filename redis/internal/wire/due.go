package wire

import (
	"strconv"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// Millis rounds a time up to whole milliseconds, so that nothing is early.
func Millis(d time.Duration) int64 {
	ms := d / time.Millisecond
	if d%time.Millisecond > 0 {
		ms++
	}
	return int64(ms)
}

// FormatDue returns when a run is due as the enqueue script takes it: "" for at once,
// +ms for a delay, ms for an instant.
func FormatDue(run *broker.TaskRun) string {
	switch {
	case run.Delay > 0:
		return "+" + strconv.FormatInt(Millis(run.Delay), 10)
	case !run.Due.IsZero():
		ms := run.Due.UnixMilli()
		if run.Due.Nanosecond()%int(time.Millisecond) > 0 {
			ms++
		}
		return strconv.FormatInt(ms, 10)
	}
	return ""
}
