package runtime

import (
	"errors"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/naming"
)

// QueueOption changes one call of a generated function. If the option's value is invalid,
// the function returns an error and queues nothing. If an option is given twice, the last
// one holds. Only this package makes options.
type QueueOption interface {
	apply(run *broker.TaskRun) error
}

type option func(*broker.TaskRun) error

func (o option) apply(run *broker.TaskRun) error { return o(run) }

var errTwoDues = errors.New("the options Delay and At both say when the run is due; give one of them")

// Delay makes the run due this long after it is queued, by the broker's clock. Defaults to
// zero. A negative delay, a delay of more than 100 years, and [At] beside it are errors.
func Delay(d time.Duration) QueueOption {
	return option(func(run *broker.TaskRun) error {
		switch {
		case d < 0:
			return fmt.Errorf("delay %s is negative; for an instant that may have passed use At, for one at once no option", d)
		case d > maxDelay:
			return fmt.Errorf("delay %s is more than 100 years", d)
		case d > 0 && !run.Due.IsZero():
			return errTwoDues
		}
		run.Delay = d
		return nil
	})
}

// At makes the run due at t, by the broker's clock. If t has passed, the run is due at
// once, and the time of //task:expire counts from t. The zero time is as without the
// option. A time more than 100 years ahead, and [Delay] beside it, are errors.
func At(t time.Time) QueueOption {
	return option(func(run *broker.TaskRun) error {
		switch {
		case t.After(time.Now().Add(maxDelay)):
			return fmt.Errorf("due time %s is more than 100 years ahead", t.Format(time.RFC3339))
		case run.Delay > 0 && !t.IsZero():
			return errTwoDues
		}
		run.Due = time.Time{}
		if t.After(time.Unix(0, 0)) {
			run.Due = t
		}
		return nil
	})
}

// ID sets the run's id, at most 200 characters of printable ASCII without spaces. While
// the run is live, queueing another with the id in the same queue returns
// [ErrDuplicate]. Defaults to a new ULID.
func ID(id string) QueueOption {
	return option(func(run *broker.TaskRun) error {
		run.ID, run.OwnID = id, true
		return nil
	})
}

// OnQueue queues the run on this queue instead of the task's. A consumer takes from the
// queue if its [ConsumerConfig] names it. The name has letters, digits, '_', '-' and '.',
// a letter or digit first, and at most 128 bytes.
func OnQueue(name string) QueueOption {
	return option(func(run *broker.TaskRun) error {
		if why := naming.Problem(name); why != "" {
			return fmt.Errorf("queue name: %s", why)
		}
		run.Queue = name
		return nil
	})
}

// WithPriority gives the run another priority than the task's.
func WithPriority(p Priority) QueueOption {
	return option(func(run *broker.TaskRun) error {
		if p < Low || p > High {
			return fmt.Errorf("priority %d is none of Low, Medium, High", p)
		}
		run.Priority = p
		return nil
	})
}

// Keep keeps the record of the run, with its result, for d after its end, instead of the
// task's time. Zero keeps no record of a success. A negative d, and more than 100 years,
// are errors.
func Keep(d time.Duration) QueueOption {
	return option(func(run *broker.TaskRun) error {
		if d < 0 || d > maxDelay {
			return fmt.Errorf("keeping time %s is not between 0 and 100 years", d)
		}
		run.Keep = d
		return nil
	})
}

// Header adds a header to the run, for middleware and, in [Run].Headers, for the task. A
// run has at most 32 headers. Key and value together have at most 1,024 bytes.
func Header(key, value string) QueueOption {
	return option(func(run *broker.TaskRun) error {
		if run.Headers == nil {
			run.Headers = make(map[string]string)
		}
		run.Headers[key] = value
		return nil
	})
}

// SkipFailed has the run that gathers a [Group] execute although members failed, with the
// results of those that succeeded. For any other run it is an error.
func SkipFailed() QueueOption {
	return option(func(run *broker.TaskRun) error {
		run.EnsureLinks().Awaits.Partial = true
		return nil
	})
}
