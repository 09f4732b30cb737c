package tick

import (
	"encoding/binary"
	"hash/fnv"
	"time"
	_ "time/tzdata" // zones of cron expressions, on machines that have none

	"github.com/taskgen/taskgen/internal/cron"
)

// Timetable names the instants at which a task runs without a caller.
type Timetable interface {
	// Latest returns the last instant at or before t, false if there is none.
	Latest(t time.Time) (time.Time, bool)
	// Next returns the first instant after t, false if there is none.
	Next(t time.Time) (time.Time, bool)
}

// interval is the multiples of a duration since the Unix epoch.
type interval time.Duration

func (i interval) Latest(t time.Time) (time.Time, bool) {
	every := int64(i)
	return time.Unix(0, t.UnixNano()/every*every).UTC(), true
}

func (i interval) Next(t time.Time) (time.Time, bool) {
	last, _ := i.Latest(t)
	return last.Add(time.Duration(i)), true
}

// calendar is a cron expression in a time zone.
type calendar struct {
	schedule *cron.Schedule
	zone     *time.Location
}

func (c calendar) Latest(t time.Time) (time.Time, bool) { return c.schedule.Prev(t, c.zone) }
func (c calendar) Next(t time.Time) (time.Time, bool)   { return c.schedule.Next(t, c.zone) }

// jitter returns by how much a tick is moved: for every scheduler by the same, and
// spread evenly over the ticks of a task and over tasks.
func jitter(task string, tick time.Time, most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(task))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(tick.UnixNano())))
	// FNV leaves similar inputs with similar high bits; this mixes them
	// (the finalizer of MurmurHash3).
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return time.Duration(x % uint64(most))
}
