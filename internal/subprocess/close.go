package subprocess

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Close refuses new runs and blocks until every process and goroutine of the pool has
// ended. Runs may end by themselves until ctx ends; then Close kills their children
// and returns an error. Further calls wait for the first.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	first := true
	select {
	case <-p.closing:
		first = false
	default:
		close(p.closing)
	}
	p.mu.Unlock()

	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		p.killAll()
	})
	if first {
		p.shutdown()
		close(p.closed)
	}
	<-p.closed
	if !stop() {
		<-done
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killedAtClose > 0 {
		return fmt.Errorf("close pool of child processes: killed %d of them", p.killedAtClose)
	}
	return nil
}

// shutdown waits for the runs, then stops the children and the starting thread.
func (p *Pool) shutdown() {
	for range cap(p.slots) {
		p.slots <- struct{}{} // no run can take it
	}
	p.successors.Wait()
	p.mu.Lock()
	idle := slices.Clone(p.idle)
	p.mu.Unlock()
	var ends sync.WaitGroup
	for _, c := range idle {
		ends.Go(c.stop)
	}
	ends.Wait()
	p.awaitChildren()
	close(p.starts)
	p.work.Wait()
	p.orphans.End()
}

// awaitChildren waits for children that have just ended by themselves.
func (p *Pool) awaitChildren() {
	p.mu.Lock()
	rest := make([]*child, 0, len(p.children))
	for c := range p.children {
		rest = append(rest, c)
	}
	p.mu.Unlock()
	for _, c := range rest {
		c.awaitGone()
	}
}

func (p *Pool) killAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.closed:
		return
	default:
	}
	p.killedAtClose = max(p.killedAtClose, 0)
	for c := range p.children {
		if c.kill(Cancelled, ErrClosed) {
			p.killedAtClose++
		}
	}
}
