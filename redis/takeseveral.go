package redis

import (
	"context"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// A take from several queues asks only those of which it knows, or was told, that
// something is there: by a look at all of them, which is one command for each two
// seconds it waits, by the tokens of what came since, and by when delayed runs are due.

const (
	// longSearch is after how long a take that has found runs returns, though there
	// is room and may be more.
	longSearch = 2 * time.Millisecond
	// dueFor is for how long a take relies on what it knows of delayed runs.
	dueFor = 20 * time.Second
)

// takeSeveral takes from several queues. Once a kind that there was room for is filled
// it asks no more of them.
func (s *session) takeSeveral(ctx context.Context, queues []*queue, r room) ([]*broker.TaskRun, error) {
	if len(queues) == 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	k := s.hintsFor(queues)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		runs, err := s.recallAll(ctx)
		if err != nil || len(runs) > 0 {
			return runs, err
		}
		if err := s.troubles.all(queues); err != nil {
			return nil, err
		}
		if err := s.refreshHints(ctx, k, r); err != nil {
			return nil, err
		}
		if err := s.await(ctx, k, r); err != nil {
			return nil, err
		}
		runs, err = s.ask(ctx, k, queues, r)
		k.giveBack(s.b)
		if err != nil || len(runs) > 0 {
			return runs, err
		}
	}
}

// hintsFor returns what is known of the queues.
func (s *session) hintsFor(queues []*queue) *queueHints {
	k := s.hints
	if s.b.clients.Cluster {
		if k == nil || !same(k.queues, queues) {
			k = newQueueHints(nil)
		}
		k.queues = queues
	} else if w := s.b.watches.get(s.b, queues); k == nil || k.w != w {
		k = newQueueHints(w)
		k.queues = w.queues
	}
	s.hints = k
	return k
}

