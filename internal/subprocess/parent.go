package subprocess

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
)

// Parent is the parent process as one run sees it. Its methods may be called
// concurrently, and return errors once the run is over.
type Parent struct {
	server      *server
	seq         uint64
	level       slog.Level
	decode      int
	hasDeadline bool // the handler's context has a deadline
	cancel      context.CancelCauseFunc
	done        chan struct{} // closed when the run is over
	over        bool          // no more frames of it; under the writer's lock
	leads       bool          // its goroutine is the one that reads next; under the server's lock

	mu    sync.Mutex
	last  uint64
	calls map[uint64]chan<- callResult
}

// DecodeMemory is how many bytes of memory the parent lets the decoding of the
// run's parameters take; 0 leaves it to the codec.
func (p *Parent) DecodeMemory() int { return p.decode }

type callResult struct {
	body []byte
	err  error
}

// Call asks the parent's Config.Call and returns its reply. It returns an
// error when ctx or the run ends first, when body or reply is larger than a
// frame may be, and the text of the error that Config.Call returned.
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
	p.server.handOver(p) // somebody has to read the reply
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
		_ = p.send(appendCancelCall(p.seq, id)) // if the run is over, so is the call
		err = context.Cause(ctx)
	case <-p.done:
	}
	return nil, fmt.Errorf("call parent process: %s: %w", method, err)
}

// send writes a frame of the run unless it is over.
func (p *Parent) send(frame []byte) error {
	return p.server.w.write(frame, func() bool { return !p.over })
}

func (p *Parent) reply(id uint64, body []byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if result, ok := p.calls[id]; ok {
		result <- callResult{body, err} // has room for the one reply
		delete(p.calls, id)
	}
}
