package subprocess

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// startInfo is what a child is told by its environment, as the value of childVariable.
type startInfo struct {
	// tag is a number that the child sets as a limit that Linux keeps and does
	// not enforce (RLIMIT_LOCKS). All that the child starts inherits it, whatever
	// group, session and environment it has and whoever adopts it: so it is found.
	tag uint64
	// inherited are the descriptors that the parent was started with, such as a
	// service manager's sockets. A child closes them.
	inherited []int
}

// newStartInfo returns the info of another child.
func newStartInfo() startInfo {
	return startInfo{tag: 1 + rand.Uint64N(1<<62), inherited: inheritedDescriptors()}
}

func (info startInfo) String() string {
	b := strconv.AppendUint(nil, info.tag, 10)
	for _, fd := range info.inherited {
		b = strconv.AppendInt(append(b, ' '), int64(fd), 10)
	}
	return string(b)
}

// parseStartInfo reads what String has written.
func parseStartInfo(text string) (info startInfo) {
	for i, field := range strings.Fields(text) {
		n, err := strconv.ParseUint(field, 10, 64)
		switch {
		case err != nil:
		case i == 0:
			info.tag = n
		case n > 4:
			info.inherited = append(info.inherited, int(n))
		}
	}
	return info
}

// obey does in the child what it says.
func (info startInfo) apply() {
	setTag(info.tag)
	for _, fd := range withoutCloseOnExec() {
		if slices.Contains(info.inherited, fd) { // not what this process has opened itself
			closeDescriptor(fd)
		}
	}
}

// inheritedDescriptors are the ones that this process has and would pass on to any
// other: Go opens none such. They are looked for once, when the first child starts.
var inheritedDescriptors = sync.OnceValue(withoutCloseOnExec)
