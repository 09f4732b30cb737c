package maintenance

import (
	"context"

	"github.com/taskgen/taskgen/broker"
)

// Surveyor is a broker with [broker.Controls] and [broker.Records] that reads many
// queues at much less cost than a call for each.
//
// Its methods may be called concurrently. Each calls part once for each queue, in any
// order and one call at a time. It returns once it has called part for all queues, or
// ctx's error once ctx has ended. It delays other callers no longer than the call for
// one queue does.
type Surveyor interface {
	// SurveyQueues does [broker.Controls.Queue] for each of the queues.
	SurveyQueues(ctx context.Context, queues []string, part func(Part[*broker.QueueInfo])) error

	// SurveyRuns does [broker.Controls.Runs] for each of the queues: it finds up to max
	// runs for which want returns true, or any if want is nil. Of runs that have ended it
	// may find max in all, in the queues named first.
	SurveyRuns(ctx context.Context, queues []string, state broker.State, max int, want func(*broker.RunInfo) bool, part func(Part[[]*broker.RunInfo])) error

	// SurveyRecords does [broker.Records.Record] of one id for each of the queues. It
	// finds nil where the id has no record.
	SurveyRecords(ctx context.Context, queues []string, id string, part func(Part[*broker.Record])) error

	// SurveyDeadLetters does [broker.Records.DeadLetters] for each of the queues: it
	// finds all dead letters.
	SurveyDeadLetters(ctx context.Context, queues []string, part func(Part[[]*broker.DeadLetter])) error
}

// Part is the result of a survey for one queue.
type Part[T any] struct {
	Queue int // its index among the queues of the call
	Found T
	All   bool  // the queue has no more of it
	Apart bool  // the queue was not read: it has too much for a survey, or a part that cannot be read
	Err   error // of reading the queue
}
