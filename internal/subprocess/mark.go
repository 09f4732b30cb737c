package subprocess

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// mark is what a child is told by its environment, as the value of childVariable.
type mark struct {
	// tag is a number that the child sets as a limit that Linux keeps and does
	// not enforce (RLIMIT_LOCKS). All that the child starts inherits it, whatever
	// group, session and environment it has and whoever adopts it: so it is found.
	tag uint64
	// inherited are the descriptors that the parent was started with, such as a
	// service manager's sockets. A child closes them.
	inherited []int
}

// newMark returns the mark of another child.
func newMark() mark {
	return mark{tag: 1 + rand.Uint64N(1<<62), inherited: inheritedDescriptors()}
}

func (m mark) String() string {
	b := strconv.AppendUint(nil, m.tag, 10)
	for _, fd := range m.inherited {
		b = strconv.AppendInt(append(b, ' '), int64(fd), 10)
	}
	return string(b)
}

// readMark reads what String has written.
func readMark(text string) (m mark) {
	for i, field := range strings.Fields(text) {
		n, err := strconv.ParseUint(field, 10, 64)
		switch {
		case err != nil:
		case i == 0:
			m.tag = n
		case n > 4:
			m.inherited = append(m.inherited, int(n))
		}
	}
	return m
}

// obey does in the child what the mark says.
func (m mark) obey() {
	setTag(m.tag)
	for _, fd := range withoutCloseOnExec() {
		if slices.Contains(m.inherited, fd) { // not what this process has opened itself
			closeDescriptor(fd)
		}
	}
}

// inheritedDescriptors are the ones that this process has and would pass on to any
// other: Go opens none such. They are looked for once, when the first child starts.
var inheritedDescriptors = sync.OnceValue(withoutCloseOnExec)
