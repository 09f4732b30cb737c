package cron

import "fmt"

// Error tells what is wrong with an expression, and where.
type Error struct {
	Spec   string // the expression; its start, when it is too long
	Offset int    // of the offending part in the expression, in bytes
	Reason string // names the field, its value and what is allowed
}

// Error returns the reason with the expression and the column, which counts
// from 1.
func (e *Error) Error() string {
	return fmt.Sprintf("parse cron expression %q: %s (column %d)", e.Spec, e.Reason, e.Offset+1)
}
