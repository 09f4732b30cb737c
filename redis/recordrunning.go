package redis

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// To note in each record that its run is running would cost the server as much as the run
// itself does. Most runs end before anybody can ask. So a session notes it only of runs
// that still run a moment later. Until then Record finds them among the sessions of this
// process.

// noteAfter is how long a run has been in flight before its record says so.
const noteAfter = 10 * time.Millisecond

// noteLater has the runs of a batch noted as running if they still are in a moment.
func (s *session) noteLater(bt *batch) {
	r := &s.running
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches = append(r.batches, bt)
	if !r.noter {
		s.b.sessions.add(s)
		r.noter = s.b.clients.Spawn(s.noteRunning)
	}
}

// noteRunning notes runs as running, until there is nothing left to note.
func (s *session) noteRunning() {
	r := &s.running
	for {
		s.b.clients.Pause(context.Background(), noteAfter)
		r.mu.Lock()
		batches := r.batches
		r.batches = nil
		if len(batches) == 0 || s.b.clients.IsClosed() {
			r.noter = false
			s.b.sessions.remove(s)
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		s.noteBatches(batches)
	}
}

// noteBatches notes the runs of some batches as running, queue by queue.
func (s *session) noteBatches(batches []*batch) {
	of := map[*queue][]*batch{}
	for _, bt := range batches {
		of[bt.lease.q] = append(of[bt.lease.q], bt)
	}
	// A state for people: the runs are taken whether it is noted or not.
	_ = s.b.eachQueue(context.Background(), slices.Collect(maps.Keys(of)), func(_ int, q *queue) (failed error) {
		for _, bt := range of[q] {
			keys, indexes := s.unfinishedRecords(bt)
			if len(indexes) == 0 || failed != nil {
				continue
			}
			args := &script.RecordRunningArgs{
				Started: wire.AppendDigits(nil, bt.takenAt.UnixMilli()), Host: wire.AppendHost(nil, broker.ThisHost()),
			}
			_, failed = s.b.run(context.Background(), s.b.scripts.RecordRunning, s.b.clients.Work, keys, append(args.Append(nil), indexes...)...)
		}
		return failed
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, bt := range batches {
		bt.kept = nil // from now on the records say it
	}
}

// unfinishedRecords returns the keys of a batch, of its bitmap and of the records of its
// unfinished runs, and the indexes of these.
func (s *session) unfinishedRecords(bt *batch) (keys []string, indexes []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := bt.lease.q
	keys = script.MarkBegunKeys(&q.QueueKeys, bt.name)
	for _, k := range bt.kept {
		if !bt.gone && !bt.done[k.index] {
			keys, indexes = append(keys, q.Record(k.id)), append(indexes, k.index)
		}
	}
	return keys, indexes
}

// sessions are those of a broker that hold runs whose records do not say yet that they are
// running.
type sessions struct {
	mu   sync.Mutex
	list map[*session]bool
}

func (l *sessions) add(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	set(&l.list, s, true)
}

func (l *sessions) remove(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.list, s)
}

// runs reports whether a session of this process holds a run, and since when.
func (l *sessions) runs(q *queue, id string) (takenAt time.Time, held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.list {
		if takenAt, held = s.runs(q, id); held {
			return takenAt, true
		}
	}
	return time.Time{}, false
}

func (s *session) runs(q *queue, id string) (takenAt time.Time, held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ql := s.leases[q]
	if ql == nil {
		return time.Time{}, false
	}
	for _, bt := range ql.batches {
		for _, k := range bt.kept {
			if k.id == id && !bt.gone && !bt.done[k.index] {
				return bt.takenAt, true
			}
		}
	}
	return time.Time{}, false
}
