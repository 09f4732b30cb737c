package wire

import (
	"fmt"
	"strconv"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
)

// ReadSchedule returns a stored schedule. Of one that cannot be read it returns the id
// and the queue.
func ReadSchedule(queue, id, text string) *broker.Schedule {
	schedule, err := parseSchedule(id, text)
	if err != nil || schedule.Run.Queue != queue || schedule.Run.ID != id {
		return &broker.Schedule{ID: id, Run: &broker.TaskRun{ID: id, Queue: queue}}
	}
	return schedule
}

// parseSchedule returns a stored schedule.
func parseSchedule(id, text string) (*broker.Schedule, error) {
	schedule := &broker.Schedule{ID: id, Run: new(broker.TaskRun)}
	cut := func(n int) (piece string) {
		n = max(0, min(n, len(text)))
		piece, text = text[:n], text[n:]
		return piece
	}
	var err error
	if schedule.Revision, err = strconv.ParseInt(cut(16), 10, 64); err != nil {
		return nil, err
	}
	if schedule.Since, err = ParseMicros(cut(16)); err != nil {
		return nil, err
	}
	for i := range 2 { // the task, which the run has too, and the rule
		n, err := strconv.Atoi(cut(4))
		if err != nil {
			return nil, err
		}
		piece := cut(n)
		if i == 0 {
			continue
		}
		rule := codec.NewReader([]byte(piece))
		schedule.Spec, schedule.Zone = rule.String(), rule.String()
		if err := rule.Done(); err != nil {
			return nil, err
		}
	}
	return schedule, schedule.Run.UnmarshalBinary([]byte(text))
}

// ParseTick reads a tick. It returns the zero time for none.
func ParseTick(text string) (time.Time, error) {
	ns, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ns == 0 {
		return time.Time{}, err
	}
	return time.Unix(0, ns).UTC(), nil
}

// ParseMicros reads a time in microseconds.
func ParseMicros(text string) (time.Time, error) {
	us, err := strconv.ParseInt(text, 10, 64)
	return time.UnixMicro(us).UTC(), err
}

// TicksField returns the field of the last tick of a task, or of a dynamic schedule
// with an id: no task's name has a space.
func TicksField(task, entry string) string {
	if entry == "" {
		return task
	}
	return task + " " + entry
}

// IsTick reports whether a text is a tick as FormatTick writes it.
func IsTick(text string) bool {
	_, err := strconv.ParseUint(text, 10, 64)
	return err == nil && len(text) == TickDigits && text < "0729" // as in the scripts
}

// TickDigits is the length of a tick.
const TickDigits = 20

// FormatTick returns a tick as scripts compare it. It refuses years outside 1970 to
// 2200.
func FormatTick(tick time.Time) (string, error) {
	ns := tick.UnixNano()
	if ns < 0 || tick.Year() > 2200 {
		return "", fmt.Errorf("the year %d is outside 1970 to 2200", tick.Year())
	}
	return fmt.Sprintf("%020d", ns), nil
}
