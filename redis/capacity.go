package redis

import (
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/script"
)

// Limits of one take.
const (
	maxTake      = script.MaxTake  // runs of each kind
	pollInterval = 2 * time.Second // how long a take waits at most before it asks the server again
)

// room is how many runs a take may still return, of each kind and in total. Those that
// would be prefetched are taken only as far as they are not another session's share.
type room struct{ io, cpu, total, prefetchIO, prefetchCPU int }

func (r room) none() bool { return r.total <= 0 || r.io <= 0 && r.cpu <= 0 }

// filled reports whether there is no room left for a kind that there was room for.
func (r room) filled(had room) bool {
	return r.none() || had.io > 0 && r.io <= 0 || had.cpu > 0 && r.cpu <= 0
}

// fill takes the room of runs.
func (r *room) fill(runs []*broker.TaskRun) {
	for _, run := range runs {
		r.total--
		if run.Kind == broker.CPU {
			r.cpu--
		} else {
			r.io--
		}
	}
	r.prefetchIO, r.prefetchCPU = min(r.prefetchIO, max(r.io, 0)), min(r.prefetchCPU, max(r.cpu, 0))
}

// kinds returns the kinds that there is room for: 0 is io, 1 is cpu.
func (r room) kinds() (kinds []int) {
	if r.io > 0 {
		kinds = append(kinds, 0)
	}
	if r.cpu > 0 {
		kinds = append(kinds, 1)
	}
	return kinds
}
