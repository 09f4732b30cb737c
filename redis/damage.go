package redis

import (
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker/maintenance"
)

// droppedEvery is how often at most it is reported of a queue that dead letters were
// dropped.
const droppedEvery = 10 * time.Second

// damages are the broken keys found since the last call of [Broker.Damaged].
type damages struct {
	mu      sync.Mutex
	list    []maintenance.Damage
	dropped map[string]*droppings // by queue
}

// droppings are how many dead letters of a queue were dropped.
type droppings struct {
	n          int64
	reportedAt time.Time
}

func (d *damages) add(found maintenance.Damage) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.list); n >= maintenance.MaxDamages {
		d.list[n-1].More++
		return
	}
	d.list = append(d.list, found)
}

// drop notes that n dead letters of a queue were dropped.
func (d *damages) drop(queue string, n int64) {
	if n <= 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dropped[queue] == nil {
		set(&d.dropped, queue, new(droppings))
	}
	d.dropped[queue].n += n
}
