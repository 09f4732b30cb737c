package redis

import (
	"sync"
	"time"
)

// After an outage that lasted longer than their leases all leases have ended at once. Their
// consumers live, though: in a moment they renew, and finish what ended meanwhile.
// Recoveries wait for them.

const (
	// outageAfter is how long a reply about a queue's leases takes if there is an outage:
	// at least this long, and at least half the longest lease.
	outageAfter = 250 * time.Millisecond
	// returnTime is how much longer than a lease recoveries wait after an outage.
	returnTime = time.Second
)

// outage is how the last recoveries of a queue went.
type outage struct {
	mu     sync.Mutex
	failed bool      // the last one
	calm   time.Time // until when recovery waits
}

// fail notes that a recovery could not read the queue.
func (o *outage) fail() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed = true
}

// answered notes a reply that took so long. It reports whether the recovery has to wait
// for sessions to return, whose leases last lease at most. A server that is always slow
// delays recoveries for half the time.
func (o *outage) answered(took, lease time.Duration) (wait bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now, most := time.Now(), lease+returnTime
	if (o.failed || took > max(lease/2, outageAfter)) && lease > 0 && now.Sub(o.calm) > most {
		o.calm = now.Add(most)
	}
	o.failed = false
	return now.Before(o.calm)
}
