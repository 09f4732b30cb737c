package redis

import (
	"context"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// A take from several queues asks only those that may have a run, which its hints say:
//   - a wake token came for the queue,
//   - the queue's first delayed run is due,
//   - a probe of all queues, one command every two seconds, found something there, or
//   - the last take of the queue left something behind.

const (
	// longSearch is how long after its first runs a take returns, though there is room
	// left and may be more to take.
	longSearch = 2 * time.Millisecond
	// dueFor is how long a take relies on what it knows of delayed runs.
	dueFor = 20 * time.Second
)

// takeSeveral takes from several queues, in the order of the caller, and blocks until there
// is a run. It returns once it has filled the room for one kind.
func (s *session) takeSeveral(ctx context.Context, queues []*queue, r room) ([]*broker.TaskRun, error) {
	if len(queues) == 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	hints := s.hintsFor(queues)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		runs, err := s.recallBatches(ctx)
		if err != nil || len(runs) > 0 {
			return runs, err
		}
		if err := s.waitForHints(ctx, hints, queues, r); err != nil {
			return nil, err
		}
		runs, err = s.takeHinted(ctx, hints, queues, r)
		hints.passTokens(s.b)
		if err != nil || len(runs) > 0 {
			return runs, err
		}
	}
}

// waitForHints blocks until there may be a queue to ask, or it is time to probe again. It
// returns an error at once if all queues fail.
func (s *session) waitForHints(ctx context.Context, hints *queueHints, queues []*queue, r room) error {
	if err := s.failing.allAvoided(queues); err != nil {
		return err
	}
	if err := s.refreshHints(ctx, hints, r); err != nil {
		return err
	}
	return s.awaitHints(ctx, hints, r)
}

// hintsFor returns the session's hints of the queues. They are new if the last take was
// from other queues.
func (s *session) hintsFor(queues []*queue) *queueHints {
	hints := s.hints
	if s.b.clients.Cluster {
		if hints == nil || !sameQueues(hints.queues, queues) {
			hints = newQueueHints(nil)
		}
		hints.queues = queues
	} else if w := s.b.watches.get(s.b, queues); hints == nil || hints.w != w {
		hints = newQueueHints(w)
		hints.queues = w.queues
	}
	s.hints = hints
	return hints
}

// sameQueues reports whether two lists have as many queues, and those of the second are
// among the first.
func sameQueues(a, b []*queue) bool {
	if len(a) != len(b) {
		return false
	}
	in := make(map[*queue]bool, len(a))
	for _, q := range a {
		in[q] = true
	}
	for _, q := range b {
		if !in[q] {
			return false
		}
	}
	return true
}

// refreshHints adds what is known without a wake token: queues that can be asked again,
// due runs, and what a probe finds if the last one is two seconds ago. It also has the
// queues send wake tokens.
func (s *session) refreshHints(ctx context.Context, hints *queueHints, r room) error {
	now := time.Now()
	hints.add(s.failing.takeRecovered())
	hints.addDue(now)
	if hints.w == nil {
		s.probeNodes(ctx, hints, r, now)
		return nil
	}
	found, err := hints.w.ensureWatched(ctx, r)
	if err != nil {
		return err
	}
	hints.add(found)
	if now.Sub(hints.probedAt) < pollInterval {
		return nil
	}
	known := hints.probedAt.IsZero() && len(found) > 0 // to watch the queues has found as much as a probe
	hints.probedAt = now
	if known {
		return nil
	}
	return s.addProbed(ctx, hints, now)
}

// addProbed adds what the watch's probe has found.
func (s *session) addProbed(ctx context.Context, hints *queueHints, now time.Time) error {
	probe, done, err := hints.w.acquireProbe(ctx, func(p *queueProbe) bool { return time.Since(p.at) < probeFreshFor })
	if err != nil {
		return err
	}
	defer done()
	hints.forgetDue(now)
	for _, q := range probe.ready {
		if !s.failing.avoids(q) {
			hints.toAsk[q], hints.probed[q] = true, true
		}
	}
	for _, q := range probe.delayed {
		if _, known := hints.due[q]; !known && !s.failing.avoids(q) {
			hints.toAsk[q] = true
		}
	}
	return nil
}

