// Package counting is between a consumer and what counts its runs: package metrics counts each
// run of a busy consumer, and a event for each would cost more than that.
package counting

import (
	"time"

	"github.com/taskgen/taskgen/broker"
)

// Observer is an observer of a consumer that counts by itself. The consumer calls what Counter
// returns in place of Observe.
type Observer interface{ Counter() Counter }

// Counter counts runs. Its method may be called concurrently.
type Counter interface {
	// Series returns what counts the runs of a task in a queue, by their names on the wire.
	// It is the same for the same names, or stands for the same.
	Series(task, queue string) Series
}

// Series counts the runs of one task in one queue. Its methods may be called concurrently,
// and do not block.
type Series interface {
	// Started counts the start of an attempt.
	Started(waited time.Duration)
	// Ended counts the end of an attempt that was spent: the run does not go back as if it
	// had not started.
	Ended(took time.Duration)
	// Recorded counts an outcome that the broker has recorded. at is the present.
	Recorded(o *broker.Outcome, at time.Time)
}
