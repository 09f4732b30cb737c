// Package bulk changes all runs or dead letters that match a filter, as jobs of this process:
// each reports its progress, can be stopped and slowed down, and lists what stayed and why.
package bulk

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/taskgen/taskgen/dashboard/internal/access"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// Kind is what a job does.
type Kind string

// The kinds.
const (
	Cancel  Kind = "cancel"
	RunNow  Kind = "run-now"
	Requeue Kind = "requeue"
	Delete  Kind = "delete"
)

// Kinds are all of them.
var Kinds = []Kind{Cancel, RunNow, Requeue, Delete}

// change is the method of the inspector that does a kind.
type change func(*taskrt.Inspector, context.Context, taskrt.RunFilter, taskrt.ChangeOptions) (*taskrt.ChangeResult, error)

// of returns the action that a kind needs, and how it is done.
func (k Kind) of() (access.Action, change, error) {
	switch k {
	case Cancel:
		return access.Cancel, (*taskrt.Inspector).CancelAll, nil
	case RunNow:
		return access.RunNow, (*taskrt.Inspector).RunNow, nil
	case Requeue:
		return access.Retry, (*taskrt.Inspector).Requeue, nil
	case Delete:
		return access.Delete, (*taskrt.Inspector).Delete, nil
	}
	return "", nil, &RequestError{fmt.Sprintf("no change of all is named %.64q; known are cancel, run-now, requeue and delete", string(k))}
}

// Action returns the action that a kind needs, empty for one that there is not.
func (k Kind) Action() access.Action {
	action, _, _ := k.of()
	return action
}

// RequestError is that a request means nothing.
type RequestError struct{ message string }

func (e *RequestError) Error() string { return e.message }

// HTTPStatus is 422.
func (*RequestError) HTTPStatus() int { return http.StatusUnprocessableEntity }

// Request is what a job is to do.
type Request struct {
	Kind      Kind
	Filter    taskrt.RunFilter
	PerSecond int // changes no more on average; 0: no limit
}

// State is where a job is.
type State string

// The states.
const (
	Running State = "running"
	Done    State = "done"    // it has looked at all there was
	Stopped State = "stopped" // somebody stopped it, or the process ends
	Failed  State = "failed"  // by an error; what was changed until then stays so
)

// Status is a job at an instant.
type Status struct {
	ID   string
	User string
	Request
	State   State
	Started time.Time
	Ended   time.Time // zero: not yet
	taskrt.Changes
	Missing []string // of the ids of the filter: those that no queue has; known at the end
	Skipped []taskrt.Skipped
	Err     error
}

// errStopped is why a job ends early.
var errStopped = errors.New("stopped")

// job is a job and who waits for it.
type job struct {
	status Status
	cancel context.CancelCauseFunc
	ended  chan struct{}
}

// Count is what a request would change.
type Count struct {
	taskrt.ChangeResult
	Complete bool // else there was no time to look at all, and there may be more
}
