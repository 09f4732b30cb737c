package scan

import "time"

// defaultKeep is how long the outcome of a task with a result is kept when no
// directive says so.
const defaultKeep = time.Hour

// Keep is how long a run's outcome and result can be asked for; 0: there is no
// record of a success.
func (t *Task) Keep() time.Duration {
	switch {
	case t.Options.Result != nil:
		return *t.Options.Result
	case t.Result != nil:
		return defaultKeep
	}
	return 0
}
