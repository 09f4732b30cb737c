// Package compat finds the changes between two versions of a module's tasks
// that break what the older one left behind: runs that are queued, and results
// that are kept or waited for.
//
// The older version is read from git: its generated code says what its tasks
// are called and what travels for them, and is only parsed, never built.
package compat

import "github.com/taskgen/taskgen/internal/schema"

// Task is what compatibility is about: a name on the wire and what travels
// under it.
type Task struct {
	Name    string
	Aliases []string // other names whose runs it takes
	Params  []schema.Field
	Result  *schema.Type // nil without one
	Keeps   bool         // a record of each success is kept
	Ticks   bool         // it is scheduled: its schedule queues runs without parameters
	Dir     string       // of its package, relative to the module's with slashes; "." for the root
}

// Change is one difference that breaks something.
type Change struct {
	New     *Task  // nil when the task is gone
	Old     *Task  // never nil
	Message string // what it is, what it breaks and what would make it safe
}
