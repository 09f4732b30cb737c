package runtime

import (
	"errors"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/naming"
)

// QueueOption changes one call of a generated stub, which returns an error and queues
// nothing if the option's value is invalid. If an option is given twice the last one
// holds. Only this package makes options.
type QueueOption interface {
	apply(run *broker.TaskRun) error
}

type option func(*broker.TaskRun) error

func (o option) apply(run *broker.TaskRun) error { return o(run) }

var errTwoDues = errors.New("the options Delay and At both say when the run is due; give one of them")

// Delay makes the run due this long after it is queued, by the broker's clock.
// Zero is as without the option; less, more than 100 years, and [At] beside it
// are errors. For an instant that may have passed there is At.
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

// At makes the run due at t by the broker's clock. A time in the past is at
// once, though the time of //task:expire counts from it; the zero time is as
// without the option. One more than 100 years ahead, and [Delay] beside it, are
// errors.
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

// ID names the run. While a run with this id is queued or running, queueing
// another in the same queue returns [ErrDuplicate]. It is at most 200
// characters of printable ASCII without spaces. Without this option the
// id is a new ULID.
func ID(id string) QueueOption {
	return option(func(run *broker.TaskRun) error {
		run.ID, run.OwnID = id, true
		return nil
	})
}

// OnQueue queues the run on this queue instead of the task's. A consumer takes
// from it when its Queues say so. As in //task:queue the name is of letters,
// digits, '_', '-' and '.', a letter or digit first, and at most 128 bytes.
func OnQueue(name string) QueueOption {
	return option(func(run *broker.TaskRun) error {
		if why := naming.Problem(name); why != "" {
			return fmt.Errorf("queue name: %s", why)
		}
		run.Queue = name
		return nil
	})
}

// WithPriority orders the run within its queue instead of the task's priority.
func WithPriority(p Priority) QueueOption {
	return option(func(run *broker.TaskRun) error {
		if p < Low || p > High {
			return fmt.Errorf("priority %d is none of Low, Medium, High", p)
		}
		run.Priority = p
		return nil
	})
}

// Keep makes this run's outcome and result stay known for d after its end,
// instead of the task's time; zero keeps no record of a success.
func Keep(d time.Duration) QueueOption {
	return option(func(run *broker.TaskRun) error {
		if d < 0 || d > maxDelay {
			return fmt.Errorf("keeping time %s is not between 0 and 100 years", d)
		}
		run.Keep = d
		return nil
	})
}

// Header gives the run a header, which travels with it to its middleware and, as
// [Run].Headers, to its task. A run has at most 32; key and value together have
// at most 1,024 bytes.
func Header(key, value string) QueueOption {
	return option(func(run *broker.TaskRun) error {
		if run.Headers == nil {
			run.Headers = make(map[string]string)
		}
		run.Headers[key] = value
		return nil
	})
}

// SkipFailed makes the run that gathers a [Group] run when members failed, with
// the results of those that succeeded. It is an error for any other run.
func SkipFailed() QueueOption {
	return option(func(run *broker.TaskRun) error {
		run.EnsureLinks().Awaits.Partial = true
		return nil
	})
}
