package redis

import (
	"time"

	"github.com/taskgen/taskgen/broker"
)

// filled reports whether there is no room left for a kind that there was room for.
func (r room) filled(had room) bool {
	return r.none() || had.io > 0 && r.io <= 0 || had.cpu > 0 && r.cpu <= 0
}

// Limits of one take.
const (
	maxTake    = 1000            // runs of each kind
	longestNap = 2 * time.Second // without asking the server again
)

// room is what a take may still return. Of io and cpu, those ahead are to be
// taken only as far as they are not another session's share.
type room struct{ io, cpu, total, aheadIO, aheadCPU int }

func (r room) none() bool { return r.total <= 0 || r.io <= 0 && r.cpu <= 0 }

func (r *room) fill(runs []*broker.TaskRun) {
	for _, run := range runs {
		r.total--
		if run.Kind == broker.CPU {
			r.cpu--
		} else {
			r.io--
		}
	}
	r.aheadIO, r.aheadCPU = min(r.aheadIO, max(r.io, 0)), min(r.aheadCPU, max(r.cpu, 0))
}

// kinds returns the kinds that there is room for.
func (r room) kinds() (kinds []int) {
	if r.io > 0 {
		kinds = append(kinds, 0)
	}
	if r.cpu > 0 {
		kinds = append(kinds, 1)
	}
	return kinds
}
