package redis

import (
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker/maintenance"
)

// trimmedEvery is how often at most it is reported of a queue that dead letters were
// trimmed.
const trimmedEvery = 10 * time.Second

// damages are the broken keys found since the last call of [Broker.Damaged].
type damages struct {
	mu      sync.Mutex
	list    []maintenance.Damage
	trimmed map[string]*trimming // by queue
}

// trimming is how many dead letters of a queue were trimmed since the last report.
type trimming struct {
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

// noteTrimmed notes that n dead letters of a queue were trimmed.
func (d *damages) noteTrimmed(queue string, n int64) {
	if n <= 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.trimmed[queue] == nil {
		set(&d.trimmed, queue, new(trimming))
	}
	d.trimmed[queue].n += n
}