// awaitHints adds the wake tokens that have come. While there is no queue to ask it blocks
// for one, until the next probe or the next delayed run at most.
func (s *session) awaitHints(ctx context.Context, hints *queueHints, r room) error {
	if len(hints.toAsk) > 0 {
		if hints.w == nil {
			return nil // on a cluster tokens stay in their queues
		}
		tokens, err := hints.w.poll(ctx, r)
		hints.addTokens(tokens)
		return err
	}
	wait := hints.untilChange(time.Now())
	if s.nodeProbes.outstanding() {
		wait = min(wait, nodePatience)
	}
	if wait <= 0 {
		return nil
	}
	tokens, err := s.b.takeWaiters.wait(ctx, s.readersFor(hints, r), wait)
	hints.addTokens(tokens)
	return err
}

// readersFor returns the readers of the wake tokens for the queues: one for all queues of
// a server, or on a cluster one for each queue.
func (s *session) readersFor(hints *queueHints, r room) []*tokenReader {
	if hints.w != nil {
		return []*tokenReader{hints.w.reader(r)}
	}
	var readers []*tokenReader
	for _, q := range hints.queues {
		if !s.failing.avoids(q) {
			readers = append(readers, wakeSetReader(q, r))
		}
	}
	return readers
}

// search is the state of one round through the queues.
type search struct {
	room  room // left
	first room // at the start
	runs  []*broker.TaskRun
	found time.Time // when it found the first runs
}

// isOver reports whether the round has to end: there is no room left for a kind, ctx has
// ended, or the round has found runs and goes on for too long.
func (f *search) isOver(ctx context.Context) bool {
	return f.room.filled(f.first) || ctx.Err() != nil || len(f.runs) > 0 && time.Since(f.found) > longSearch
}

func (f *search) add(runs []*broker.TaskRun) {
	if len(runs) > 0 && f.found.IsZero() {
		f.found = time.Now()
	}
	f.runs = append(f.runs, runs...)
	f.room.fill(runs)
}

// takeHinted takes from the queues that may have a run, in the order of the caller.
func (s *session) takeHinted(ctx context.Context, hints *queueHints, queues []*queue, r room) ([]*broker.TaskRun, error) {
	f := search{room: r, first: r}
	left := len(hints.toAsk) + len(hints.tokens) // at most, to be asked
	for _, q := range queues {
		if left == 0 {
			break
		}
		if !hints.has(q) {
			continue
		}
		if s.failing.avoids(q) { // a later probe finds what is there
			hints.remove(q)
			continue
		}
		if f.isOver(ctx) {
			break
		}
		left--
		err := s.takeHintedFrom(ctx, hints, q, &f)
		if err == nil || s.canSkip(ctx, q, err) {
			continue
		}
		hints.toAsk[q] = true
		if len(f.runs) > 0 {
			break // the next call meets the error again
		}
		return nil, err
	}
	return f.runs, nil
}

// takeHintedFrom takes from one of the queues, and notes what it learns of that.
func (s *session) takeHintedFrom(ctx context.Context, hints *queueHints, q *queue, f *search) error {
	_, woken := hints.tokens[q]
	hints.remove(q)
	req := takeRequest{room: f.room, announce: announceNothing}
	if hints.w != nil {
		req.announce = hints.w.watchToken(q)
	} else {
		req.announce, req.once = s.announcementFor(q, f.room), true
	}
	runs, next, err := s.takeUnlessClosed(ctx, s.leaseIn(q), req)
	if err != nil {
		return err
	}
	s.failing.remove(q)
	if len(runs) > 0 && !woken && hints.probed[q] {
		hints.w.watchAgainSoon()
	}
	delete(hints.probed, q)
	f.add(runs)
	hints.note(q, next, f.room.filled(f.first))
	return nil
}
