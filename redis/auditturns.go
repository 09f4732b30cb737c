package redis

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/taskgen/taskgen/redis/internal/conn"
)

// pace slows an audit that nobody waits for. Its zero value does not slow.
type pace struct {
	slow     bool
	commands int
}

// after pauses after a command that was sent at start.
func (p *pace) after(ctx context.Context, clients *conn.Clients, start time.Time) error {
	p.commands++
	if !p.slow || clients.Pause(ctx, min((auditShare-1)*time.Since(start), auditLongest)) {
		return nil
	}
	return errors.Join(ctx.Err(), errors.New("there is no time to go on"))
}

// audits are the turns of a process.
type audits struct {
	mu   sync.Mutex
	next time.Time // zero before the first call
	turn int
	busy bool
}

// begin returns which of n queues is next, and false if it is not time yet.
func (a *audits) begin(n int) (turn int, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if a.next.IsZero() {
		a.next, a.turn = now.Add(auditFirst+rand.N(auditFirst)), rand.N(max(n, 1))
	}
	if n == 0 || a.busy || now.Before(a.next) {
		return 0, false
	}
	a.busy = true
	a.turn++
	return a.turn % n, true
}

// end sets the pause before the next turn.
func (a *audits) end(after time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.busy = false
	a.next = time.Now().Add(after - after/10 + rand.N(after/5))
}

const auditFirst = 5 * time.Second // until the first turn, and up to twice that

const auditShare = 100 // of the time one part is for audits

const auditLongest = time.Second // between two commands
