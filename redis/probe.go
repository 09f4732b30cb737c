package redis

import (
	"context"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
)

// A probe asks the server, by a command that costs it little, which of many queues have
// anything at all. Nearly all that an idle process sends is probes. The takes and the
// recoveries of a process share them.

// How old a probe may be to make another needless.
const (
	probeFreshFor = time.Second
	// For recoveries, which look for runs in flight: runs that were taken since have leases
	// that take their time to end.
	inFlightProbeFreshFor = pollInterval + 200*time.Millisecond
)

// inFlight returns the queues of which runs are in flight or in the outbox.
func (b *Broker) inFlight(ctx context.Context, queues []*queue) ([]*queue, error) {
	switch {
	case b.clients.Cluster:
		return b.queuesHaving(ctx, queues, inFlightKeys)
	case len(queues) == 1:
		return b.inFlightOne(ctx, queues[0])
	}
	w := b.watches.get(b, queues)
	return w.probeInFlight(ctx)
}

func (b *Broker) inFlightOne(ctx context.Context, q *queue) ([]*queue, error) {
	if b.quiet.wasQuiet(q, inFlightProbeFreshFor) {
		return nil, nil
	}
	start, queues := time.Now(), []*queue{q}
	counts, err := b.countExisting(ctx, [][]string{allKeys(q)}) // as a rule there is nothing at all
	switch {
	case err != nil:
		return nil, err
	case counts[0] == 0:
		b.quiet.note(q, start)
		return nil, nil
	}
	return b.queuesHaving(ctx, queues, inFlightKeys)
}

// queuedKeys returns the keys of which one exists while runs are queued that may be taken,
// now or later. The first is that of the delayed runs.
func queuedKeys(q *queue) []string { return append(q.Fixed[:7:7], q.Backlogs, q.Enabling, q.Staged) }

// inFlightKeys returns the keys of which one exists while there may be something to
// recover.
func inFlightKeys(q *queue) []string { return []string{q.InFlight, q.Outbox, q.Pending, q.Stages} }

func allKeys(q *queue) []string { return append(queuedKeys(q), inFlightKeys(q)...) }

// countExisting returns how many keys of each list exist, in one round trip. On a cluster
// a list that cannot be asked counts as one with keys: its queue's own commands report
// why.
func (b *Broker) countExisting(ctx context.Context, lists [][]string) ([]int64, error) {
	numbers := make([]int64, len(lists))
	if len(lists) == 0 {
		return numbers, nil
	}
	err := b.clients.Retry(ctx, conn.MayRepeat, func() error {
		pipe := b.clients.Work.Pipeline()
		counts := make([]conn.Reply[int64], len(lists))
		for i, keys := range lists {
			counts[i] = pipe.Exists(ctx, keys...)
		}
		err := b.clients.Send(ctx, pipe)
		if err != nil && (!b.clients.Cluster || ctx.Err() != nil) {
			return err
		}
		for i, n := range counts {
			if numbers[i] = n.Val(); err != nil && n.Err() != nil {
				numbers[i] = 1
			}
		}
		return nil
	})
	if err != nil {
		return nil, b.fail(ctx, "probe queues", err)
	}
	return numbers, nil
}

// queuesHaving returns the queues of which such a key exists, by one command for each.
func (b *Broker) queuesHaving(ctx context.Context, queues []*queue, keys func(*queue) []string) ([]*queue, error) {
	lists := make([][]string, len(queues))
	for i, q := range queues {
		lists[i] = keys(q)
	}
	counts, err := b.countExisting(ctx, lists)
	if err != nil {
		return nil, err
	}
	var found []*queue
	for i, n := range counts {
		if n > 0 {
			found = append(found, queues[i])
		}
	}
	return found, nil
}

// probeFanout is into how many parts a search divides queues of which one has something.
const probeFanout = 16

// searchQueues is queuesHaving for many queues of one server of which few have such a
// key: it needs one command if none has.
func (b *Broker) searchQueues(ctx context.Context, queues []*queue, keys func(*queue) []string) ([]*queue, error) {
	if len(queues) == 0 {
		return nil, nil
	}
	var found []*queue
	for parts := [][]*queue{queues}; len(parts) > 0; {
		counts, err := b.countExisting(ctx, keysOfParts(parts, keys))
		if err != nil {
			return nil, err
		}
		var next [][]*queue
		for i, part := range parts {
			switch {
			case counts[i] == 0:
			case len(part) == 1:
				found = append(found, part[0])
			default:
				size := (len(part) + probeFanout - 1) / probeFanout
				next = slices.AppendSeq(next, slices.Chunk(part, size))
			}
		}
		parts = next
	}
	return found, nil
}

