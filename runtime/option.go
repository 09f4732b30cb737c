package runtime

import (
	"fmt"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// maxDelay keeps due times inside what clocks and brokers can represent.
const maxDelay = 100 * 365 * 24 * time.Hour

// QueueOption changes one call of a generated stub.
type QueueOption func(*broker.TaskRun) error

// Delay makes the run due this long after it is queued, by the broker's clock.
// Zero and less is at once; more than 100 years is an error.
func Delay(d time.Duration) QueueOption {
	return func(run *broker.TaskRun) error {
		if d > maxDelay {
			return fmt.Errorf("delay %s is more than 100 years", d)
		}
		run.Delay, run.Due = max(d, 0), time.Time{}
		return nil
	}
}

// At makes the run due at t by the broker's clock. A time in the past is at
// once; one more than 100 years ahead is an error.
func At(t time.Time) QueueOption {
	return func(run *broker.TaskRun) error {
		if t.After(time.Now().Add(maxDelay)) {
			return fmt.Errorf("due time %s is more than 100 years ahead", t.Format(time.RFC3339))
		}
		run.Delay, run.Due = 0, time.Time{}
		if t.After(time.Unix(0, 0)) {
			run.Due = t
		}
		return nil
	}
}

// ID names the run. While a run with this id is queued or running, queueing
// another in the same queue returns [ErrDuplicate]. It is at most 200
// characters of printable ASCII without spaces. Without this option the
// id is a new ULID.
func ID(id string) QueueOption {
	return func(run *broker.TaskRun) error {
		run.ID, run.OwnID = id, true
		return nil
	}
}

// OnQueue queues the run on this queue instead of the task's. A consumer takes
// from it when its Queues say so.
func OnQueue(name string) QueueOption {
	return func(run *broker.TaskRun) error {
		run.Queue = name
		return nil
	}
}

// WithPriority orders the run within its queue instead of the task's priority.
func WithPriority(p Priority) QueueOption {
	return func(run *broker.TaskRun) error {
		if p < Low || p > High {
			return fmt.Errorf("priority %d is none of Low, Medium, High", p)
		}
		run.Priority = p
		return nil
	}
}

// Keep makes this run's outcome and result stay known for d after its end,
// instead of the task's time; zero keeps no record of a success.
func Keep(d time.Duration) QueueOption {
	return func(run *broker.TaskRun) error {
		if d < 0 || d > maxDelay {
			return fmt.Errorf("keeping time %s is not between 0 and 100 years", d)
		}
		run.Keep = d
		return nil
	}
}

// Header gives the run a header, which travels with it to its middleware and, as
// [Run].Headers, to its task. A run has at most 32; key and value together have
// at most 1,024 bytes.
func Header(key, value string) QueueOption {
	return func(run *broker.TaskRun) error {
		if run.Headers == nil {
			run.Headers = make(map[string]string)
		}
		run.Headers[key] = value
		return nil
	}
}
