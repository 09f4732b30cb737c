package inspect

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/fleet"
)

// Look is one look into some queues. A queue that could not be read is not asked again by
// the same look.
type Look struct {
	Queues []string // sorted

	fleet   *Fleet
	mu      sync.Mutex
	skipped map[string]error
}

// Skip is a queue that was skipped, in whole or in part.
type Skip struct {
	Queue string // empty: the names of queues could not be read, so that some may be missing
	Err   error
}

// Skipped returns what was skipped so far, in the order of names.
func (l *Look) Skipped() (skips []Skip) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for queue, err := range l.skipped {
		skips = append(skips, Skip{queue, err})
	}
	slices.SortFunc(skips, func(a, b Skip) int { return cmp.Compare(a.Queue, b.Queue) })
	return skips
}

// failed returns the error of a look that found nothing because of it: that of its only
// queue.
func (l *Look) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.Queues) == 1 {
		return l.skipped[l.Queues[0]]
	}
	return nil
}

func (l *Look) skip(queue string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.skipped == nil {
		l.skipped = make(map[string]error)
	}
	if _, known := l.skipped[queue]; !known {
		l.skipped[queue] = err
	}
}

func (l *Look) isSkipped(queue string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, skipped := l.skipped[queue]
	return skipped
}

// apart does f for each of the queues, some at a time, and returns what it returned in
// their order. Queues of which f returned an error are skipped, but for what it returned
// beside that. The error is ctx's.
func apart[T any](ctx context.Context, l *Look, queues []string, f func(queue string) (T, error)) ([]T, error) {
	values := make([]T, len(queues))
	fleet.Each(len(queues), func(i int) {
		if l.isSkipped(queues[i]) || ctx.Err() != nil {
			return
		}
		var err error
		if values[i], err = f(queues[i]); err != nil && ctx.Err() == nil {
			l.skip(queues[i], err)
		}
	})
	return values, ctx.Err()
}

// surveyed has look look into the queues together, if the broker can, and found take each
// one's part by its place among them. It returns the places of those to look into by
// themselves. Queues that cannot be reached are skipped.
func surveyed[S, T any](ctx context.Context, l *Look, queues []string,
	look func(s S, queues []string, part func(maintenance.Part[T])) error, found func(i int, part maintenance.Part[T]),
) (rest []int, err error) {
	var asked []string
	var at []int
	for i, queue := range queues {
		if !l.isSkipped(queue) {
			asked, at = append(asked, queue), append(at, i)
		}
	}
	s, ok := l.fleet.Broker.(S)
	if !ok || len(asked) < 2 {
		return at, ctx.Err()
	}
	err = look(s, asked, func(part maintenance.Part[T]) {
		switch i := at[part.Queue]; {
		case part.Err != nil:
			l.skip(queues[i], part.Err)
		case part.Apart:
			rest = append(rest, i)
		default:
			found(i, part)
		}
	})
	slices.Sort(rest)
	return rest, err
}

// together is apart, but looks into the queues together as far as that goes: a part is what
// f returns of a queue.
func together[S, T any](ctx context.Context, l *Look, queues []string,
	look func(s S, queues []string, part func(maintenance.Part[T])) error,
	f func(queue string) (T, error),
) ([]T, error) {
	values := make([]T, len(queues))
	rest, err := surveyed(ctx, l, queues, look, func(i int, part maintenance.Part[T]) { values[i] = part.Found })
	if err != nil {
		return nil, err
	}
	others, err := apart(ctx, l, pick(queues, rest), f)
	for n, i := range rest {
		values[i] = others[n]
	}
	return values, err
}

// pick returns the queues at some places.
func pick(queues []string, at []int) []string {
	some := make([]string, len(at))
	for n, i := range at {
		some[n] = queues[i]
	}
	return some
}

// Infos returns the state of the queues, nil for one that was skipped.
func (l *Look) Infos(ctx context.Context) ([]*broker.QueueInfo, error) {
	return together(ctx, l, l.Queues, func(s maintenance.Surveyor, queues []string, part func(maintenance.Part[*broker.QueueInfo])) error {
		return s.SurveyQueues(ctx, queues, part)
	}, func(queue string) (*broker.QueueInfo, error) { return l.fleet.Controls.Queue(ctx, queue) })
}
