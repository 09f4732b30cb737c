package redis

import (
	"context"
	"sync"
	"time"

	"github.com/taskgen/taskgen/redis/internal/conn"
)

// mover moves the outbox of a queue, in a goroutine of its own, in one pass after the
// other. So the end of a run need not wait for the server of a follow-up.
type mover struct {
	clients *conn.Clients
	timeout time.Duration // of a pass
	move    func(context.Context) error

	mu    sync.Mutex
	now   chan struct{} // closed when the current pass is over; nil: there is none
	next  chan struct{} // the same for the next pass; nil: none is requested
	began time.Time     // the current pass
	stuck bool          // something stayed in the last pass
}

// longestMoveWait is how long a Finish waits at most until the follow-ups are queued.
const longestMoveWait = time.Second

// start requests a pass that has not begun yet, so that it moves all that is in the outbox
// now. It returns a channel that is closed at the end of the pass, or nil if the pass may
// take long.
func (m *mover) start() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now != nil {
		if m.next == nil {
			m.next = make(chan struct{})
		}
		if m.stuck || time.Since(m.began) > longestMoveWait {
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

// run makes passes until none is requested. The next recovery moves what a pass cannot.
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

// outboxScan is how far the entries that stay in an outbox have been read, if there are
// too many for each pass to read them all.
type outboxScan struct {
	mu    sync.Mutex
	from  int       // entries at the head that were skipped
	pages int       // of them
	much  bool      // entries stayed on more than newestPages pages
	next  time.Time // when to read on
}

func (l *outboxScan) isMuch() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.much
}

// begin returns where to read on, and false if it is not time yet.
func (l *outboxScan) begin() (int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.much && time.Now().Before(l.next) {
		return 0, false
	}
	l.next = time.Now().Add(scanEvery)
	return l.from, true
}

// note notes that entries on so many pages stayed, up to where the next pass reads on, or
// up to the end.
func (l *outboxScan) note(from, pages int, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from, l.pages = from, l.pages+pages
	l.much = l.pages > newestPages || l.much && !ended
	if ended || !l.much {
		l.from, l.pages = 0, 0
	}
}
