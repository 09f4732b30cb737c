package runtime

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
)

// discoverEvery is how often a consumer with patterns among its queues asks the
// broker which queues there are.
const discoverEvery = 3 * time.Second

// queueSet is the queues that a consumer takes from.
type queueSet struct {
	strict   bool
	named    []weighted
	patterns []weighted // of names of queues that the broker has
	current  atomic.Pointer[[]weighted]
}

type weighted struct {
	queue  string
	weight int
}

func newQueueSet(weights map[string]int, strict bool) *queueSet {
	s := &queueSet{strict: strict}
	for queue, weight := range weights {
		w := weighted{queue, weight}
		if strings.Contains(queue, "*") {
			s.patterns = append(s.patterns, w)
		} else {
			s.named = append(s.named, w)
		}
	}
	// The most telling pattern gives a queue its weight.
	slices.SortFunc(s.patterns, func(a, b weighted) int {
		return cmp.Or(cmp.Compare(len(b.queue), len(a.queue)), cmp.Compare(a.queue, b.queue))
	})
	s.set(nil)
	return s
}

// set makes the current queues of those named and of names that the broker
// has. It reports whether that is a change.
func (s *queueSet) set(names []string) bool {
	queues := slices.Clone(s.named)
	for _, name := range names {
		if slices.ContainsFunc(s.named, func(w weighted) bool { return w.queue == name }) {
			continue
		}
		for _, p := range s.patterns {
			if matches(p.queue, name) {
				queues = append(queues, weighted{name, p.weight})
				break
			}
		}
	}
	slices.SortFunc(queues, func(a, b weighted) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.queue, b.queue))
	})
	before := s.current.Swap(&queues)
	return before == nil || !slices.Equal(*before, queues)
}

// matches reports whether a name fits a pattern, in which * stands for any
// characters or none.
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

// matches reports whether a queue would be taken from by a pattern.
func (s *queueSet) matches(queue string) bool {
	return slices.ContainsFunc(s.patterns, func(p weighted) bool { return matches(p.queue, queue) })
}

// names returns the queues, those of more weight first.
func (s *queueSet) names() []string {
	queues := *s.current.Load()
	names := make([]string, len(queues))
	for i, q := range queues {
		names[i] = q.queue
	}
	return names
}

// order returns the queues in the order in which to ask them this time: by
// weight if strict, else drawn by weight, so that none starves (with the keys of
// Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006).
func (s *queueSet) order() []string {
	queues := *s.current.Load()
	if s.strict || len(queues) < 2 {
		return s.names()
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

// discoverLoop keeps the queues that match a pattern up to date until ctx ends.
func (c *Consumer) discoverLoop(ctx context.Context) {
	for ctx.Err() == nil {
		c.discover(ctx)
		timer := time.NewTimer(discoverEvery/2 + rand.N(discoverEvery/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// discover looks which queues there are, and has the taker ask again if they
// changed.
func (c *Consumer) discover(ctx context.Context) {
	try, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	found, err := c.queueNames(try)
	if now := time.Now(); err != nil && ctx.Err() == nil && now.After(c.undiscovered) {
		c.undiscovered = now.Add(quietFor)
		c.logger.Warn("cannot look for queues, or not for all, trying again", "error", err)
	}
	if found == nil {
		return // those that were known are taken from
	}
	names := c.possible(found)
	if !c.queues.set(names) {
		return
	}
	c.logger.Debug("the queues that match changed", "queues", len(*c.queues.current.Load()))
	if ask := c.retake.Load(); ask != nil {
		(*ask)()
	}
}

// queueNames returns the names of the broker's queues; nil if it cannot.
func (c *Consumer) queueNames(ctx context.Context) ([]string, error) {
	if namer, ok := c.broker.(maintenance.Namer); ok {
		return namer.QueueNames(ctx)
	}
	lengths, err := c.broker.QueueLength(ctx)
	if lengths == nil {
		return nil, err
	}
	names := make([]string, 0, len(lengths))
	for name := range lengths {
		names = append(names, name)
	}
	return names, err
}

// possible returns the names that queues can have, sorted. Others are logged once.
func (c *Consumer) possible(found []string) []string {
	names := make([]string, 0, len(found))
	var odd []string
	for _, name := range found {
		switch {
		case checkQueueName(name) == nil:
			names = append(names, name)
		case !c.oddNames[name]:
			odd = append(odd, fmt.Sprintf("%.64q", name))
			if c.oddNames == nil {
				c.oddNames = make(map[string]bool)
			}
			c.oddNames[name] = true
		}
	}
	slices.Sort(names)
	if len(odd) > 0 {
		slices.Sort(odd)
		c.logger.Warn("names that no queue can have are skipped; remove them from the broker", "skipped", len(c.oddNames), "names", someOf(odd))
	}
	return names
}

// checkQueueName refuses a name that no queue can have.
func checkQueueName(name string) error {
	return (&broker.TaskRun{ID: "-", Task: "-", Queue: name}).Validate()
}

// checkQueues refuses names and weights that cannot be.
func checkQueues(queues map[string]int) error {
	for name, weight := range queues {
		if err := checkQueueName(name); err != nil {
			return err
		}
		if weight < 1 {
			return fmt.Errorf("queue %q has the weight %d, it must be at least 1", name, weight)
		}
	}
	return nil
}
