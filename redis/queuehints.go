package redis

import "time"

// queueHints is what a session's takes know of the queues they take from.
type queueHints struct {
	w      *watch // nil on a cluster
	queues []*queue
	maybe  map[*queue]bool      // there may be a run
	due    map[*queue]time.Time // the first delayed run of those that have one
	tokens map[*queue][]token   // in hand
	unsaid map[*queue]bool      // a look found a run
	looked time.Time            // at all queues
	forget time.Time            // when due is to be read again
}

func newQueueHints(w *watch) *queueHints {
	return &queueHints{w: w, maybe: map[*queue]bool{}, due: map[*queue]time.Time{}, tokens: map[*queue][]token{}, unsaid: map[*queue]bool{}}
}

func (k *queueHints) take(tokens []token) {
	for _, t := range tokens {
		k.tokens[t.q] = append(k.tokens[t.q], t)
	}
}

// giveBack gives the tokens of queues that were not asked to others.
func (k *queueHints) giveBack(b *Broker) {
	if len(k.tokens) == 0 {
		return
	}
	var left []token
	for _, tokens := range k.tokens {
		left = append(left, tokens...)
	}
	clear(k.tokens)
	b.takeWaiters.passTokens(nil, left)
}

// drop forgets that a queue is to be asked.
func (k *queueHints) drop(q *queue) {
	delete(k.tokens, q)
	delete(k.maybe, q)
}

// note notes what a take told of a queue: when it is to be asked again, if that is
// known. What it left there has another token, but on a cluster only if the queue knows
// that somebody waits.
func (k *queueHints) note(q *queue, next time.Duration, filled bool) {
	delete(k.due, q)
	switch {
	case next == 0 || filled && k.w == nil:
		k.maybe[q] = true
	case next > 0:
		k.due[q] = time.Now().Add(next)
	}
}