// same reports whether two lists have as many queues, and those of the second are
// among the first.
func same(a, b []*queue) bool {
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

// refreshHints learns what is in the queues if the last look is a while ago, and sees to
// it that what comes later wakes the takes.
func (s *session) refreshHints(ctx context.Context, k *queueHints, r room) error {
	now := time.Now()
	for _, q := range s.troubles.ended() {
		k.maybe[q] = true
	}
	for q, at := range k.due {
		if !at.After(now) {
			delete(k.due, q)
			k.maybe[q] = true
		}
	}
	if k.w == nil {
		s.probeNodes(ctx, k, r, now)
		return nil
	}
	waiting, err := k.w.begin(ctx, r)
	if err != nil {
		return err
	}
	for _, q := range waiting {
		k.maybe[q] = true
	}
	if now.Sub(k.looked) < longestNap {
		return nil
	}
	first := k.looked.IsZero() && len(waiting) > 0
	k.looked = now
	if first {
		return nil
	}
	g, done, err := k.w.lastProbe(ctx, func(g *queueProbe) bool { return time.Since(g.at) < freshProbe })
	if err != nil {
		return err
	}
	defer done()
	if now.After(k.forget) {
		k.forget = now.Add(dueFor)
		clear(k.due)
	}
	for _, q := range g.waiting {
		if !s.troubles.has(q) {
			k.maybe[q], k.unsaid[q] = true, true
		}
	}
	for _, q := range g.later {
		if _, known := k.due[q]; !known && !s.troubles.has(q) {
			k.maybe[q] = true
		}
	}
	return nil
}

// await gets the tokens of what has come, and blocks while there is nothing to ask, but
// not for longer than until the next look.
func (s *session) await(ctx context.Context, k *queueHints, r room) error {
	if len(k.maybe) > 0 {
		if k.w == nil {
			return nil // they stay until there is nothing else
		}
		tokens, err := k.w.poll(ctx, r)
		k.take(tokens)
		return err
	}
	now := time.Now()
	nap := k.looked.Add(longestNap).Sub(now)
	for _, at := range k.due {
		nap = min(nap, at.Sub(now))
	}
	if s.nodeProbes.waits() {
		nap = min(nap, nodePatience)
	}
	if nap <= 0 {
		return nil
	}
	var groups []*waitSet
	if k.w != nil {
		groups = append(groups, k.w.waitSet(r))
	} else {
		for _, q := range k.queues {
			if !s.troubles.has(q) {
				groups = append(groups, wakeSet(q, r))
			}
		}
	}
	tokens, err := s.b.takeWaiters.wait(ctx, groups, nap)
	k.take(tokens)
	return err
}

// ask takes from the queues that may have something, in the order of the caller.
func (s *session) ask(ctx context.Context, k *queueHints, queues []*queue, r room) ([]*broker.TaskRun, error) {
	var (
		runs  []*broker.TaskRun
		found time.Time // when the first were
		had   = r
		left  = len(k.maybe) + len(k.tokens) // at most, to be asked
	)
	for _, q := range queues {
		if left == 0 {
			break
		}
		_, told := k.tokens[q]
		if !told && !k.maybe[q] {
			continue
		}
		if s.troubles.has(q) { // a later look finds it
			k.drop(q)
			continue
		}
		if r.filled(had) || ctx.Err() != nil || len(runs) > 0 && time.Since(found) > longSearch {
			break
		}
		left--
		k.drop(q)
		some, next, err := s.askOne(ctx, k, q, r)
		if err != nil && s.passes(ctx, q, err) {
			continue
		}
		if err != nil {
			k.maybe[q] = true
			if len(runs) > 0 {
				break // the next call meets the error again
			}
			return nil, err
		}
		if len(some) > 0 && !told && k.unsaid[q] {
			k.w.lost()
		}
		delete(k.unsaid, q)
		if len(some) > 0 && found.IsZero() {
			found = time.Now()
		}
		runs = append(runs, some...)
		r.fill(some)
		k.note(q, next, r.filled(had))
	}
	return runs, nil
}

// askOne takes from one of several queues.
func (s *session) askOne(ctx context.Context, k *queueHints, q *queue, r room) ([]*broker.TaskRun, time.Duration, error) {
	h, word := s.leaseIn(q), ""
	wait := time.Duration(0)
	if k.w != nil {
		word = k.w.tokenFor(q)
	} else {
		word, wait = s.takeState(q, r), tryOnce
	}
	some, next, err := s.takeFrom(ctx, h, r, word, wait)
	if err == nil {
		s.troubles.end(q)
	}
	return some, next, err
}

// probeNodes is refreshHints for a cluster, where each queue has tokens of its own: those
// that do not know that somebody waits are asked, whatever is in them.
func (s *session) probeNodes(ctx context.Context, k *queueHints, r room, now time.Time) {
	defer func() {
		for _, q := range s.nodeProbes.take() {
			k.maybe[q] = true
		}
	}()
	var others []*queue
	for _, q := range k.queues {
		switch {
		case s.troubles.has(q):
		case !s.isAnnounced(q, r):
			k.maybe[q] = true
		default:
			others = append(others, q)
		}
	}
	if now.Sub(k.looked) < longestNap {
		return
	}
	if others = s.nodeProbes.begin(others); len(others) == 0 {
		return
	}
	k.looked = now
	groups := s.b.byNode(ctx, others)
	over := make(chan struct{}, len(groups))
	for _, group := range groups {
		queues := make([]*queue, len(group))
		for i, n := range group {
			queues[i] = others[n]
		}
		if !s.b.clients.Spawn(func() { s.probeNode(queues); over <- struct{}{} }) {
			s.nodeProbes.end(queues, nil)
			over <- struct{}{}
		}
	}
	timer := time.NewTimer(nodePatience)
	defer timer.Stop()
	for range groups {
		select {
		case <-over:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// probeNode learns in which of a node's queues a run waits. A queue that cannot be
// asked counts as one with runs: its own commands report why.
func (s *session) probeNode(queues []*queue) {
	ctx, cancel := context.WithTimeout(context.Background(), s.b.cfg.Timeout)
	defer cancel()
	waiting, err := s.b.having(ctx, queues, waitKeys)
	if err != nil && !s.b.clients.IsClosed() {
		s.passBy(queues, err)
	}
	s.nodeProbes.end(queues, waiting)
}
