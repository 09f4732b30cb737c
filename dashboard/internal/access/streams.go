package access

import "sync"

// Streams counts replies that go on for long: each keeps a connection and what it shows. Its
// methods may be called concurrently.
type Streams struct {
	most, ofUser int

	mu    sync.Mutex
	all   int
	users map[string]int // by their names
}

// NewStreams allows so many at once, and so many of one user, so that none keeps all others
// out.
func NewStreams(most, ofUser int) *Streams {
	return &Streams{most: most, ofUser: ofUser, users: make(map[string]int)}
}

// Enter reports whether a user may have one more. If so the caller calls leave at its end.
func (s *Streams) Enter(u *User) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= s.most || s.users[u.Name] >= s.ofUser {
		return nil, false
	}
	s.all++
	s.users[u.Name]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.users[u.Name]--; s.users[u.Name] == 0 {
			delete(s.users, u.Name)
		}
	}, true
}
