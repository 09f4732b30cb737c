package cron

import "fmt"

// Error describes what is wrong with an expression, and where.
type Error struct {
	Spec   string // the expression, or its start if it is too long
	Offset int    // byte offset of the offending part
	Reason string // names the field, its value and what is allowed
}

// Error returns the reason with the expression and the column, counted from 1.
func (e *Error) Error() string {
	return fmt.Sprintf("parse cron expression %q: %s (column %d)", e.Spec, e.Reason, e.Offset+1)
}
