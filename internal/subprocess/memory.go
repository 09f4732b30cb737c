package subprocess

import (
	"fmt"
	"sync"
	"time"
)

// How a child's size is watched: not by one reading alone.
const (
	memoryEvery = 25 * time.Millisecond
	memoryAgain = 5 * time.Millisecond // after a reading beyond the cap
	memoryTwice = 2
)

// memoryWatch kills a child that stays larger than its limit. It is a timer
// and not a goroutine, since most runs are over before it is due.
type memoryWatch struct {
	child *child
	limit int64

	mu    sync.Mutex
	timer *time.Timer
	over  int // readings beyond the limit in a row
	done  bool
}

// watchMemory watches until the function it returns is called.
func (c *child) watchMemory(limit int64) (stop func()) {
	w := &memoryWatch{child: c, limit: limit}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(2*memoryEvery, w.look)
	return func() {
		w.mu.Lock() // waits for a look
		defer w.mu.Unlock()
		w.done = true
		w.timer.Stop()
	}
}

func (w *memoryWatch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return
	}
	size := residentSize(w.child.pid)
	if size <= w.limit {
		w.over = 0
		w.timer.Reset(memoryEvery)
		return
	}
	if w.over++; w.over == memoryTwice {
		w.child.doom(OOM, fmt.Errorf("its %d MiB are beyond the cap of %d MiB", size>>20, w.limit>>20))
		return
	}
	w.timer.Reset(memoryAgain)
}
