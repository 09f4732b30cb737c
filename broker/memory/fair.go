package memory

import "github.com/taskgen/taskgen/broker"

// readyList is the runs of one kind and priority that are due. The values of their Fair
// take turns; runs without one count as one value. If all runs have one value they are in
// the order queued.
type readyList struct {
	first, last *strand // of the values that have runs here; first is the next
	plain       strand
	others      map[string]*strand // by value

	waiting bool     // its runs wait for a limit, or are of a disabled task, and do not count as ready
	backlog *backlog // it is part of, if of one
}

// strand is the runs of one value, in order.
type strand struct {
	readyList  *readyList
	head, tail *storedRun
	prev, next *strand    // in turn
	mark       *storedRun // where a search has looked last, nil: before head
}

const priorities = 3

// level is the index of a priority: 0 is taken first.
func level(p broker.Priority) int {
	switch {
	case p > broker.Medium:
		return 0
	case p < broker.Medium:
		return 2
	}
	return 1
}

// lower maps an unknown kind to a known one.
func lower(k broker.Kind) broker.Kind {
	if k == broker.CPU {
		return broker.CPU
	}
	return broker.IO
}

// head returns the run whose turn it is, nil if there is none.
func (l *readyList) head() *storedRun {
	if l.first == nil {
		return nil
	}
	return l.first.head
}

// add puts a run in its order among those of its value, looking for its place
// from the end.
func (l *readyList) add(e *storedRun) {
	s := l.strandOf(e)
	before := s.tail
	if s.head != nil && s.head.order > e.order {
		before = nil
	}
	for before != nil && before.order > e.order {
		before = before.prev
	}
	s.insert(e, before)
}

// addAhead puts a run in its order among those of its value, looking for its
// place from the head, and makes it that value's turn.
func (l *readyList) addAhead(e *storedRun) {
	s := l.strandOf(e)
	var before *storedRun
	for after := s.head; after != nil && after.order < e.order; after = after.next {
		before = after
	}
	s.insert(e, before)
	if l.first != s {
		l.leave(s)
		l.joinFirst(s)
	}
}

// strandOf returns the strand of the run's value, which joins the end of the
// round if it is not in it.
func (l *readyList) strandOf(e *storedRun) *strand {
	s := &l.plain
	if v := e.fair(); v != "" {
		if s = l.others[v]; s == nil {
			if l.others == nil {
				l.others = make(map[string]*strand)
			}
			s = &strand{}
			l.others[v] = s
		}
	}
	if s.head == nil {
		s.readyList = l
		l.joinLast(s)
	}
	return s
}

// insert puts a run behind another of the strand, nil: at its head.
func (s *strand) insert(e, before *storedRun) {
	e.in, e.prev = s, before
	if before == nil {
		e.next, s.head = s.head, e
	} else {
		e.next, before.next = before.next, e
	}
	if e.next == nil {
		s.tail = e
	} else {
		e.next.prev = e
	}
}

// remove takes a run out of the ready list. Its value keeps its turn.
func (l *readyList) remove(e *storedRun) {
	s := e.in
	if s.mark == e {
		s.mark = e.prev
	}
	if e.prev == nil {
		s.head = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		s.tail = e.prev
	} else {
		e.next.prev = e.prev
	}
	if s.head == nil {
		l.leave(s)
		if s != &l.plain {
			delete(l.others, e.fair())
		}
	}
	e.in, e.prev, e.next = nil, nil, nil
}

// removeInTurn takes the ready list's head out, and makes it the next value's turn.
func (l *readyList) removeInTurn(e *storedRun) {
	s := e.in
	l.remove(e)
	if s.head != nil && l.last != s {
		l.leave(s)
		l.joinLast(s)
	}
}

func (l *readyList) joinLast(s *strand) {
	s.prev, s.next = l.last, nil
	if l.last == nil {
		l.first = s
	} else {
		l.last.next = s
	}
	l.last = s
}

func (l *readyList) joinFirst(s *strand) {
	s.prev, s.next = nil, l.first
	if l.first == nil {
		l.last = s
	} else {
		l.first.prev = s
	}
	l.first = s
}

func (l *readyList) leave(s *strand) {
	if s.prev == nil {
		l.first = s.next
	} else {
		s.prev.next = s.next
	}
	if s.next == nil {
		l.last = s.prev
	} else {
		s.next.prev = s.prev
	}
	s.prev, s.next = nil, nil
}
