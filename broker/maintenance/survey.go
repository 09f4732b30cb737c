package maintenance

import (
	"context"

	"github.com/taskgen/taskgen/broker"
)

// Surveyor is a broker with [broker.Controls] and [broker.Records] that looks into many queues for
// much less than a call for each of them costs. Its methods may be called
// concurrently. Each calls part once for each queue, one call at a time and in any
// order, and returns when that is done, or with ctx's error when ctx has ended. None
// keeps another caller from the broker for longer than the call for one queue does.
type Surveyor interface {
	// SurveyQueues is [broker.Controls.Queue] for each of the queues.
	SurveyQueues(ctx context.Context, queues []string, part func(Part[*broker.QueueInfo])) error

	// SurveyRuns is [broker.Controls.Runs] for each of the queues: up to max runs of those
	// that are wanted, which are all if want is nil. Of runs that have ended it may
	// find max in all, those of the queues named first.
	SurveyRuns(ctx context.Context, queues []string, state broker.State, max int, want func(*broker.RunInfo) bool, part func(Part[[]*broker.RunInfo])) error

	// SurveyRecords is [broker.Records.Record] of one id for each of the queues, nil where
	// that has none.
	SurveyRecords(ctx context.Context, queues []string, id string, part func(Part[*broker.Record])) error

	// SurveyDeadLetters is [broker.Records.DeadLetters] for each of the queues: all dead
	// letters.
	SurveyDeadLetters(ctx context.Context, queues []string, part func(Part[[]*broker.DeadLetter])) error
}

// Part is what a survey found in one queue.
type Part[T any] struct {
	Queue int // its index among those that were asked for
	Found T
	All   bool  // of what was looked for nothing else is there
	Apart bool  // nothing is said of the queue: it has too much for a survey, or a part that cannot be read
	Err   error // why it could not be looked into
}
