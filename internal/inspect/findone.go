package inspect

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
)

// LiveStates are the states of a run that has not ended, in the order of a search: a run that
// changes its state during the search is found in its next state.
var LiveStates = []broker.State{broker.StateDelayed, broker.StateQueued, broker.StateRunning}

// The bounds of a search for one run among those that have no key of their own, of which it asks
// queues with many by themselves.
const (
	mostSearched = 100_000 // runs and dead letters, in all
	searchCalls  = 200     // calls for single queues, each of some commands
	searchTime   = 5 * time.Second
)

// Search looks for one run in several queues, within bounds that hold for all it looks at.
type Search struct {
	l      *Look
	queues []string
	id     string

	mu     sync.Mutex
	looked int // that no survey looked at
	calls  int
	ends   time.Time
	cut    map[string]bool
}

// Search begins a search for the run of an id in some of the look's queues.
func (l *Look) Search(queues []string, id string) *Search {
	return &Search{l: l, queues: queues, id: id, ends: time.Now().Add(searchTime), cut: make(map[string]bool)}
}

// Cut returns the queues that were not searched to their ends, sorted.
func (s *Search) Cut() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.cut))
}

// next returns how many entries the next page of a queue may look at, of which share are left for
// the queue. It is 0, and the queue is cut, once a bound is reached.
func (s *Search) next(queue string, share int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	look := min(share, broker.MaxLook, mostSearched-s.looked)
	if look <= 0 || s.calls >= searchCalls || !time.Now().Before(s.ends) {
		s.cut[queue] = true
		return 0
	}
	s.calls++
	s.looked += look // until it is known how many it looked at
	return look
}

// spent replaces what next has reckoned with by what a page has looked at.
func (s *Search) spent(reckoned, looked int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looked += looked - reckoned
}

// share is how many entries of each of n queues are looked at.
func share(n int) int { return max(mostSearched/max(n, 1), 1000) }

// Live returns the run if it waits or runs, nil if it is not found. Its state is probably first,
// if that is not empty.
func (s *Search) Live(ctx context.Context, first broker.State) (info *broker.RunInfo, err error) {
	searcher, err := s.l.fleet.searcher()
	if err != nil {
		return nil, err
	}
	want := func(i *broker.RunInfo) bool { return i.Run.ID == s.id }
	byItself := map[int]bool{} // queues that are to be looked into by themselves
	for _, state := range LiveStates {
		rest, err := surveyed(ctx, s.l, s.queues, func(v maintenance.Surveyor, queues []string, part func(maintenance.Part[[]*broker.RunInfo])) error {
			return v.SurveyRuns(ctx, queues, state, 1, want, part)
		}, func(_ int, part maintenance.Part[[]*broker.RunInfo]) {
			if len(part.Found) > 0 {
				info = part.Found[0]
			}
		})
		if err != nil || info != nil {
			return info, err
		}
		for _, i := range rest {
			byItself[i] = true
		}
	}
	queues := pick(s.queues, slices.Sorted(maps.Keys(byItself)))
	live, err := apart(ctx, s.l, queues, func(queue string) (*broker.RunInfo, error) {
		return s.liveIn(ctx, searcher, queue, want, first, share(len(queues)))
	})
	for _, info := range live {
		if info != nil {
			return info, nil
		}
	}
	return nil, err
}

// liveIn returns the run if it waits or runs in a queue, of which it looks at a share. Beside an
// error the other states were searched.
func (s *Search) liveIn(ctx context.Context, b broker.Searcher, queue string, want func(*broker.RunInfo) bool, first broker.State, share int) (*broker.RunInfo, error) {
	states := LiveStates
	if first != "" && !first.Ended() {
		states = append([]broker.State{first}, states...)
	}
	var odd error
	for _, state := range states {
		for after := ""; ; {
			look := s.next(queue, share)
			if look == 0 {
				break
			}
			page, err := b.FindRuns(ctx, queue, state, broker.RunSearch{Match: want, After: after, Max: 1, Look: look})
			if err != nil {
				odd = err
			}
			if ctx.Err() != nil || page == nil {
				s.spent(look, 0)
				break
			}
			if len(page.Runs) > 0 {
				return page.Runs[0], nil
			}
			s.spent(look, page.Looked)
			share -= page.Looked
			if after = page.After; after == "" {
				break
			}
		}
	}
	return nil, odd
}

// Letter returns the dead letter of the run, nil if it is not found.
func (s *Search) Letter(ctx context.Context) (*Letter, error) {
	searcher, err := s.l.fleet.searcher()
	if err != nil {
		return nil, err
	}
	isIt := func(letter *broker.DeadLetter) bool { return letter.ID == s.id }
	var found *Letter
	rest, err := surveyed(ctx, s.l, s.queues, func(v maintenance.Surveyor, queues []string, part func(maintenance.Part[[]*broker.DeadLetter])) error {
		return v.SurveyDeadLetters(ctx, queues, part)
	}, func(i int, part maintenance.Part[[]*broker.DeadLetter]) {
		if at := slices.IndexFunc(part.Found, isIt); at >= 0 {
			found = &Letter{s.queues[i], part.Found[at]}
		}
	})
	if err != nil || found != nil {
		return found, err
	}
	queues := pick(s.queues, rest)
	letters, err := apart(ctx, s.l, queues, func(queue string) (*Letter, error) {
		return s.letterIn(ctx, searcher, queue, isIt, share(len(queues)))
	})
	for _, letter := range letters {
		if letter != nil {
			return letter, nil
		}
	}
	return nil, err
}

// letterIn returns the dead letter of the run if it is in a queue, of which it looks at a share.
func (s *Search) letterIn(ctx context.Context, b broker.Searcher, queue string, isIt func(*broker.DeadLetter) bool, share int) (*Letter, error) {
	for after := ""; ; {
		look := s.next(queue, share)
		if look == 0 {
			return nil, nil
		}
		page, err := b.FindDead(ctx, queue, broker.DeadSearch{Match: isIt, After: after, Max: 1, Look: look})
		if page == nil {
			s.spent(look, 0)
			return nil, err
		}
		if len(page.Letters) > 0 {
			return &Letter{queue, page.Letters[0]}, nil
		}
		s.spent(look, page.Looked)
		share -= page.Looked
		if after = page.After; after == "" || err != nil {
			return nil, err
		}
	}
}
