package redis

import (
	"context"
	"slices"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/redis/internal/conn"
)

// How old a probe may be to make another needless: for what waits, and for what is in
// flight, which was taken since and whose lease takes its time to end.
const (
	freshProbe         = time.Second
	freshInFlightProbe = longestNap + 200*time.Millisecond
)

// inFlight returns those of the queues of which runs are in flight, or in the
// outbox.
func (b *Broker) inFlight(ctx context.Context, queues []*queue) ([]*queue, error) {
	switch {
	case b.clients.Cluster:
		return b.having(ctx, queues, flightKeys)
	case len(queues) == 1:
		return b.inFlightOne(ctx, queues[0])
	}
	w := b.watches.get(b, queues)
	return w.probeInFlight(ctx)
}

func (b *Broker) inFlightOne(ctx context.Context, q *queue) ([]*queue, error) {
	if b.quiet.wasQuiet(q, freshInFlightProbe) {
		return nil, nil
	}
	start, queues := time.Now(), []*queue{q}
	// With the runs that wait, as takes will ask for these, and mostly there is nothing.
	counts, err := b.exist(ctx, [][]string{slices.Concat(waitKeys(q), flightKeys(q))})
	switch {
	case err != nil:
		return nil, err
	case counts[0] == 0:
		b.quiet.note(q, start)
		return nil, nil
	}
	return b.having(ctx, queues, flightKeys)
}

// exist returns how many keys of each list exist, in one round trip. On a cluster a
// list that cannot be asked counts as one with keys: its queue's own commands report
// why.
func (b *Broker) exist(ctx context.Context, lists [][]string) ([]int64, error) {
	numbers := make([]int64, len(lists))
	if len(lists) == 0 {
		return numbers, nil
	}
	err := b.clients.Retry(ctx, conn.MayRepeat, func() error {
		pipe := b.clients.Work.Pipeline()
		counts := make([]*goredis.IntCmd, len(lists))
		for i, keys := range lists {
			counts[i] = pipe.Exists(ctx, keys...)
		}
		_, err := conn.WithGrace(ctx, b.clients, pipe.Exec)
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
		return nil, b.fail(ctx, "look into queues", err)
	}
	return numbers, nil
}

// having returns the queues of which such a key exists, by one command for each.
func (b *Broker) having(ctx context.Context, queues []*queue, keys func(*queue) []string) ([]*queue, error) {
	lists := make([][]string, len(queues))
	for i, q := range queues {
		lists[i] = keys(q)
	}
	counts, err := b.exist(ctx, lists)
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

// search is having for many queues of one server of which few have such a key: by one
// command if none has.
func (b *Broker) search(ctx context.Context, queues []*queue, keys func(*queue) []string) ([]*queue, error) {
	if len(queues) == 0 {
		return nil, nil
	}
	var found []*queue
	for groups := [][]*queue{queues}; len(groups) > 0; {
		lists := make([][]string, len(groups))
		for i, group := range groups {
			for _, q := range group {
				lists[i] = append(lists[i], keys(q)...)
			}
		}
		counts, err := b.exist(ctx, lists)
		if err != nil {
			return nil, err
		}
		var next [][]*queue
		for i, group := range groups {
			switch {
			case counts[i] == 0:
			case len(group) == 1:
				found = append(found, group[0])
			default:
				part := (len(group) + probeFanout - 1) / probeFanout
				next = slices.AppendSeq(next, slices.Chunk(group, part))
			}
		}
		groups = next
	}
	return found, nil
}

// maxProbed bounds for how many queues one probe asks together, and thereby for
// how long the server is busy with it. Of more queues each is looked at in turn.
const maxProbed = 2500

// lastProbe returns the last probe if it is fresh, or else another one. The caller must not
// keep or change it, and gives the turn back by done.
func (w *watch) lastProbe(ctx context.Context, fresh func(*queueProbe) bool) (g *queueProbe, done func(), err error) {
	g = &w.probe
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, w.b.fail(ctx, "look into queues", ctx.Err())
	case <-w.b.clients.Closed:
		return nil, nil, w.b.fail(ctx, "look into queues", goredis.ErrClosed)
	}
	done = func() { <-g.turn }
	if !fresh(g) {
		err = w.probeAgain(ctx, g)
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return g, done, nil
}

// probeAgain makes another probe.
func (w *watch) probeAgain(ctx context.Context, g *queueProbe) error {
	start := time.Now()
	var rest, known []*queue
	for i := range min(len(w.queues), maxProbed) {
		if q := w.queues[(g.next+i)%len(w.queues)]; !g.known[q] {
			rest = append(rest, q)
		}
	}
	for q := range g.known {
		known = append(known, q)
	}
	all := func(q *queue) []string { return append(waitKeys(q), flightKeys(q)...) }
	if len(known) > probeFanout { // as a rule all have become empty then
		found, err := w.b.search(ctx, known, all)
		if err != nil {
			return err
		}
		known = found
	}
	found, err := w.b.search(ctx, rest, all)
	if err != nil {
		return err
	}
	known = append(known, found...)
	lists := make([][]string, 0, 3*len(known))
	for _, q := range known {
		wait := waitKeys(q)
		lists = append(lists, wait[1:], wait[:1], flightKeys(q))
	}
	counts, err := w.b.exist(ctx, lists)
	if err != nil {
		return err
	}
	g.at, g.known, g.waiting, g.later, g.back = start, map[*queue]bool{}, nil, nil, nil
	g.next = (g.next + maxProbed) % len(w.queues)
	if len(w.queues) <= maxProbed {
		g.next = 0
	}
	for i, q := range known {
		n := counts[3*i : 3*i+3]
		if n[0]+n[1]+n[2] > 0 {
			g.known[q] = true
		}
		switch {
		case n[0] > 0:
			g.waiting = append(g.waiting, q)
		case n[1] > 0:
			g.later = append(g.later, q)
		}
		if n[2] > 0 {
			g.back = append(g.back, q)
		}
	}
	return nil
}

// probeInFlight returns the queues in which there may be something to recover.
func (w *watch) probeInFlight(ctx context.Context) ([]*queue, error) {
	g, done, err := w.lastProbe(ctx, func(g *queueProbe) bool {
		age := time.Since(g.at)
		return age < freshProbe || age < freshInFlightProbe && len(g.back) == 0
	})
	if err != nil {
		return nil, err
	}
	defer done()
	return slices.Clone(g.back), nil
}
