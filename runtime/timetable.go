package runtime

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"time"
	_ "time/tzdata" // zones of cron expressions, on machines that have none

	"github.com/taskgen/taskgen/internal/cron"
)

// timetable names the instants at which a task runs by itself.
type timetable interface {
	// latest returns the last instant at or before t, false if there is none.
	latest(t time.Time) (time.Time, bool)
	// next returns the first instant after t, false if there is none.
	next(t time.Time) (time.Time, bool)
}

// interval is the multiples of a duration since the Unix epoch.
type interval time.Duration

func (i interval) latest(t time.Time) (time.Time, bool) {
	every := int64(i)
	return time.Unix(0, t.UnixNano()/every*every).UTC(), true
}

func (i interval) next(t time.Time) (time.Time, bool) {
	last, _ := i.latest(t)
	return last.Add(time.Duration(i)), true
}

// calendar is a cron expression in a time zone.
type calendar struct {
	schedule *cron.Schedule
	zone     *time.Location
}

func (c calendar) latest(t time.Time) (time.Time, bool) { return c.schedule.Prev(t, c.zone) }
func (c calendar) next(t time.Time) (time.Time, bool)   { return c.schedule.Next(t, c.zone) }

// timetable returns nil for a task without a schedule.
func (s *Timing) timetable() (timetable, error) {
	switch {
	case s.Every != 0 && s.Cron != "":
		return nil, fmt.Errorf("it has both an interval and a cron expression")
	case s.Every < 0 || s.Jitter < 0:
		return nil, fmt.Errorf("its interval or jitter is negative")
	case s.Every > 0 && s.Jitter >= s.Every:
		return nil, fmt.Errorf("its jitter %s is not less than its interval %s", s.Jitter, s.Every)
	case s.Every > 0:
		return interval(s.Every), nil
	case s.Cron == "":
		return nil, nil
	}
	schedule, err := cron.Parse(s.Cron)
	if err != nil {
		return nil, err
	}
	zone, err := time.LoadLocation(s.Zone) // "" is UTC
	if err != nil {
		return nil, err
	}
	return calendar{schedule, zone}, nil
}

// jitter is by how much a tick is moved: the same for every scheduler that
// looks at it, and spread evenly over the ticks of a task and over tasks.
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
