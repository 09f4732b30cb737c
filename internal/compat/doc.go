// Package compat finds the changes between two versions of a module's tasks that
// break what the older version left: queued runs, and results that are kept or waited
// for.
//
// The older version is read from git. Its generated code lists its tasks and their
// wire forms; it is parsed and never built.
package compat

import "github.com/taskgen/taskgen/internal/schema"

// Task is a task as seen by compatibility: its name and its wire form.
type Task struct {
	Name    string
	Aliases []string // further names whose runs it executes
	Params  []schema.Field
	Result  *schema.Type // nil without one; also of the call that it returns: handles follow it
	Keeps   bool         // a record of each success is kept
	Ticks   bool         // it has a schedule, which queues runs without parameters
	Dir     string       // directory of its package below the module, with slashes; "." for the root
}

// Change is one breaking change.
type Change struct {
	New     *Task  // nil if the task was removed
	Old     *Task  // never nil
	Message string // the change, what it breaks, and how to make it safe
}
