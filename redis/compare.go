package redis

import (
	"context"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// A failover to a replica that lags, or a crash that cuts the append-only file, takes the
// server back in time by a moment: batches are in flight again whose runs have ended.
// Recoveries leave them alone, because the session is alive. So renewals list what the
// server takes the session to hold, and the session ends these runs again.

// Bounds of a session's memory of its latest outcomes. A run whose outcome it has
// forgotten is given back, and runs once more.
const (
	remembered       = 2       // leases
	maxFinished      = 8192    // batches, or parts of batches
	maxFinishedBytes = 4 << 20 // of records, dead letters and what else outcomes write
	replayShare      = 6       // a replay takes at most one in so many parts of a lease, as other queues wait for their renewal
	shortestReplay   = 100 * time.Millisecond
	sizePerReplay    = 256 // bytes of an outcome besides what it writes, about
)

// remember adds the applied outcomes of a batch, and forgets outcomes older than d. The
// caller holds the session's lock.
func (p *finishLog) remember(bo *batchOutcomes, replyLost bool, d time.Duration) {
	now := time.Now()
	p.forget(now.Add(-d)) // a session that never renews forgets here
	e := finishedBatch{lease: bo.batch.lease, number: bo.batch.number, at: now, size: len(bo.batch.done)}
	for _, o := range bo.outcomes {
		switch {
		case bo.failure(o) != nil:
		case bo.isFenced(o) && !replyLost && !bo.batch.doubtful[o.at.index]:
		case o.operations == "" && o.record == "":
			if e.plain == nil {
				e.plain = bo.plain
			}
		default:
			other := *o
			other.run, other.at = nil, &receipt{index: o.at.index} // parameters may be large
			e.others = append(e.others, other)
			e.bytes += other.size()
		}
	}
	if e.plain == nil && e.others == nil {
		return
	}
	p.list = append(p.list, e)
	p.bytes += e.bytes
	for p.first < len(p.list) && (len(p.list)-p.first > maxFinished || p.bytes > maxFinishedBytes) {
		p.drop()
	}
}

// size is about how many bytes the outcome keeps in memory.
func (o *outcome) size() int {
	n := sizePerReplay + len(o.value)
	for _, arg := range o.args {
		switch arg := arg.(type) {
		case []byte:
			n += len(arg)
		case string:
			n += len(arg)
		}
	}
	return n
}

// forget drops what was applied before an instant. The session's lock is held.
func (p *finishLog) forget(before time.Time) {
	for p.first < len(p.list) && p.list[p.first].at.Before(before) {
		p.drop()
	}
}

func (p *finishLog) drop() {
	p.bytes -= p.list[p.first].bytes
	p.list[p.first] = finishedBatch{}
	p.first++
	switch {
	case p.first == len(p.list):
		p.list, p.first = p.list[:0], 0
	case p.first > maxFinished || p.first > 64 && 2*p.first > len(p.list):
		n := copy(p.list, p.list[p.first:])
		clear(p.list[n:])
		p.list, p.first = p.list[:n], 0
	}
}

// of returns what was applied to a batch. The session's lock is held.
func (p *finishLog) of(ql *queueLease, number int64) (list []finishedBatch) {
	for _, e := range p.list[p.first:] {
		if e.lease == ql && e.number == number {
			list = append(list, e)
		}
	}
	return list
}

// noteTake notes that a take has extended the lease. The session's lock is held.
func (s *session) noteTake(ql *queueLease) {
	now := time.Now()
	if now.Sub(ql.lastTake) > s.lease {
		ql.firstTake = now
	}
	ql.lastTake = now
}

// keptByTakes reports whether only takes keep the lease of a queue alive, because the session
// holds nothing there at any renewal. The session's lock is held.
func (s *session) keptByTakes(ql *queueLease) bool {
	return ql.lastTake.Sub(ql.firstTake) > s.lease/2 && time.Since(ql.lastTake) < s.lease
}

// comparison compares what the server takes a session to hold in a queue with what the
// session knows.
type comparison struct {
	s           *session
	ql          *queueLease
	idle        bool // the session holds nothing, and the lease is not extended
	lastListing batchListing

	next   int64            // the number of the first batch that was not taken when the comparison began
	known  map[int64]*batch // the batches that the session held when the comparison began
	partly []*batch         // those of known with runs that are finished, and with none that is being finished
	ended  []int            // how many runs of each of partly are finished

	commands map[int64]int // of each batch of known, its commands when the comparison began

	all    bool           // the server has listed all batches of the session
	listed map[int64]bool // their numbers
	counts []int64        // of each of partly, how many runs are finished by the server's bitmap
}

func (s *session) compare(ql *queueLease) *comparison {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &comparison{s: s, ql: ql, lastListing: ql.lastListing, idle: len(ql.batches) == 0, next: ql.next, known: make(map[int64]*batch, len(ql.batches)), commands: make(map[int64]int, len(ql.batches)), listed: map[int64]bool{}}
	for number, bt := range ql.batches {
		c.known[number], c.commands[number] = bt, bt.commands
		if n := len(bt.done) - bt.left; n > 0 && bt.busy == 0 {
			c.partly, c.ended = append(c.partly, bt), append(c.ended, n)
		}
	}
	ql.firstTake = time.Now()
	return c
}

// fewBatches is up to how many batches in flight, of all sessions, each renewal lists the
// session's. If there are more, renewals list them twice a lease, and on a new connection:
// a server that goes back in time closes all that it had.
const fewBatches = 1000

// ask renews the lease and lists what the server knows. It returns when the server last
// recovered some of what the session held.
func (c *comparison) ask(ctx context.Context) (lastRecovered string, err error) {
	renew := c.s.b.clients.Renew
	now, dials := time.Now(), renew.Dialed()
	lease := wire.Millis(c.s.lease)
	if c.idle {
		lease = 0
	}
	due := now.Sub(c.lastListing.at) > c.s.lease/2 || !renew.Direct()
	if dials == c.lastListing.dials && !due {
		lastRecovered, err = c.askPages(ctx, lease, fewBatches)
		if err != nil || c.all || dials == renew.Dialed() {
			return lastRecovered, err
		}
		dials, lease, c.counts = renew.Dialed(), 0, nil
	}
	if lastRecovered, err = c.askPages(ctx, lease, math.MaxInt64); err == nil {
		c.s.mu.Lock()
		c.ql.lastListing = batchListing{now, dials}
		c.s.mu.Unlock()
	}
	return lastRecovered, err
}

// askPages is ask in several commands. It lists nothing if more than maxBatches are in
// flight.
func (c *comparison) askPages(ctx context.Context, lease int64, maxBatches int) (lastRecovered string, err error) {
	s, q := c.s, c.ql.q
	keys := script.RenewKeys(&q.QueueKeys, s.id)
	for _, bt := range c.partly {
		keys = append(keys, q.Done(bt.name))
	}
	for cursor := "0"; ; {
		v, err := s.b.repeat(ctx, s.b.scripts.Renew, s.b.clients.Renew, keys,
			(&script.RenewArgs{Session: s.id, Lease: lease, Cursor: cursor, Most: maxBatches}).Append(nil)...)
		if err != nil {
			return "", err
		}
		reply, err := script.ParseRenew(v)
		if err != nil {
			return "", err
		}
		for _, number := range reply.Numbers {
			c.listed[number] = true
		}
		c.counts = append(c.counts, reply.Ended...)
		if reply.Cursor == "" {
			c.all = !reply.TooMany
			return reply.Lost, nil
		}
		cursor = reply.Cursor
		keys, lease, maxBatches = keys[:3], 0, math.MaxInt64
	}
}

// unlisted returns the batches that the session holds and the server does not list.
func (c *comparison) unlisted() (batchNames []string) {
	if !c.all {
		return nil
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for number, bt := range c.known {
		if !c.listed[number] && c.still(bt) {
			batchNames = append(batchNames, bt.name)
		}
	}
	return batchNames
}

// relist has the server list batches that are there, so that recoveries find them. The next
// renewal tries again what fails.
func (c *comparison) relist(ctx context.Context, batchNames []string) {
	a := &audit{b: c.s.b, q: c.ql.q, report: maintenance.Report{Repaired: true}}
	for list := range slices.Chunk(batchNames, auditPage) {
		keys, args := []string{a.q.InFlight}, (&script.AuditArgs{Repair: true}).Append(nil)
		for _, name := range list {
			keys, args = append(keys, c.ql.q.Batch(name), c.ql.q.Done(name)), append(args, name)
		}
		_, _ = a.script(ctx, a.b.scripts.AuditBatches, keys, args)
	}
}

// still reports whether nothing has happened to a batch since the comparison began. The
// session's lock is held.
func (c *comparison) still(bt *batch) bool {
	return c.ql.batches[bt.number] == bt && bt.busy == 0 && bt.commands == c.commands[bt.number]
}

// replayForgotten ends again the runs whose ends the server has forgotten. The next renewal
// tries again what fails.
func (c *comparison) replayForgotten(ctx context.Context) {
	ended, partly := c.forgotten()
	if len(ended)+len(partly) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, max(c.s.lease/replayShare, shortestReplay))
	defer cancel()
	for _, number := range ended {
		if ctx.Err() != nil {
			return
		}
		c.endAgain(ctx, number)
	}
	for _, bt := range partly {
		if ctx.Err() != nil {
			return
		}
		c.endPart(ctx, bt)
	}
}

// forgotten returns the numbers of the batches that the server lists although all of their
// runs have ended. It also returns the batches of which the server knows fewer ends than
// there were.
func (c *comparison) forgotten() (ended []int64, partly []*batch) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for number := range c.listed {
		if number < c.next && c.known[number] == nil && c.ql.batches[number] == nil {
			ended = append(ended, number)
		}
	}
	for i, bt := range c.partly {
		if i < len(c.counts) && c.counts[i] < int64(c.ended[i]) && c.still(bt) {
			partly = append(partly, bt)
		}
	}
	slices.Sort(ended)
	return ended, partly
}

