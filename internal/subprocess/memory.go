package subprocess

import (
	"fmt"
	"sync"
	"time"
)

// How a child's size is watched: not by one reading alone. To find what it has
// started takes longer, so that is read less often.
const (
	memoryEvery = 25 * time.Millisecond
	memoryAgain = 5 * time.Millisecond // after a reading beyond the cap
	memoryTwice = 2
	memoryBelow = 4 // readings between two of the processes below it
)

// memoryWatch kills a child that stays larger than its limit, with what it has
// started. It is a timer
// and not a goroutine, since most runs are over before it is due.
type memoryWatch struct {
	child *child
	limit int64

	mu       sync.Mutex
	timer    *time.Timer
	over     int   // readings beyond the limit in a row
	readings int   // readings in all
	below    int64 // what the processes below the child had
	done     bool
}

// watchMemory watches until the function it returns is called.
func (c *child) watchMemory(limit int64) (stop func()) {
	w := &memoryWatch{child: c, limit: limit}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(2*memoryEvery, w.check)
	return func() {
		w.mu.Lock() // waits for a look
		defer w.mu.Unlock()
		w.done = true
		w.timer.Stop()
	}
}

func (w *memoryWatch) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return
	}
	if w.readings++; w.readings%memoryBelow == 0 || w.over > 0 {
		w.below = sizeBelow(w.child.pid)
	}
	size := residentSize(w.child.pid) + w.below
	if size <= w.limit {
		w.over = 0
		w.timer.Reset(memoryEvery)
		return
	}
	if w.over++; w.over == memoryTwice {
		w.child.kill(OOM, fmt.Errorf("its %d MiB are beyond the cap of %d MiB", size>>20, w.limit>>20))
		return
	}
	w.timer.Reset(memoryAgain)
}
