package maintenance

import (
	"context"
	"time"

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

// TickSurveyor is a broker with [broker.Ticks] that reads the last ticks of many tasks at much
// less cost than a call for each.
type TickSurveyor interface {
	// SurveyLastTicks does [broker.Ticks.LastTick] for the tasks of each of the queues, and
	// finds the ticks by the names of tasks. It calls part as the methods of [Surveyor] do.
	SurveyLastTicks(ctx context.Context, queues []string, tasks map[string][]string, part func(Part[map[string]time.Time])) error
}

// Part is the result of a survey for one queue.
type Part[T any] struct {
	Queue int // its index among the queues of the call
	Found T
	All   bool  // the queue has no more of it
	Apart bool  // the queue was not read: it has too much for a survey, or a part that cannot be read
	Err   error // of reading the queue
}
