package subprocess

import (
	"fmt"
	"sync"
	"time"
)

// How a child's size is watched: not before what earlier runs left in it had
// the time to go, and not by one reading alone.
const (
	memoryFirst = 100 * time.Millisecond
	memoryEvery = 25 * time.Millisecond
	memoryTwice = 2
)

// watchMemory kills the child when it stays larger than limit, until the
// function it returns is called.
func (c *child) watchMemory(limit int64) (stop func()) {
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		timer := time.NewTimer(memoryFirst)
		defer timer.Stop()
		for over := 0; ; timer.Reset(memoryEvery) {
			select {
			case <-timer.C:
			case <-c.exited:
				return
			case <-done:
				return
			}
			size := residentSize(c.pid)
			if size <= limit {
				over = 0
				continue
			}
			if over++; over == memoryTwice {
				c.doom(OOM, fmt.Errorf("its %d MiB are beyond the cap of %d MiB", size>>20, limit>>20))
				return
			}
		}
	})
	return func() {
		close(done)
		watching.Wait()
	}
}
