package relay

import (
	"context"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/subprocess"
)

// progressEvery is how often a child process reports progress at most.
const progressEvery = 100 * time.Millisecond

// Progress reports to the parent how far a run in a child process is. Its methods may
// be called concurrently.
type Progress struct {
	base   context.Context
	parent *subprocess.Parent
	latest func() *broker.Progress

	mu      sync.Mutex
	ctx     context.Context // of the calls, ends with the run; nil: there was none yet
	cancel  context.CancelFunc
	timer   *time.Timer // to the next call; nil: there was none lately
	changed bool        // since the last call
	closed  bool
	calls   sync.WaitGroup
}

// NewProgress returns the reports of a run in a child process. latest returns the
// run's latest progress.
func NewProgress(ctx context.Context, parent *subprocess.Parent, latest func() *broker.Progress) *Progress {
	return &Progress{base: ctx, parent: parent, latest: latest}
}

// Changed notes that there is new progress, and has it reported: at once if the last
// report is progressEvery ago. It does not block.
func (p *Progress) Changed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.changed = true
	if p.ctx == nil {
		p.ctx, p.cancel = context.WithCancel(p.base)
	}
	if p.timer == nil {
		p.start(0)
	}
}

// start schedules the next call. The lock is held.
func (p *Progress) start(after time.Duration) {
	p.calls.Add(1)
	p.timer = time.AfterFunc(after, p.send)
}

// send reports progress, and again after progressEvery until nothing has changed.
// There is one call at a time, so the latest progress arrives last.
func (p *Progress) send() {
	defer p.calls.Done()
	p.mu.Lock()
	changed := p.changed && !p.closed
	p.changed = false
	if !changed {
		p.timer = nil
	}
	p.mu.Unlock()
	if !changed {
		return
	}
	p.call()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.start(progressEvery)
	}
}

// Close reports the last progress and blocks until all calls have returned.
func (p *Progress) Close() {
	p.mu.Lock()
	p.closed = true
	if p.timer != nil && p.timer.Stop() {
		p.calls.Done()
	}
	last := p.changed && p.base.Err() == nil
	if p.cancel != nil && !last {
		p.cancel()
	}
	p.mu.Unlock()
	p.calls.Wait()
	if last {
		p.call()
	}
	if p.cancel != nil {
		p.cancel()
	}
}

// call reports the latest progress. An error means that the run is over.
func (p *Progress) call() {
	_, _ = p.parent.Call(p.ctx, callProgress, appendProgress(nil, p.latest()))
}
