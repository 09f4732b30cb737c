package subprocess

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/taskgen/taskgen/internal/subprocess/cgroup"
)

// childLimits are the limits that a child sets for itself before its hello.
type childLimits struct {
	threads  int // 0 leaves it
	nice     int // 0 leaves it
	oomScore int // 0 or negative leaves it
}

// apply sets the limits. It reports which are set and which could not be: a child
// serves without them.
func (l childLimits) apply() hello {
	var h hello
	var failed []string
	try := func(name string, f func() error) {
		if err := f(); err != nil {
			failed = append(failed, fmt.Sprintf("%s: %v", name, err))
			return
		}
		h.active = append(h.active, name)
	}
	if l.threads > 0 {
		try(fmt.Sprintf("gomaxprocs=%d", l.threads), func() error {
			if runtime.GOMAXPROCS(0) != l.threads { // setting it stops the world
				runtime.GOMAXPROCS(l.threads)
			}
			return nil
		})
	}
	try("core=0", noCore)
	if l.nice > 0 {
		try(fmt.Sprintf("nice=%d", l.nice), func() error { return addNice(l.nice) })
	}
	if l.oomScore > 0 && hasOOMScore {
		try(fmt.Sprintf("oom_score_adj=%d", l.oomScore), func() error { return setOOMScore(l.oomScore) })
	}
	h.failed = strings.Join(failed, "; ")
	return h
}

// addressHeadroom is how far beyond its cap a child's address space may grow. It is
// ample, because a Go program that is refused memory crashes with unclear messages.
// The memory watch should act first; this limit is for growth that is faster.
func addressHeadroom(limit int64) int64 { return max(limit, 256<<20) }

// memoryCap is the memory limit of the child's process. It stays set while runs have
// the same cap: changing it takes longer than a short run.
type memoryCap struct {
	limit int64 // 0 for none
	data  int64 // writable address space when it was set
	undo  func()
}

// set limits this process to limit bytes; 0 is no limit. If earlier runs have left
// much memory, set returns it to the system first.
func (m *memoryCap) set(limit int64) {
	if limit != m.limit && m.undo != nil {
		m.undo()
		m.undo = nil
	}
	changed := limit != m.limit
	m.limit = limit
	if limit == 0 {
		return
	}
	resident, data := ownSize()
	if resident > limit/2 {
		debug.FreeOSMemory()
		resident, data = ownSize()
	}
	if !changed && data-m.data < limit/4 {
		return
	}
	if m.undo != nil {
		m.undo()
	}
	m.data = data
	before := debug.SetMemoryLimit(limit / 10 * 9)
	lift := func() {}
	if data > 0 {
		// The limit counts all writable address space, and much of that is never
		// used. So allow what may be added.
		lift = limitData(data + max(limit-resident, 0) + addressHeadroom(limit))
	}
	m.undo = func() {
		lift()
		debug.SetMemoryLimit(before)
	}
}

// Capabilities returns the means that this system has to limit and kill children. A
// guarantee that needs a missing one does not hold.
func Capabilities() []string {
	list := capabilities()
	if groups, err := cgroup.Open(""); err == nil && groups != nil {
		list = append(list, "cgroup")
	}
	return list
}
