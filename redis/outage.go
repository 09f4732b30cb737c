package redis

import (
	"sync"
	"time"
)

// After an outage that lasted longer than their leases all sessions have ended at
// once. Their consumers live, though: they return in a moment, renew, and record
// what ended meanwhile. Recovery waits for them.

const (
	// outageAfter is how long the server takes at least to answer a look at a
	// queue's leases that counts as an outage; else half the longest lease.
	outageAfter = 250 * time.Millisecond
	// returnTime is for how much longer than a lease recovery waits after an outage.
	returnTime = time.Second
)

// outage is how recovery got on with a queue lately.
type outage struct {
	mu     sync.Mutex
	failed bool      // the last look
	calm   time.Time // until when recovery waits
}

// fail notes that a look at the queue failed.
func (o *outage) fail() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed = true
}

// answered notes that the server answered a look that took so long, and reports
// whether recovery has to wait for sessions to return, whose leases last lease at
// most. A server that is always slow holds it up for half the time.
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
