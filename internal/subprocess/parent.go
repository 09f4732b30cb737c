package subprocess

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
)

// Parent is the parent process as seen by one run. Its methods may be called
// concurrently, and return errors once the run has ended.
type Parent struct {
	server      *server
	seq         uint64
	level       slog.Level
	decode      int
	hasDeadline bool // the handler's context has a deadline
	cancel      context.CancelCauseFunc
	done        chan struct{} // closed when the run has ended
	over        bool          // the run has sent its last frame; under the writer's lock
	leads       bool          // the run's goroutine reads the next frame; under the server's lock

	mu    sync.Mutex
	last  uint64
	calls map[uint64]chan<- callResult
}

// DecodeMemory returns how many bytes of memory decoding the run's parameters may
// take; 0 is the codec's default.
func (p *Parent) DecodeMemory() int { return p.decode }

type callResult struct {
	body []byte
	err  error
}

// Call calls the parent's Config.Call and returns its reply. It blocks until the
// reply comes, or ctx or the run ends. It returns an error if ctx or the run ends
// first, if body or reply is too large for a frame, or if Config.Call failed.
func (p *Parent) Call(ctx context.Context, method string, body []byte) ([]byte, error) {
	result := make(chan callResult, 1)
	p.mu.Lock()
	if p.calls == nil {
		p.calls = make(map[uint64]chan<- callResult)
	}
	p.last++
	id := p.last
	p.calls[id] = result
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.calls, id)
	}()
	p.server.mu.Lock()
	p.server.handOver(p) // another goroutine must read the reply
	p.server.mu.Unlock()
	if err := p.send(appendCall(p.seq, id, method, body)); err != nil {
		return nil, fmt.Errorf("call parent process: %s: %w", method, err)
	}
	err := errRunOver
	select {
	case r := <-result:
		if r.err == nil {
			return r.body, nil
		}
		err = r.err
	case <-ctx.Done():
		_ = p.send(appendCancelCall(p.seq, id)) // an ended run has no calls
		err = context.Cause(ctx)
	case <-p.done:
	}
	return nil, fmt.Errorf("call parent process: %s: %w", method, err)
}

// send writes a frame of the run, or returns errRunOver if the run has ended.
func (p *Parent) send(frame []byte) error {
	return p.server.w.write(frame, func() bool { return !p.over })
}

func (p *Parent) reply(id uint64, body []byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if result, ok := p.calls[id]; ok {
		result <- callResult{body, err} // never blocks: there is one reply
		delete(p.calls, id)
	}
}
