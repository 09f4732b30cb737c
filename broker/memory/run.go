package memory

import (
	"maps"
	"slices"

	"github.com/taskgen/taskgen/broker"
)

// storedRun is a run from its queueing to its end.
type storedRun struct {
	run     broker.TaskRun  // never changed in place but for Deliveries; Take copies its payload without the lock
	failure *broker.Failure // of the last attempt

	in         *strand    // while it waits and is due
	prev, next *storedRun // in its strand

	// order is the run's place among all of the queue that wait and are due; while it is
	// delayed, among those of one instant; while a session holds it, when it was taken, by the
	// wall clock.
	order int64

	// These are packed: with eight bytes more each run would take 32 more.
	dueAt     int64 // see due()
	dueOnWall bool
	at        int32 // its place in the heap of those delayed, from 1; else 0

	rare *rare // nil for most
	end  *end  // made by the first that waits for it
}

// due returns since when or from when the run can be taken.
func (e *storedRun) due() instant { return instant{e.dueAt, e.dueOnWall} }

func (e *storedRun) setDue(i instant) { e.dueAt, e.dueOnWall = i.at, i.wall }

// rare are the fields that few runs need.
type rare struct {
	lock     *lock            // on its unique key
	let      bool             // it left its backlog, and is not yet taken
	cancel   *broker.Failure  // how it ends if the session that holds it does not finish it
	progress *broker.Progress // the last that it reported
	group    *group           // it is a member of
	member   int              // its place in it
	awaits   *group           // it is queued after
	waits    bool             // it is not queued yet
	spared   int              // deliveries that ended with a lease, but not with its consumer's life
}

// end lets calls wait for the end of a run.
type end struct {
	came  chan struct{}
	final *broker.Record // set before came is closed; nil if no record is kept
}

func (e *storedRun) limits() []broker.Limit {
	if e.run.Rules == nil {
		return nil
	}
	return e.run.Rules.Limits
}

func (e *storedRun) fair() string {
	if e.run.Rules == nil {
		return ""
	}
	return e.run.Rules.Fair
}

func (e *storedRun) getRare() *rare {
	if e.rare == nil {
		e.rare = &rare{}
	}
	return e.rare
}

// cancelled returns how the run ends if its session does not finish it, nil if it was not
// cancelled.
func (e *storedRun) cancelled() *broker.Failure {
	if e.rare == nil {
		return nil
	}
	return e.rare.cancel
}

func (e *storedRun) progress() *broker.Progress {
	if e.rare == nil {
		return nil
	}
	return e.rare.progress
}

func (e *storedRun) state() broker.State {
	switch {
	case e.in != nil:
		return broker.StateQueued
	case e.at > 0 || e.rare != nil && e.rare.waits:
		return broker.StateDelayed
	}
	return broker.StateRunning
}

// chunkSize is how many runs of one call share an allocation. It is small, because the
// last of them to end keeps the memory of all.
const chunkSize = 64

// copyIn copies the runs of a call, in chunks.
func copyIn(runs []*broker.TaskRun) [][]storedRun {
	chunks := make([][]storedRun, 0, (len(runs)+chunkSize-1)/chunkSize)
	for part := range slices.Chunk(runs, chunkSize) {
		chunk := make([]storedRun, len(part))
		size := 0
		for _, r := range part {
			size += len(r.Payload)
		}
		payloads := make([]byte, 0, size)
		for i, r := range part {
			chunk[i].run = *r
			payloads = detach(&chunk[i].run, payloads)
		}
		chunks = append(chunks, chunk)
	}
	return chunks
}

// detach gives the run memory of its own. It appends the payload to payloads, which has
// the capacity, and returns it.
func detach(r *broker.TaskRun, payloads []byte) []byte {
	r.Receipt = nil
	r.QueuedAt, r.Due = r.QueuedAt.Round(0).UTC(), r.Due.Round(0).UTC()
	r.Headers, r.Rules, r.Links = maps.Clone(r.Headers), cloneRules(r.Rules), cloneLinks(r.Links)
	if r.History != nil {
		r.History = r.History.Clone()
	}
	if r.Payload != nil {
		from := len(payloads)
		payloads = append(payloads, r.Payload...)
		r.Payload = payloads[from:len(payloads):len(payloads)]
	}
	return payloads
}

func cloneRules(rules *broker.Rules) *broker.Rules {
	if rules == nil {
		return nil
	}
	c := *rules
	c.Limits = slices.Clone(c.Limits)
	return &c
}

func cloneLinks(links *broker.Links) *broker.Links {
	if links == nil {
		return nil
	}
	c := *links
	c.Then = slices.Clone(c.Then)
	for i := range c.Then {
		c.Then[i].Run = cloneRun(c.Then[i].Run)
	}
	c.Members = slices.Clone(c.Members)
	for i := range c.Members {
		c.Members[i] = cloneRun(c.Members[i])
	}
	return &c
}

// cloneRun copies a run and all that it refers to, without its receipt.
func cloneRun(r *broker.TaskRun) *broker.TaskRun {
	c := *r
	detach(&c, make([]byte, 0, len(c.Payload)))
	return &c
}
