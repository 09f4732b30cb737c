package scan

import "time"

// defaultKeep is how long the record of a task with a result is kept by default.
const defaultKeep = time.Hour

// Keep returns how long a run's outcome and result are kept; 0 keeps no record of a
// success.
func (t *Task) Keep() time.Duration {
	switch {
	case t.Options.Result != nil:
		return *t.Options.Result
	case t.Result != nil:
		return defaultKeep
	}
	return 0
}