// keysOfParts returns the keys of all queues of each part.
func keysOfParts(parts [][]*queue, keys func(*queue) []string) [][]string {
	lists := make([][]string, len(parts))
	for i, part := range parts {
		for _, q := range part {
			lists[i] = append(lists[i], keys(q)...)
		}
	}
	return lists
}

// queueProbe is the last probe of a watch's queues. A queue that had something is asked by
// itself the next time: a search would take several commands to find it again.
type queueProbe struct {
	turn chan struct{} // has a value while a caller uses the probe, alone

	at       time.Time
	next     int             // where the next probe starts, if there are too many queues for one
	nonEmpty map[*queue]bool // the queues that had something
	ready    []*queue        // in which a run waits that is due, or may be
	delayed  []*queue        // in which delayed runs wait, and no others
	inFlight []*queue        // with something in flight, in the outbox or pending
}

// maxProbed is the most queues that one probe searches. It bounds how long the server is
// busy with the probe. Of more queues, probes search each in turn.
const maxProbed = 2500

// acquireProbe returns the last probe if that is fresh, and else makes another. The caller
// has the probe alone until it calls done, and must not keep it. acquireProbe blocks while
// another caller has it.
func (w *watch) acquireProbe(ctx context.Context, fresh func(*queueProbe) bool) (p *queueProbe, done func(), err error) {
	p = &w.probe
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, w.b.fail(ctx, "probe queues", ctx.Err())
	case <-w.b.clients.Closed:
		return nil, nil, w.b.fail(ctx, "probe queues", broker.ErrClosed)
	}
	done = func() { <-p.turn }
	if !fresh(p) {
		err = w.probeAgain(ctx, p)
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return p, done, nil
}

// probeAgain makes another probe.
func (w *watch) probeAgain(ctx context.Context, p *queueProbe) error {
	start := time.Now()
	queues, err := w.searchNonEmpty(ctx, p)
	if err != nil {
		return err
	}
	counts, err := w.b.countExisting(ctx, probedKeys(queues))
	if err != nil {
		return err
	}
	p.at = start
	p.next = (p.next + maxProbed) % len(w.queues)
	if len(w.queues) <= maxProbed {
		p.next = 0
	}
	p.sort(queues, counts)
	return nil
}

// searchNonEmpty returns the queues that may have something: it searches those that had
// nothing at the last probe, and as a rule keeps those that had.
func (w *watch) searchNonEmpty(ctx context.Context, p *queueProbe) ([]*queue, error) {
	var rest, nonEmpty []*queue
	for i := range min(len(w.queues), maxProbed) {
		if q := w.queues[(p.next+i)%len(w.queues)]; !p.nonEmpty[q] {
			rest = append(rest, q)
		}
	}
	for q := range p.nonEmpty {
		nonEmpty = append(nonEmpty, q)
	}
	if len(nonEmpty) > probeFanout { // if there are many, most have become empty
		found, err := w.b.searchQueues(ctx, nonEmpty, allKeys)
		if err != nil {
			return nil, err
		}
		nonEmpty = found
	}
	found, err := w.b.searchQueues(ctx, rest, allKeys)
	if err != nil {
		return nil, err
	}
	return append(nonEmpty, found...), nil
}

// probedKeys returns three lists of keys for each queue, as queueProbe.sort takes their
// counts: those of due runs, of delayed runs, and of runs in flight.
func probedKeys(queues []*queue) [][]string {
	lists := make([][]string, 0, 3*len(queues))
	for _, q := range queues {
		queued := queuedKeys(q)
		lists = append(lists, queued[1:], queued[:1], inFlightKeys(q))
	}
	return lists
}

// sort sorts the queues by what they have: counts are how many of their probedKeys exist.
func (p *queueProbe) sort(queues []*queue, counts []int64) {
	p.nonEmpty, p.ready, p.delayed, p.inFlight = map[*queue]bool{}, nil, nil, nil
	for i, q := range queues {
		ready, delayed, inFlight := counts[3*i], counts[3*i+1], counts[3*i+2]
		if ready+delayed+inFlight > 0 {
			p.nonEmpty[q] = true
		}
		switch {
		case ready > 0:
			p.ready = append(p.ready, q)
		case delayed > 0:
			p.delayed = append(p.delayed, q)
		}
		if inFlight > 0 {
			p.inFlight = append(p.inFlight, q)
		}
	}
}

// probeInFlight returns the queues in which there may be something to recover.
func (w *watch) probeInFlight(ctx context.Context) ([]*queue, error) {
	p, done, err := w.acquireProbe(ctx, func(p *queueProbe) bool {
		age := time.Since(p.at)
		return age < probeFreshFor || age < inFlightProbeFreshFor && len(p.inFlight) == 0
	})
	if err != nil {
		return nil, err
	}
	defer done()
	return slices.Clone(p.inFlight), nil
}
