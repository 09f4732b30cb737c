// Package compat finds the changes between two versions of a module's tasks that
// break what the older version left: queued runs, and results that are kept or waited
// for.
//
// The older version is read from git. Its generated code lists its tasks and their
// wire forms; it is parsed and never built.
//
// A change breaks something if the older version itself wrote it, or waits for it. It is a
// note if it matters only to what is older still, to schedules made at run time, to some
// values, or while both versions are up.
package compat

import "github.com/taskgen/taskgen/internal/schema"

// Task is a task as seen by compatibility: its name, its wire form and its policies.
type Task struct {
	Name    string
	Aliases []string // further names whose runs it executes
	Queue   string   // never empty
	From    []string // further queues from which its runs are taken
	Params  []schema.Field
	Result  *schema.Type // nil without one; also of the call that it returns: handles follow it
	Keeps   bool         // a record of each success is kept
	Ticks   bool         // it has a schedule, which queues runs without parameters
	Dir     string       // directory of its package below the module, with slashes; "." for the root

	Unique, Concurrency, Rate, Fair *Policy // nil: it has no such policy
}

// Policy is what the key of a policy is made of: parameters or fields of them by their keys
// on the wire, as in order.customer. The key of a unique task without any has all parameters.
type Policy struct{ By []string }

// DefaultQueue is the queue of a task that names none.
const DefaultQueue = "default"

// Change is a change that breaks something, or is worth a note.
type Change struct {
	New     *Task  // nil if the task was removed
	Old     *Task  // never nil
	Note    bool   // nothing that the old version wrote breaks
	Message string // the change, what it breaks, and how to make it safe
}
