package subprocess

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// startInfo is what a child needs before its first frame. It crosses in the
// environment variable childVariable.
type startInfo struct {
	// tag is set by the child as its RLIMIT_LOCKS, which Linux keeps but does not
	// enforce. All processes below the child inherit it, whatever their process
	// group, session, environment and parent. So killTagged finds them.
	tag uint64
	// inherited are the descriptors that the parent inherited itself, such as sockets
	// of a service manager. The child closes them.
	inherited []int
}

// newStartInfo returns the information for a new child.
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

// parseStartInfo parses the text that String returns.
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

// apply sets the tag and closes the descriptors. It runs in the child.
func (info startInfo) apply() {
	setTag(info.tag)
	for _, fd := range withoutCloseOnExec() {
		if slices.Contains(info.inherited, fd) { // leaves those that this process has opened
			closeDescriptor(fd)
		}
	}
}

// inheritedDescriptors are the descriptors that every process started from here would
// inherit. Go opens none such. They are read once, when the first child starts.
var inheritedDescriptors = sync.OnceValue(withoutCloseOnExec)
