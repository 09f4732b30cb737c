package redis

import (
	"slices"
	"time"
)

// A run that a session handed back for others is due at an instant that all
// learn who wait: the script that puts it back wakes the one that has waited
// longest, which asks when that is. Then all would ask for it in the same
// millisecond, and who is first is not even chance: it may well be the same one
// each time. So the session that handed it back asks later than the others.
const (
	headStart     = 200 * time.Millisecond // of the others
	maxHandedBack = 64                     // runs a session keeps in mind so
)

// noteHandedBack notes that a run is about to be handed back for others.
func (s *session) noteHandedBack(h *queueLease, delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(h.handedBack) == maxHandedBack {
		h.handedBack = slices.Delete(h.handedBack, 0, 1)
	}
	h.handedBack = append(h.handedBack, time.Now().Add(delay))
}

// afterOthers returns how long to wait when the queue's first delayed run is due
// in the given time, -1 if there is none. It is called with the lock.
func (h *queueLease) afterOthers(now time.Time, due time.Duration) time.Duration {
	if len(h.handedBack) == 0 {
		return due
	}
	h.handedBack = slices.DeleteFunc(h.handedBack, func(at time.Time) bool { return now.Sub(at) >= headStart })
	if due <= 0 {
		return due
	}
	first, wait := now.Add(due), due
	for _, at := range h.handedBack {
		// It is due a little later than noted, by the time the handing back took;
		// the server rounds to milliseconds.
		if late := first.Sub(at); late > -2*time.Millisecond && late < headStart {
			wait = max(wait, due-late+headStart)
		}
	}
	return wait
}
