package worker

import (
	"cmp"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
)

// queueSet is the queues that a worker takes from.
type queueSet struct {
	strict   bool
	named    []weighted
	patterns []weighted
	current  atomic.Pointer[[]weighted] // those named, and those of the broker that match a pattern
}

type weighted struct {
	queue  string
	weight int
}

func newQueueSet(weights map[string]int, strict bool) *queueSet {
	qs := &queueSet{strict: strict}
	for queue, weight := range weights {
		w := weighted{queue, weight}
		if strings.Contains(queue, "*") {
			qs.patterns = append(qs.patterns, w)
		} else {
			qs.named = append(qs.named, w)
		}
	}
	// The longest pattern gives a queue its weight.
	slices.SortFunc(qs.patterns, func(a, b weighted) int {
		return cmp.Or(cmp.Compare(len(b.queue), len(a.queue)), cmp.Compare(a.queue, b.queue))
	})
	qs.set(nil)
	return qs
}

// set replaces the queues that match a pattern by those among names. It reports
// whether that changes the current queues.
func (qs *queueSet) set(names []string) bool {
	queues := slices.Clone(qs.named)
	for _, name := range names {
		if slices.ContainsFunc(qs.named, func(w weighted) bool { return w.queue == name }) {
			continue
		}
		for _, p := range qs.patterns {
			if matches(p.queue, name) {
				queues = append(queues, weighted{name, p.weight})
				break
			}
		}
	}
	slices.SortFunc(queues, func(a, b weighted) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.queue, b.queue))
	})
	before := qs.current.Swap(&queues)
	return before == nil || !slices.Equal(*before, queues)
}

// matches reports whether a name matches a pattern. A * stands for any characters, or
// none.
func matches(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	last := len(parts) - 1
	name, ok := strings.CutPrefix(name, parts[0])
	if last == 0 {
		return ok && name == ""
	}
	for _, part := range parts[1:last] {
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name = name[i+len(part):]
	}
	return ok && strings.HasSuffix(name, parts[last])
}

func (qs *queueSet) hasPatterns() bool { return len(qs.patterns) > 0 }

// takes reports whether a queue is among the current ones, or would be if the broker
// had it.
func (qs *queueSet) takes(queue string) bool {
	return slices.Contains(qs.names(), queue) ||
		slices.ContainsFunc(qs.patterns, func(p weighted) bool { return matches(p.queue, queue) })
}

// all returns the current queues with their weights.
func (qs *queueSet) all() iter.Seq2[string, int] {
	return func(yield func(string, int) bool) {
		for _, q := range *qs.current.Load() {
			if !yield(q.queue, q.weight) {
				return
			}
		}
	}
}

// names returns the current queues, those of more weight first.
func (qs *queueSet) names() []string {
	queues := *qs.current.Load()
	names := make([]string, len(queues))
	for i, q := range queues {
		names[i] = q.queue
	}
	return names
}

// order returns the current queues in the order to ask them in. If the weights are no
// order, it draws one by weight, so that no queue starves (with the keys of Efraimidis
// and Spirakis, "Weighted random sampling with a reservoir", 2006).
func (qs *queueSet) order() []string {
	queues := *qs.current.Load()
	if qs.strict || len(queues) < 2 {
		return qs.names()
	}
	type draw struct {
		queue string
		key   float64
	}
	draws := make([]draw, len(queues))
	for i, q := range queues {
		draws[i] = draw{q.queue, rand.ExpFloat64() / float64(q.weight)}
	}
	slices.SortFunc(draws, func(a, b draw) int { return cmp.Compare(a.key, b.key) })
	names := make([]string, len(draws))
	for i, d := range draws {
		names[i] = d.queue
	}
	return names
}
