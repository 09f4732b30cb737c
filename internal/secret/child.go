package secret

import (
	"bytes"
	"slices"
	"sync"

	"github.com/taskgen/taskgen/internal/subprocess"
)

const (
	// mostUnread and mostUnreadBytes bound the runs of a child whose secrets are
	// kept as parameters, to be looked for once it prints something.
	mostUnread      = 1000
	mostUnreadBytes = 1 << 20
	// mostKept and mostKeptForms bound the secrets of a child that are looked for,
	// as mostSecrets and mostForms do those of a run: those of the runs before are
	// forgotten once there are twice as many.
	mostKept      = 2000
	mostKeptForms = 2 << 20
)

// child finds the secrets of the runs of one child process in its output: what
// a run left behind there may print long after it. It may be used concurrently.
type child struct {
	mu     sync.Mutex
	last   *Run // of the latest run that has some; nil: read already
	whole  bool // they are too many
	unread []unreadSecrets
	bytes  int // of their payloads
	found  *Values
}

// unreadSecrets are those of a run that has ended.
type unreadSecrets struct {
	params  Params
	payload []byte
}

// InChild returns a function that makes the hider of a child's output from the one of its
// earlier runs. It returns nil if the run has no secrets.
func (r *Run) InChild() func(before subprocess.Hider) subprocess.Hider {
	if r == nil {
		return nil
	}
	return func(before subprocess.Hider) subprocess.Hider {
		c, ok := before.(*child)
		if !ok {
			c = &child{found: newValues()}
		}
		c.begin(r)
		return c
	}
}

// begin adds the secrets of a run that begins.
func (c *child) begin(r *Run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last != nil && len(c.last.payload) <= mostUnreadBytes {
		c.unread = append(c.unread, unreadSecrets{c.last.params, bytes.Clone(c.last.payload)}) // which may be part of much more
		c.bytes += len(c.last.payload)
	}
	for len(c.unread) > mostUnread || c.bytes > mostUnreadBytes {
		c.bytes -= len(c.unread[0].payload)
		c.unread = slices.Delete(c.unread, 0, 1)
	}
	c.last, c.whole = r, false
}

// Hide returns a line with *** in place of secret values.
func (c *child) Hide(line string, cut bool) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range c.unread {
		c.add(find(u.params, u.payload))
	}
	c.unread, c.bytes = nil, 0
	if c.last != nil {
		latest := c.last.Values()
		c.add(latest)
		c.last, c.whole = nil, latest.all
	}
	if c.whole {
		return hidden
	}
	return c.found.maskStack(line, cut)
}

// add adds those of one run, unless they are too many to be looked for.
func (c *child) add(s *Values) {
	if c.found.count > mostKept || c.found.size > mostKeptForms {
		c.found.older = nil
		newer := newValues()
		newer.older, c.found = c.found, newer
	}
	c.found.merge(s)
}

// merge adds the forms of others.
func (s *Values) merge(others *Values) {
	s.count += others.count
	for key, forms := range others.forms {
		for _, form := range forms {
			at, known := slices.BinarySearchFunc(s.forms[key], form, longerFirst)
			if !known {
				s.forms[key] = slices.Insert(s.forms[key], at, form)
				s.size += len(form) + perForm
			}
		}
	}
}
