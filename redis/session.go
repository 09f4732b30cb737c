package redis

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
)

// session is one consumer's membership. It has a lease of its own in each queue.
type session struct {
	b     *Broker
	id    string
	lease time.Duration
	send  func(context.Context, *queueLease, []*finishCall) // applies outcomes in one queue
	brief bool                                              // it holds nothing for longer than a call: it is never renewed, and needs no finish log

	mu       sync.Mutex
	leases   map[*queue]*queueLease
	closed   bool
	finished finishLog

	running running

	// Of Take, which is not called concurrently with itself.
	takeBackoff conn.Backoff // of takes that cannot wait
	hints       *queueHints  // of the several queues that takes name
	failing     failingQueues
	nodeProbes  nodeProbes
}

// queueLease is what a session has in one queue. The lock of the session is held.
type queueLease struct {
	q           *queue
	next        int64        // the number of the next batch
	unanswered  bool         // a take of that number was sent, and may have been executed without a reply
	mayTakeLate bool         // a take whose reply was lost may be executed late
	announcedAt [2]time.Time // when producers last learnt that the session waits: for io, for cpu
	falselyUsed int          // how often in turn the server replied that a number is used that never was
	listed      listed       // when the server last listed all that it takes the session to hold
	mark        string       // when, by the server, some of it was last recovered
	took        [2]time.Time // the first take that no comparison has followed, and the last one
	batches     map[int64]*batch
	handedBack  []time.Time // when runs are due that it handed back for others
	bad         []*outcome  // of stored runs that cannot be read, which could not be applied
	lost        bool        // some of it was recovered, and Renew has not reported it yet
	finish      coalescer[*finishCall]

	heartbeatFailed atomic.Pointer[time.Time] // when the last heartbeat failed; nil: it did not
}

// batch is one batch that the session took.
type batch struct {
	lease  *queueLease
	number int64
	member string           // "session:slot"
	done   []bool           // by index in the batch
	left   int              // not done
	busy   int              // outcomes are being applied
	turn   int              // how often that was begun
	doubts map[int]bool     // indexes of which it is unknown whether they were
	untold map[int]bool     // indexes that were finished by a call that returned an error
	gone   bool             // what was left of it was recovered
	kept   []kept           // those of its runs that have records
	runs   []broker.TaskRun // by index; what could not be read has no receipt
	group  *batchOutcomes   // while outcomes are sorted
	past   map[int]byte     // of the runs that recoveries gave back, what these left in their flags; not made later
	begun  map[int]byte     // of those of them that began, what it was before
}

// receipt is how a delivery is recognised.
type receipt struct {
	session *session
	batch   *batch
	index   int
}

// ID names the session.
func (s *session) ID() string { return s.id }

// leaseIn returns the session's hold of a queue.
func (s *session) leaseIn(q *queue) *queueLease {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.leases[q]
	if h == nil {
		h = &queueLease{q: q, next: 1, batches: map[int64]*batch{}}
		h.finish.run = func(ctx context.Context, items []*finishCall) { s.send(ctx, h, items) }
		s.leases[q] = h
	}
	return h
}

// batchOutcomes is what one command applies to one slot.
type batchOutcomes struct {
	batch    *batch
	outcomes []*outcome
	calls    []*finishCall // whose each outcome is
	whole    bool          // nothing is left of the slot afterwards
	before   int           // how many of its runs earlier commands have finished
	plain    []byte        // a bitmap of those without steps
	lost     bool          // all of those were fenced
	fenced   map[int]bool  // by index in the batch, of the others

	failed map[int]error // by index, of those of which nothing was done
	stays  error         // why the batch is there still although all was done
}

// finishedBatch is what one command applied to one batch.
type finishedBatch struct {
	hold   *queueLease
	number int64
	at     time.Time
	size   int       // of the batch
	plain  []byte    // a bitmap of the runs without steps
	others []outcome // of runs with steps or a record
	bytes  int
}

// finishLog are a session's latest, the earliest first.
type finishLog struct {
	list  []finishedBatch
	first int // those before are forgotten
	bytes int
}

// listed is when a session's slots in a queue were last listed.
type listed struct {
	at    time.Time
	dials int64 // lines for renewals that had been dialed before
}

// outcome is what became of one delivery, as the finish script takes it.
type outcome struct {
	run   *broker.TaskRun
	at    *receipt
	steps string // as the script has them; empty: the run is only forgotten
	keys  []string
	args  []any

	// Without steps: the record of a run that has one, what is to be in it and
	// for how many milliseconds.
	record string
	value  []byte
	keep   int64
}

// finishCall is one call's outcomes in one queue.
type finishCall struct {
	lease    *queueLease
	outcomes []*outcome
	fenced   []*broker.TaskRun
	doubted  []*broker.TaskRun // of these, those that an earlier try may have finished
	failed   []*broker.TaskRun // whose outcomes alone are to blame for err
	again    []*batchOutcomes  // instead of outcomes: what was applied before, and forgotten by the server
	err      error
}

// kept is a run of a batch that has a record.
type kept struct {
	index int // in the batch
	id    string
}

// running are the batches of a session of whose runs nothing is noted yet.
type running struct {
	mu      sync.Mutex
	batches []*batch
	noter   bool // somebody will look at them
}
