package subprocess

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/taskgen/taskgen/internal/subprocess/cgroup"
)

// childLimits is what a child sets for itself before its hello.
type childLimits struct {
	threads  int // 0 leaves it
	nice     int // 0 leaves it
	oomScore int // negative or 0 leaves it
}

// apply sets the limits, and tells which hold now and which could not be set:
// none of them is a reason not to serve.
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

// addressHeadroom is how far beyond its cap a child's address space may grow.
// It is ample: a Go program that is refused memory dies in ways that hardly say
// why, so the watch is to come first, and this is for what outruns the watch.
func addressHeadroom(limit int64) int64 { return max(limit, 256<<20) }

// memoryCap is what a child's process is held to. It stays from run to run, as
// long as their caps are the same: to change it takes longer than a short run.
type memoryCap struct {
	limit int64 // 0 for none
	data  int64 // the address space that could be written to when it was set
	undo  func()
}

// set holds this process to limit bytes, or with 0 to none. What earlier runs
// left behind is not the next one's: it is given back first if it is much.
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
		// The limit is on address space that can be written to, of which some
		// is there that will never be used: what may be added counts.
		lift = limitData(data + max(limit-resident, 0) + addressHeadroom(limit))
	}
	m.undo = func() {
		lift()
		debug.SetMemoryLimit(before)
	}
}

// Capabilities names what this system lets a pool do to hold its children:
// what is missing here does not hold.
func Capabilities() []string {
	list := capabilities()
	if groups, err := cgroup.Open(""); err == nil && groups != nil {
		list = append(list, "cgroup")
	}
	return list
}
