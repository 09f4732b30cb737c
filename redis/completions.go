package redis

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// completions are the waits for records in this process. The waits in many queues share a
// blocking read.
type completions struct {
	clients    *conn.Clients
	prefix, id string // of the broker

	mu      sync.Mutex
	readers map[*wire.QueueKeys]*completionReader
	all     map[*completionReader]bool
	made    int // readers, to name the next one by
}

// completionReader is the waits that share a blocking read.
type completionReader struct {
	call   string // a list on which to call the reader back, to read of another queue too
	queues map[*wire.QueueKeys]*completionWaits
	called bool // it was, since it last asked which queues these are
}

// completionWaits is the waits for records of one queue, by the id of the run.
type completionWaits struct {
	ids map[string][]chan struct{}
}

// maxReaderQueues is how many queues share a reader: the server pays for each at each end
// of a run.
const maxReaderQueues = 256

func (e *completions) join(q *wire.QueueKeys, id string, ended chan struct{}) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.readers[q]
	if r == nil {
		if r = e.readerFor(q); r == nil {
			return false
		}
	}
	eq := r.queues[q]
	eq.ids[id] = append(eq.ids[id], ended)
	return true
}

// readerFor returns a reader with the queue: one that has room, or a new one. The lock is
// held.
func (e *completions) readerFor(q *wire.QueueKeys) *completionReader {
	for r := range e.all {
		if !e.clients.Cluster && len(r.queues) < maxReaderQueues {
			e.add(r, q)
			if !r.called {
				r.called = true
				e.clients.Spawn(func() { e.interrupt(r) })
			}
			return r
		}
	}
	e.made++
	r := &completionReader{queues: map[*wire.QueueKeys]*completionWaits{}}
	if !e.clients.Cluster {
		r.call = e.prefix + ":wait:" + e.id + ":" + strconv.Itoa(e.made)
	}
	e.add(r, q)
	if !e.clients.Spawn(func() { e.readLoop(r) }) {
		delete(e.readers, q)
		return nil
	}
	e.all[r] = true
	return r
}

func (e *completions) add(r *completionReader, q *wire.QueueKeys) {
	r.queues[q] = &completionWaits{ids: map[string][]chan struct{}{}}
	e.readers[q] = r
}

// interrupt ends the reader's blocking read, so that the next one includes new queues.
// After an error that takes two seconds more.
func (e *completions) interrupt(r *completionReader) {
	ctx := context.Background()
	_ = e.clients.Work.Send(ctx, func(pipe conn.Pipeline) {
		pipe.RPush(ctx, r.call, "1")
		pipe.PExpire(ctx, r.call, time.Minute)
	})
}

func (e *completions) leave(q *wire.QueueKeys, id string, ended chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.readers[q]
	if r == nil {
		return
	}
	eq := r.queues[q]
	left := slices.DeleteFunc(eq.ids[id], func(c chan struct{}) bool { return c == ended })
	if len(left) == 0 {
		delete(eq.ids, id)
	} else {
		eq.ids[id] = left
	}
}

// lists returns the lists of the queues in which a caller waits. It removes the other
// queues.
func (e *completions) lists(r *completionReader) map[string]*completionWaits {
	e.mu.Lock()
	defer e.mu.Unlock()
	r.called = false
	lists := make(map[string]*completionWaits, len(r.queues))
	for q, eq := range r.queues {
		if len(eq.ids) == 0 || e.clients.IsClosed() {
			delete(r.queues, q)
			delete(e.readers, q)
			continue
		}
		lists[q.Ended(e.id)] = eq
	}
	if len(lists) == 0 {
		delete(e.all, r)
	}
	return lists
}

// readLoop reads the ids of runs that have ended while a caller waits for one.
func (e *completions) readLoop(r *completionReader) {
	var wait conn.Backoff
	for {
		lists := e.lists(r)
		if len(lists) == 0 {
			return
		}
		keys := make([]string, 0, len(lists)+1)
		for key := range lists {
			keys = append(keys, key)
		}
		if r.call != "" {
			keys = append(keys, r.call)
		}
		key, ids, err := e.clients.Block.BLMPop(context.Background(), pollInterval, 100, keys...)
		switch {
		case err == nil:
			wait = conn.Backoff{}
			if eq := lists[key]; eq != nil {
				e.notify(eq, ids)
			}
		case conn.IsMissing(err):
			wait = conn.Backoff{}
		default:
			wait.Sleep(context.Background(), e.clients)
		}
	}
}

func (e *completions) notify(eq *completionWaits, ids []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range ids {
		for _, ended := range eq.ids[id] {
			select {
			case ended <- struct{}{}:
			default:
			}
		}
	}
}
