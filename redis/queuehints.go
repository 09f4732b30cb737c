package redis

import "time"

// queueHints are what a session's takes know of the several queues they take from.
type queueHints struct {
	w        *watch // of the queues; nil on a cluster
	queues   []*queue
	toAsk    map[*queue]bool        // there may be a run
	due      map[*queue]time.Time   // the first delayed run of queues that have one
	tokens   map[*queue][]wakeToken // that this take has got and not used
	probed   map[*queue]bool        // a probe found a run there that no wake token had told of
	probedAt time.Time              // when all queues were last probed
	dueUntil time.Time              // from then on due has to be read again
}

func newQueueHints(w *watch) *queueHints {
	return &queueHints{w: w, toAsk: map[*queue]bool{}, due: map[*queue]time.Time{}, tokens: map[*queue][]wakeToken{}, probed: map[*queue]bool{}}
}

// has reports whether a queue is to be asked.
func (h *queueHints) has(q *queue) bool {
	_, woken := h.tokens[q]
	return woken || h.toAsk[q]
}

// add has queues be asked.
func (h *queueHints) add(queues []*queue) {
	for _, q := range queues {
		h.toAsk[q] = true
	}
}

// addDue has the queues be asked whose first delayed run is due.
func (h *queueHints) addDue(now time.Time) {
	for q, at := range h.due {
		if !at.After(now) {
			delete(h.due, q)
			h.toAsk[q] = true
		}
	}
}

// addTokens has the queues be asked for which wake tokens came.
func (h *queueHints) addTokens(tokens []wakeToken) {
	for _, t := range tokens {
		h.tokens[t.q] = append(h.tokens[t.q], t)
	}
}

// remove has a queue not be asked.
func (h *queueHints) remove(q *queue) {
	delete(h.tokens, q)
	delete(h.toAsk, q)
}

// passTokens passes the wake tokens of queues that were not asked to other takes.
func (h *queueHints) passTokens(b *Broker) {
	if len(h.tokens) == 0 {
		return
	}
	var left []wakeToken
	for _, tokens := range h.tokens {
		left = append(left, tokens...)
	}
	clear(h.tokens)
	b.takeWaiters.passTokens(nil, left)
}

// forgetDue forgets what is known of delayed runs after a while: others may have taken or
// deleted them.
func (h *queueHints) forgetDue(now time.Time) {
	if now.After(h.dueUntil) {
		h.dueUntil = now.Add(dueFor)
		clear(h.due)
	}
}

// untilChange returns the time until the next probe or until the next delayed run is due,
// whichever is sooner.
func (h *queueHints) untilChange(now time.Time) time.Duration {
	wait := h.probedAt.Add(pollInterval).Sub(now)
	for _, at := range h.due {
		wait = min(wait, at.Sub(now))
	}
	return wait
}

// note notes what a take learnt of a queue: next is the time until it is to be asked
// again, -1 if that is not known. If the take was filled, there may be more: on a single
// server another wake token tells of it, on a cluster only in an announced queue.
func (h *queueHints) note(q *queue, next time.Duration, filled bool) {
	delete(h.due, q)
	switch {
	case next == 0 || filled && h.w == nil:
		h.toAsk[q] = true
	case next > 0:
		h.due[q] = time.Now().Add(next)
	}
}
