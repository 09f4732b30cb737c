package redis

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
)

// session is a [broker.Session]: one consumer's membership. It has a lease of its own in each
// queue.
type session struct {
	b          *Broker
	id         string
	lease      time.Duration
	send       func(context.Context, *queueLease, []*finishCall) // applies outcomes in one queue
	shortLived bool                                              // it holds runs during a call only: it is never renewed, and needs no finish log

	mu       sync.Mutex
	leases   map[*queue]*queueLease
	closed   bool
	finished finishLog

	running running

	// Of Take, which is not called concurrently with itself.
	takeBackoff conn.Backoff // of takes that cannot wait
	limits      programLimits
	hints       *queueHints // of the several queues that takes name
	failing     failingQueues
	nodeProbes  nodeProbes
}

// queueLease is what a session has in one queue. The lock of the session is held.
type queueLease struct {
	q             *queue
	next          int64        // the number of the next batch
	unanswered    bool         // a take of that number was sent, and may have been executed without a reply
	mayTakeLate   bool         // a take whose reply was lost may be executed late
	announcedAt   [2]time.Time // when producers last learnt that the session waits: for io, for cpu
	falselyUsed   int          // how many replies in a row called a number used that the session had not used
	lastListing   batchListing
	lastRecovered string    // when some of its runs were last recovered, by the server's clock
	firstTake     time.Time // the first take since the last comparison
	lastTake      time.Time
	batches       map[int64]*batch
	handedBack    []time.Time            // when the runs are due that the session gave back for others
	bad           []*outcome             // outcomes of unreadable stored runs, still to be applied
	lost          bool                   // some of its runs were recovered, and Renew has not reported that yet
	finish        coalescer[*finishCall] // joins concurrent calls of Finish

	heartbeatFailed atomic.Pointer[time.Time] // when the last heartbeat failed; nil: it did not
}

// batch is a batch that the session took.
type batch struct {
	lease      *queueLease
	number     int64
	name       string           // "session:number"
	done       []bool           // by index in the batch
	left       int              // not done
	busy       int              // commands that are applying outcomes
	commands   int              // how many such commands have begun so far
	doubtful   map[int]bool     // indexes of which it is unknown whether they are done
	unreported map[int]bool     // indexes of runs that a call finished, though it returned an error because of others
	gone       bool             // the rest of it was recovered or given back
	kept       []kept           // its runs that have records
	runs       []broker.TaskRun // by index; a run that could not be read has no receipt
	takenAt    time.Time
	sorting    *batchOutcomes // while outcomes are sorted
	past       map[int]byte   // by index, of the runs that recoveries gave back: the upper bits of their flags; only receive makes it
	begun      map[int]byte   // by index, of those that have begun here: these bits before the begin
}

// receipt identifies a delivery.
type receipt struct {
	session *session
	batch   *batch
	index   int
}

// ID names the session.
func (s *session) ID() string { return s.id }

// leaseIn returns the session's lease in a queue.
func (s *session) leaseIn(q *queue) *queueLease {
	s.mu.Lock()
	defer s.mu.Unlock()
	ql := s.leases[q]
	if ql == nil {
		ql = &queueLease{q: q, next: 1, batches: map[int64]*batch{}}
		ql.finish.run = func(ctx context.Context, items []*finishCall) { s.send(ctx, ql, items) }
		s.leases[q] = ql
	}
	return ql
}

// batchOutcomes are the outcomes that one command applies to one batch.
type batchOutcomes struct {
	batch    *batch
	outcomes []*outcome
	calls    []*finishCall // of each outcome
	whole    bool          // nothing is left of the batch afterwards
	before   int           // how many of its runs earlier commands have finished
	plain    []byte        // a bitmap of the runs without operations
	lost     bool          // all runs without operations were fenced
	fenced   map[int]bool  // the other runs that were fenced, by index

	failed map[int]error // by index: why an outcome was not applied
	stays  error         // why the batch was not removed, though all was applied
}

// finishedBatch is what one command applied to one batch.
type finishedBatch struct {
	lease  *queueLease
	number int64
	at     time.Time
	size   int       // of the batch
	plain  []byte    // a bitmap of the runs without operations
	others []outcome // of runs with operations or a record
	bytes  int
}

// finishLog is the latest outcomes that a session applied, the earliest first.
type finishLog struct {
	list  []finishedBatch
	first int // entries before this one are forgotten
	bytes int
}

// batchListing is when the server last listed a session's batches in a queue.
type batchListing struct {
	at    time.Time
	dials int64 // how many connections for renewals had been dialed by then
}

// outcome is the outcome of one delivery, as the finish script takes it.
type outcome struct {
	run        *broker.TaskRun
	at         *receipt
	operations string // letters, as the script has them; empty: the run only ends, and its record below is perhaps set
	keys       []string
	args       []any

	// Without operations: the key of the run's record, if there is one, its value, and for how
	// many milliseconds it is kept.
	record string
	value  []byte
	keep   int64
}

// finishCall is the outcomes of one call in one queue.
type finishCall struct {
	lease    *queueLease
	outcomes []*outcome
	fenced   []*broker.TaskRun
	doubtful []*broker.TaskRun // of the fenced, those that an earlier try may have finished
	failed   []*broker.TaskRun // whose own outcomes are to blame for err
	again    []*batchOutcomes  // instead of outcomes: what was applied before, and the server has forgotten
	err      error
}

// kept is a run of a batch that has a record.
type kept struct {
	index int // in the batch
	id    string
}

// running are the batches of a session whose runs the records do not show as running yet.
type running struct {
	mu      sync.Mutex
	batches []*batch
	noter   bool // a goroutine will note them
}
