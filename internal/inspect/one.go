package inspect

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
)

// LiveStates are the states of a run that has not ended, in the order of a search: a run that
// changes its state during the search is found in its next state.
var LiveStates = []broker.State{broker.StateDelayed, broker.StateQueued, broker.StateRunning}

// RecordsOf returns the records of an id, those of runs that have not ended first.
func (l *Look) RecordsOf(ctx context.Context, id string) (records []*broker.Record, err error) {
	all, err := together(ctx, l, l.Queues, func(s maintenance.Surveyor, queues []string, part func(maintenance.Part[*broker.Record])) error {
		return s.SurveyRecords(ctx, queues, id, part)
	}, func(queue string) (*broker.Record, error) {
		record, err := l.fleet.Records.Record(ctx, queue, id)
		if errors.Is(err, broker.ErrNoRecord) {
			err = nil
		}
		return record, err
	})
	if err != nil {
		return nil, err
	}
	records = slices.DeleteFunc(all, func(r *broker.Record) bool { return r == nil })
	slices.SortStableFunc(records, func(a, b *broker.Record) int { return rank(a.State) - rank(b.State) })
	return records, nil
}

func rank(state broker.State) int {
	if state.Ended() {
		return 1
	}
	return 0
}

// Live returns a run of one of the queues that waits or runs, nil if it is not found among
// the first broker.MaxLook of each state. Its state is probably first, if that is not empty.
func (l *Look) Live(ctx context.Context, queues []string, id string, first broker.State) (info *broker.RunInfo, err error) {
	searcher, err := l.fleet.searcher()
	if err != nil {
		return nil, err
	}
	want := func(i *broker.RunInfo) bool { return i.Run.ID == id }
	byItself := map[int]bool{} // queues that are to be looked into by themselves
	for _, state := range LiveStates {
		rest, err := surveyed(ctx, l, queues, func(s maintenance.Surveyor, queues []string, part func(maintenance.Part[[]*broker.RunInfo])) error {
			return s.SurveyRuns(ctx, queues, state, 1, want, part)
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
	live, err := apart(ctx, l, pick(queues, slices.Sorted(maps.Keys(byItself))), func(queue string) (*broker.RunInfo, error) {
		return liveIn(ctx, searcher, queue, want, first)
	})
	for _, info := range live {
		if info != nil {
			return info, nil
		}
	}
	return nil, err
}

// liveIn returns a run of one queue that waits or runs, nil if it is not found.
func liveIn(ctx context.Context, s broker.Searcher, queue string, want func(*broker.RunInfo) bool, first broker.State) (*broker.RunInfo, error) {
	var odd error
	for _, state := range append([]broker.State{first}, LiveStates...) {
		if state == "" || state.Ended() {
			continue
		}
		page, err := s.FindRuns(ctx, queue, state, broker.RunSearch{Match: want, Max: 1})
		if page != nil && len(page.Runs) > 0 {
			return page.Runs[0], nil
		}
		if err != nil {
			odd = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, odd
}

// Letter returns the dead letter of an id in one of the queues, nil if there is none.
func (l *Look) Letter(ctx context.Context, queues []string, id string) (*Letter, error) {
	searcher, err := l.fleet.searcher()
	if err != nil {
		return nil, err
	}
	parts, err := l.deadOfMany(ctx, searcher, DeadQuery{
		Match: func(letter *broker.DeadLetter) bool { return letter.ID == id }, Max: 1, Look: maxLetters,
	}, nil, queues)
	for _, p := range parts {
		if len(p.letters) > 0 {
			return &p.letters[0], nil
		}
	}
	return nil, err
}

// maxLetters is how many dead letters of a queue are looked at for one.
const maxLetters = 100_000

// Cancelled is a run that was cancelled.
type Cancelled struct {
	Queue   string
	Running bool // its session is to learn of it
}

// Cancel cancels the run of an id in the first of the queues that has it. It returns nil if
// none has.
func (l *Look) Cancel(ctx context.Context, queues []string, id string, failure broker.Failure) (*Cancelled, error) {
	for i, queue := range queues {
		if slices.Contains(queues[:i], queue) || l.isSkipped(queue) {
			continue
		}
		err := l.fleet.Controls.Cancel(ctx, queue, id, failure)
		switch {
		case err == nil:
			return &Cancelled{queue, l.isRunning(ctx, queue, id)}, nil
		case ctx.Err() != nil:
			return nil, err
		case !errors.Is(err, broker.ErrNoRecord):
			l.skip(queue, err)
		}
	}
	return nil, nil
}

// isRunning reports whether a session holds the run.
func (l *Look) isRunning(ctx context.Context, queue, id string) bool {
	searcher, err := l.fleet.searcher()
	if err != nil {
		return false
	}
	page, _ := searcher.FindRuns(ctx, queue, broker.StateRunning, broker.RunSearch{
		Match: func(i *broker.RunInfo) bool { return i.Run.ID == id }, Max: 1,
	})
	return page != nil && len(page.Runs) > 0
}
