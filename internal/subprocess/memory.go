package subprocess

import (
	"fmt"
	"sync"
	"time"
)

// A child is killed after several readings beyond the cap. Finding the processes
// below it takes longer, so they are read less often.
const (
	memoryEvery = 25 * time.Millisecond
	memoryAgain = 5 * time.Millisecond // after a reading beyond the cap
	memoryTwice = 2
	memoryBelow = 4 // every fourth reading includes the processes below it
)

// memoryWatch kills a child that stays larger than its limit, with everything that it
// started. It is a timer and not a goroutine, because most runs end before it fires.
type memoryWatch struct {
	child *child
	limit int64

	mu       sync.Mutex
	timer    *time.Timer
	over     int   // readings beyond the limit in a row
	readings int   // readings in all
	below    int64 // size of the processes below the child
	done     bool
}

// watchMemory watches the child until stop is called.
func (c *child) watchMemory(limit int64) (stop func()) {
	w := &memoryWatch{child: c, limit: limit}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(2*memoryEvery, w.check)
	return func() {
		w.mu.Lock() // waits for a running check
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