// endAgain ends a batch of which the session holds nothing any more. It applies the
// outcomes that the session remembers, and gives the other runs back.
func (c *comparison) endAgain(ctx context.Context, number int64) {
	s := c.s
	name := s.id + ":" + strconv.FormatInt(number, 10)
	s.mu.Lock()
	bo := rememberedOf(c.ql, number, name, s.finished.of(c.ql, number), nil)
	s.mu.Unlock()
	whole := bo.whole
	if err := s.applyAgain(ctx, bo); err != nil || whole {
		return
	}
	// After an error the next renewal does it.
	_, _ = s.b.giveBack(ctx, c.ql.q, s.id, name, script.GivebackLeave)
}

// endPart ends again those runs of a batch that have ended before others.
func (c *comparison) endPart(ctx context.Context, bt *batch) {
	s, q := c.s, c.ql.q
	pipe := s.b.clients.Lease.Pipeline()
	bitmap, stored := pipe.Get(ctx, q.Done(bt.name)), pipe.LRange(ctx, q.Batch(bt.name), 0, -1)
	if err := s.b.clients.ReadAll(ctx, pipe); err != nil || len(stored.Val()) != len(bt.done) {
		return
	}
	bo, unknown := c.forgottenOf(bt, []byte(bitmap.Val()))
	if bo == nil {
		return
	}
	for i := range unknown {
		if o := startAgain(&receipt{s, bt, i}, stored.Val()[i]); o != nil {
			bo.outcomes = append(bo.outcomes, o)
		}
	}
	_ = s.applyAgain(ctx, bo)
}

