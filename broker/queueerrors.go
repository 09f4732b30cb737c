package broker

import (
	"fmt"
	"maps"
	"slices"
)

// QueueErrors is the error of a call about several queues that succeeded in some of
// them, with the errors of the others.
type QueueErrors map[string]error

// Error names the first of the queues, and counts the others.
func (e QueueErrors) Error() string {
	names := slices.Sorted(maps.Keys(e))
	switch len(names) {
	case 0:
		return "no queue failed"
	case 1:
		return e[names[0]].Error()
	}
	return fmt.Sprintf("%v; and %d more queues", e[names[0]], len(names)-1)
}

// Unwrap returns the errors of the queues.
func (e QueueErrors) Unwrap() []error {
	return slices.Collect(maps.Values(e))
}
