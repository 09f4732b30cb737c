package worker

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/measure"
)

// Requests to the broker that are measured. A take is none of them: it waits for runs.
const (
	opOpen = iota
	opRenew
	opFinish
	opHeartbeat
	opRecover
	operations
)

var operationNames = [operations]string{"open", "renew", "finish", "heartbeat", "recover"}

// counters count what happened since the worker was made.
type counters struct {
	leasesLost atomic.Int64
	fenced     atomic.Int64 // outcomes
	unrecorded atomic.Int64 // outcomes
	recovered  atomic.Int64 // runs of others
	operations [operations]operation
}

// operation measures the requests of one kind.
type operation struct {
	measure.Counter
	errors atomic.Int64
}

func (o *operation) observe(began time.Time, err error) {
	o.Observe(time.Since(began))
	if err != nil {
		o.errors.Add(1)
	}
}

// Stats are what a worker has done since it was made, and does now.
type Stats struct {
	Slots      [2]broker.Slots // by kind; a kind of which there are no tasks has none
	LeasesLost int64
	Fenced     int64
	Unrecorded int64
	Recovered  int64
	Operations map[string]Operation
}

// Operation are the requests of one kind.
type Operation struct {
	measure.Durations
	Errors int64
}

// Stats returns what the worker has done. It does not block.
func (w *Worker) Stats() Stats {
	s := Stats{
		LeasesLost: w.count.leasesLost.Load(), Fenced: w.count.fenced.Load(),
		Unrecorded: w.count.unrecorded.Load(), Recovered: w.count.recovered.Load(),
		Operations: make(map[string]Operation, operations),
	}
	for kind, p := range w.slots {
		s.Slots[kind].Busy = p.running()
		if w.kinds[kind] {
			s.Slots[kind].Total = p.size
		}
	}
	for i := range w.count.operations {
		o := &w.count.operations[i]
		s.Operations[operationNames[i]] = Operation{o.Durations(), o.errors.Load()}
	}
	return s
}

// vitals are the signs of life of a worker.
type vitals struct {
	changed func() // called when there is another session, or none; nil: nobody asks

	mu       sync.Mutex
	running  context.Context // of Run; nil: it does not run
	session  string          // empty: there is none
	turned   time.Time       // when the loop that keeps the lease, or opens sessions, last turned
	answered time.Time       // when the broker last let a session be opened or renewed
	failed   time.Time       // when a take last failed; zero: the last one did not
}

func (v *vitals) start(ctx context.Context) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.running, v.session = ctx, ""
	v.turned, v.answered, v.failed = time.Now(), time.Time{}, time.Time{}
}

func (v *vitals) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.running, v.session = nil, ""
}

func (v *vitals) turn() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.turned = time.Now()
}

// answer notes that the broker has the session since it was asked at an instant.
func (v *vitals) answer(session string, asked time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.setSession(session)
	if asked.After(v.answered) {
		v.answered = asked
	}
}

// lose notes that there is no session.
func (v *vitals) lose() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.setSession("")
}

// setSession sets the session. The lock is held.
func (v *vitals) setSession(id string) {
	if v.session != id && v.changed != nil {
		defer v.changed()
	}
	v.session = id
}

// takeWorked notes that takes do not fail any more.
func (v *vitals) takeWorked() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.failed = time.Time{}
}

func (v *vitals) takeFailed() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.failed = time.Now()
}

// Health is whether a worker works.
type Health struct {
	Running  bool // Run goes on
	Stopping bool // its context has ended
	Turned   time.Time
	Answered time.Time
	Failed   time.Time // of a take; zero: the last one did not fail
	Session  string
}

// Health returns whether the worker works. It does not block.
func (w *Worker) Health() Health {
	v := &w.vitals
	v.mu.Lock()
	defer v.mu.Unlock()
	return Health{
		Running: v.running != nil, Stopping: v.running != nil && v.running.Err() != nil,
		Turned: v.turned, Answered: v.answered, Failed: v.failed, Session: v.session,
	}
}

// Queues returns the queues that the worker takes from at present, with their weights.
func (w *Worker) Queues() map[string]int {
	queues := make(map[string]int)
	maps.Insert(queues, w.queues.all())
	return queues
}
