package runtime

import (
	"context"
	"sync"
	"time"
)

// slots counts what a consumer has room for, by kind. One goroutine, the
// taker, waits for room; any may give it back.
type slots struct {
	mu     sync.Mutex
	free   [2]int
	size   [2]int
	freed  chan struct{} // holds one token after a release
	onFree [2]func()     // called once, at the next release of that kind
}

func newSlots(io, cpu int) *slots {
	return &slots{free: [2]int{io, cpu}, size: [2]int{io, cpu}, freed: make(chan struct{}, 1)}
}

// acquire takes a slot, which is there at once unless the broker handed out a
// run that was not wanted. It reports false when ctx ends first. Only the taker
// calls it.
func (s *slots) acquire(ctx context.Context, kind Kind) bool {
	for {
		s.mu.Lock()
		if s.free[kind] > 0 {
			s.free[kind]--
			s.mu.Unlock()
			return true
		}
		s.mu.Unlock()
		select {
		case <-s.freed:
		case <-ctx.Done():
			return false
		}
	}
}

func (s *slots) release(kind Kind) {
	s.mu.Lock()
	s.free[kind]++
	call := s.onFree[kind]
	s.onFree[kind] = nil
	s.mu.Unlock()
	select {
	case s.freed <- struct{}{}:
	default:
	}
	if call != nil {
		call()
	}
}

func (s *slots) room() (io, cpu int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free[IO], s.free[CPU]
}

// busy is how many runs are executing.
func (s *slots) busy() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size[IO] + s.size[CPU] - s.free[IO] - s.free[CPU]
}

// settle is how long the taker waits for a slot of a full kind before it asks
// for runs of the other kind alone: short runs make room in that time, and one
// request then serves both kinds.
const settle = 20 * time.Millisecond

// wait blocks until there is room, for all of the kinds wanted if that does not
// take long. It returns zeros when ctx ends first.
func (s *slots) wait(ctx context.Context, wanted [2]bool) (io, cpu int) {
	var patience <-chan time.Time
	for {
		io, cpu = s.room()
		all := (io > 0 || !wanted[IO]) && (cpu > 0 || !wanted[CPU])
		some := io > 0 && wanted[IO] || cpu > 0 && wanted[CPU]
		if all && some {
			return io, cpu
		}
		if some && patience == nil {
			timer := time.NewTimer(settle)
			defer timer.Stop()
			patience = timer.C
		}
		select {
		case <-s.freed:
		case <-patience:
			return s.room()
		case <-ctx.Done():
			return 0, 0
		}
	}
}

// notify calls f once when a slot of that kind is free, at once if one is; the
// function it returns takes that back.
func (s *slots) notify(kind Kind, f func()) (stop func()) {
	s.mu.Lock()
	free := s.free[kind] > 0
	if !free {
		s.onFree[kind] = f
	}
	s.mu.Unlock()
	if free {
		f()
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.onFree[kind] = nil
	}
}
