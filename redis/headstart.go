package redis

import (
	"slices"
	"time"
)

// All sessions that wait learn when a run is due that another session has handed back for
// them. They would ask for it in the same millisecond, together with the session that
// handed it back, which may well be the first each time. So that session asks later than
// the others.
const (
	headStart     = 200 * time.Millisecond // that the others have
	maxHandedBack = 64                     // runs that a session remembers
)

// noteHandedBack notes that the session is about to hand back a run for others.
func (s *session) noteHandedBack(ql *queueLease, delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(ql.handedBack) == maxHandedBack {
		ql.handedBack = slices.Delete(ql.handedBack, 0, 1)
	}
	ql.handedBack = append(ql.handedBack, time.Now().Add(delay))
}

// afterOthers returns how long to wait for the queue's first delayed run, which is due
// after the given time; -1 is none. The session's lock is held.
func (ql *queueLease) afterOthers(now time.Time, due time.Duration) time.Duration {
	if len(ql.handedBack) == 0 {
		return due
	}
	ql.handedBack = slices.DeleteFunc(ql.handedBack, func(at time.Time) bool { return now.Sub(at) >= headStart })
	if due <= 0 {
		return due
	}
	first, wait := now.Add(due), due
	for _, at := range ql.handedBack {
		// It is due a little later than noted, by the time the handing back took;
		// the server rounds to milliseconds.
		if late := first.Sub(at); late > -2*time.Millisecond && late < headStart {
			wait = max(wait, due-late+headStart)
		}
	}
	return wait
}
