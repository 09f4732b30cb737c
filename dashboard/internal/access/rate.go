package access

import (
	"sync"
	"time"
)

// DefaultRate is how many requests a second a user may send on average, if the user has no
// rate of its own. Twice as many may come at once.
const DefaultRate = 200

// maxRated is how many users have their rates kept. A proxy may name any number.
const maxRated = 10_000

// rates count the requests of users.
type rates struct {
	now func() time.Time

	mu    sync.Mutex
	users map[string]*rate
}

// rate is how many requests a user may send at an instant.
type rate struct {
	left float64
	at   time.Time
}

// take reports whether a user may send a request now, and else how long it has to wait.
func (r *rates) take(u *User) (wait time.Duration) {
	if u.PerSecond <= 0 {
		return 0
	}
	per, now := float64(u.PerSecond), r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.users[u.Name]
	if b == nil {
		r.makeRoom(now)
		b = &rate{left: 2 * per, at: now}
		r.users[u.Name] = b
	}
	b.left = min(2*per, b.left+per*max(0, now.Sub(b.at).Seconds()))
	b.at = now
	if b.left < 1 {
		return time.Duration((1 - b.left) / per * float64(time.Second))
	}
	b.left--
	return 0
}

// makeRoom forgets users that have sent nothing for a while: they have all their requests
// again. If all have, it forgets any.
func (r *rates) makeRoom(now time.Time) {
	if len(r.users) < maxRated {
		return
	}
	for name, b := range r.users {
		if now.Sub(b.at) > 2*time.Second {
			delete(r.users, name)
		}
	}
	for name := range r.users {
		if len(r.users) < maxRated {
			return
		}
		delete(r.users, name)
	}
}
