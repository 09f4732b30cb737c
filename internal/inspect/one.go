package inspect

import (
	"context"
	"errors"
	"slices"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
)

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
