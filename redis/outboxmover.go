package redis

import (
	"context"
	"sync"
	"time"

	"github.com/taskgen/taskgen/redis/internal/conn"
)

// mover moves on what ends put into the outbox of a queue, in a goroutine of its
// own, one pass after the other: whoever ends runs need not wait for a server that
// has the queue of what follows.
type mover struct {
	clients *conn.Clients
	timeout time.Duration // of a pass
	move    func(context.Context) error

	mu    sync.Mutex
	now   chan struct{} // closed when the pass in hand is over; nil: none is
	next  chan struct{} // that of the pass behind it; nil: none is asked for
	began time.Time     // the pass in hand
	stuck bool          // the last pass left something where it was
}

// longestFollow is for how long an end waits until what follows it is queued.
const longestFollow = time.Second

// start has a pass made that begins from now on, and returns what is closed at its
// end, or nil if that may take long.
func (m *mover) start() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now != nil {
		if m.next == nil {
			m.next = make(chan struct{})
		}
		if m.stuck || time.Since(m.began) > longestFollow {
			return nil
		}
		return m.next
	}
	m.now, m.began = make(chan struct{}), time.Now()
	over, slow := m.now, m.stuck
	if !m.clients.Spawn(m.run) {
		m.now = nil
		return nil
	}
	if slow {
		return nil
	}
	return over
}

// run makes passes until none is asked for. What one cannot move the next
// recovery moves.
func (m *mover) run() {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), m.timeout)
		err := m.move(ctx)
		cancel()
		m.mu.Lock()
		m.stuck = err != nil
		close(m.now)
		m.now, m.next, m.began = m.next, nil, time.Now()
		again := m.now != nil
		m.mu.Unlock()
		if !again {
			return
		}
	}
}

// outboxScan is how far the entries of an outbox that stay have been looked through, where
// they are too many for each pass to read them all.
type outboxScan struct {
	mu    sync.Mutex
	from  int       // entries at the head that were passed over
	pages int       // of them
	much  bool      // more than newestPages stayed
	next  time.Time // when to look on
}

func (l *outboxScan) isMuch() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.much
}

// begin returns where to look on, and false if it is not time yet.
func (l *outboxScan) begin() (int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.much && time.Now().Before(l.next) {
		return 0, false
	}
	l.next = time.Now().Add(lookEvery)
	return l.from, true
}

// note notes that entries on so many pages stayed before where it looks on, or
// before the end.
func (l *outboxScan) note(from, pages int, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from, l.pages = from, l.pages+pages
	l.much = l.pages > newestPages || l.much && !ended
	if ended || !l.much {
		l.from, l.pages = 0, 0
	}
}
