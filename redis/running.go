package redis

import (
	"context"
	"github.com/taskgen/taskgen/redis/internal/script"
	"maps"
	"slices"
	"sync"
	"time"
)

// To note in the record of each run that it is running would cost the server as
// much as to run it does, and most runs are over before anybody can ask. So it
// is noted of those only that still run a moment later; who asks this process
// in the meantime learns it from here.

// noteAfter is how long a run has been in flight when that is noted in its
// record.
const noteAfter = 10 * time.Millisecond

// noteLater has those of the slot's runs noted as running that still are in a
// moment.
func (s *session) noteLater(sl *slot) {
	r := &s.running
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slots = append(r.slots, sl)
	if !r.noter {
		s.b.sessions.add(s)
		r.noter = s.b.clients.Spawn(s.noteRunning)
	}
}

// noteRunning notes until there is nothing left to note.
func (s *session) noteRunning() {
	r := &s.running
	for {
		s.b.clients.Pause(context.Background(), noteAfter)
		r.mu.Lock()
		slots := r.slots
		r.slots = nil
		if len(slots) == 0 || s.b.clients.IsClosed() {
			r.noter = false
			s.b.sessions.remove(s)
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		s.noteSlots(slots)
	}
}

// noteSlots notes runs of some slots as running, those of each queue apart.
func (s *session) noteSlots(slots []*slot) {
	of := map[*queue][]*slot{}
	for _, sl := range slots {
		of[sl.hold.q] = append(of[sl.hold.q], sl)
	}
	// A state for people: the runs are taken whether it is noted or not.
	_ = s.b.eachQueue(context.Background(), slices.Collect(maps.Keys(of)), func(_ int, q *queue) (failed error) {
		for _, sl := range of[q] {
			keys, indexes := s.unfinishedRecords(sl)
			if len(indexes) == 0 || failed != nil {
				continue
			}
			_, failed = s.b.run(context.Background(), s.b.scripts.Started, s.b.clients.Work, keys, indexes...)
		}
		return failed
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range slots {
		sl.kept = nil // from now on the records tell
	}
}

// unfinishedRecords returns the slot's batch and bitmap and the records of its
// runs that are not finished, and those runs' indexes.
func (s *session) unfinishedRecords(sl *slot) (keys []string, indexes []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := sl.hold.q
	keys = script.BeginKeys(&q.QueueKeys, sl.member)
	for _, k := range sl.kept {
		if !sl.gone && !sl.done[k.index] {
			keys, indexes = append(keys, q.Record(k.id)), append(indexes, k.index)
		}
	}
	return keys, indexes
}

// sessions are those of a broker that hold runs of which nothing is noted yet.
type sessions struct {
	mu   sync.Mutex
	list map[*session]bool
}

func (l *sessions) add(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.list == nil {
		l.list = map[*session]bool{}
	}
	l.list[s] = true
}

func (l *sessions) remove(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.list, s)
}

// runs reports whether a session of this process holds a run.
func (l *sessions) runs(q *queue, id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.list {
		if s.runs(q, id) {
			return true
		}
	}
	return false
}

func (s *session) runs(q *queue, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.holds[q]
	if h == nil {
		return false
	}
	for _, sl := range h.slots {
		for _, k := range sl.kept {
			if k.id == id && !sl.gone && !sl.done[k.index] {
				return true
			}
		}
	}
	return false
}
