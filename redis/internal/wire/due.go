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

// ParseScore returns the instant of a score in ms since the epoch, the zero time if it is none.
func ParseScore(score string) time.Time {
	ms, err := strconv.ParseFloat(score, 64)
	if err != nil || ms != ms || ms > 9999999999999 || ms < 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms)).UTC()
}