// forgottenOf returns the remembered outcomes of runs that have ended and that the server's
// bitmap does not mark, and the indexes of such runs without one. It returns nil if
// something has happened to the batch meanwhile.
func (c *comparison) forgottenOf(bt *batch, bitmap []byte) (bo *batchOutcomes, unknown map[int]bool) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if !c.still(bt) {
		return nil, nil
	}
	unknown = map[int]bool{}
	for i, done := range bt.done {
		if done && !wire.IsSet(bitmap, i) {
			unknown[i] = true
		}
	}
	bo = rememberedOf(c.ql, bt.number, bt.name, c.s.finished.of(c.ql, bt.number), unknown)
	for _, o := range bo.outcomes {
		delete(unknown, o.at.index)
	}
	return bo, unknown
}

// startAgain returns an outcome that puts a run back as it was taken: nothing more is
// known of how it ended.
func startAgain(at *receipt, stored string) *outcome {
	run := new(broker.TaskRun)
	out := &outcome{at: at}
	if err := wire.ParseRun(new(broker.Decoder), []byte(stored), run); err != nil {
		if _, newer := wire.NewerID([]byte(stored), err); newer {
			return leaveNewer(at, at.batch.lease.q, []byte(stored), leaveFor(0))
		}
		return unreadable(at, at.batch.lease.q, []byte(stored), err)
	}
	if err := out.retry(at.batch.lease.q, &broker.Outcome{Run: run, Verdict: broker.Retry}); err != nil {
		return nil
	}
	return out
}

// rememberedOf returns the remembered outcomes of a batch; if only is not nil, those of these
// indexes. They are whole if they are the outcomes of all its runs.
func rememberedOf(ql *queueLease, number int64, name string, ends []finishedBatch, only map[int]bool) *batchOutcomes {
	bo := &batchOutcomes{batch: &batch{lease: ql, number: number, name: name}}
	seen := map[int]bool{}
	add := func(index int, o *outcome) {
		if !seen[index] && (only == nil || only[index]) {
			seen[index] = true
			bo.outcomes = append(bo.outcomes, o)
		}
	}
	for _, e := range ends {
		bo.batch.done = make([]bool, e.size)
		for i := range e.others {
			add(e.others[i].at.index, &e.others[i])
		}
		for i := range e.size {
			if wire.IsSet(e.plain, i) {
				add(i, &outcome{at: &receipt{batch: bo.batch, index: i}})
			}
		}
	}
	bo.whole = only == nil && len(ends) > 0 && len(seen) == len(bo.batch.done)
	return bo
}

// applyAgain applies outcomes once more. The server skips those that it knows.
func (s *session) applyAgain(ctx context.Context, bo *batchOutcomes) error {
	if len(bo.outcomes) == 0 {
		return nil
	}
	call := &finishCall{again: []*batchOutcomes{bo}}
	if err := bo.batch.lease.finish.do(ctx, s.b.clients, call, 0); err != nil {
		return err
	}
	return call.err
}
