// Package access finds who sends a request, decides what they may do, and stands in front of
// all that the dashboard and its HTTP API serve.
package access

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
)

// Action is something that a request does.
type Action string

// The actions.
const (
	Read     Action = "read"
	Queue    Action = "queue"
	Cancel   Action = "cancel"
	RunNow   Action = "run-now"
	Retry    Action = "retry"
	Delete   Action = "delete"
	Pause    Action = "pause"
	Disable  Action = "disable"
	Schedule Action = "schedule"
)

// Actions are all of them. Each role has as many of the first as Role.actions returns.
var Actions = []Action{Read, Queue, Cancel, RunNow, Retry, Pause, Delete, Disable, Schedule}

// Role is a set of actions. Each has those of the ones before.
type Role int8

// The roles.
const (
	None Role = iota
	Reader
	Operator
	Admin
)

// roleNames are the roles as files name them.
var roleNames = []string{None: "none", Reader: "read", Operator: "operate", Admin: "admin"}

// String returns the name of the role.
func (r Role) String() string {
	if r < None || r > Admin {
		return fmt.Sprintf("role %d", r)
	}
	return roleNames[r]
}

// actions returns those of the role. One that is unknown has none.
func (r Role) actions() []Action {
	switch r {
	case Reader:
		return Actions[:1]
	case Operator:
		return Actions[:6]
	case Admin:
		return Actions
	}
	return nil
}

// User is who sends a request. It is not changed once it is made.
type User struct {
	Name      string
	PerSecond int // requests on average; 0: not limited

	actions []Action
	tasks   []string // the only ones; nil: all
}

// NewUser returns a user with the actions of a role and some more, for some tasks or, if
// none is named, for all.
func NewUser(name string, role Role, more []Action, tasks []string) *User {
	return &User{Name: name, actions: slices.Concat(role.actions(), more), tasks: slices.Clone(tasks)}
}

// Allows reports whether the user may do something with a task. An empty task stands for
// what belongs to no single task, such as a queue. Users of some tasks alone may not do that.
func (u *User) Allows(action Action, task string) bool {
	return u.Has(action) && (len(u.tasks) == 0 || task != "" && slices.Contains(u.tasks, task))
}

// Has reports whether the user may do something with any task.
func (u *User) Has(action Action) bool { return u != nil && slices.Contains(u.actions, action) }

// Restricted reports whether the user may do things with some tasks alone.
func (u *User) Restricted() bool { return u == nil || len(u.tasks) > 0 }

// Actions returns what the user may do.
func (u *User) Actions() []Action { return slices.Clone(u.actions) }

// Tasks returns the tasks that the user is restricted to; none: it may see all.
func (u *User) Tasks() []string { return slices.Clone(u.tasks) }

// withTasks returns the user with all names of the tasks that it is restricted to.
func (u *User) withTasks(namesOf func(task string) []string) *User {
	if namesOf == nil || len(u.tasks) == 0 {
		return u
	}
	c := *u
	c.tasks = nil
	for _, task := range u.tasks {
		c.tasks = append(append(c.tasks, task), namesOf(task)...)
	}
	return &c
}

// Finder finds who sends a request. It returns ErrNoUser if the request does not say so, and
// any other error if the user may do nothing. It may be called concurrently.
type Finder interface {
	Find(r *http.Request) (*User, error)
}

// Challenger is a Finder that says how a request names its user.
type Challenger interface {
	Challenge() []string // values of WWW-Authenticate
}

// ErrNoUser: the request does not say who sends it, or does not prove it.
var ErrNoUser = errors.New("the request does not say who sends it")

type contextKey int8

const (
	userKey contextKey = iota
	entryKey
	hostsKey
)

// UserOf returns the user of a request that passed a [Guard], and else nil, which may do
// nothing.
func UserOf(ctx context.Context) *User {
	u, _ := ctx.Value(userKey).(*User)
	return u
}

// hostsOf returns the names that proxies serve, of the Guard that a request passes.
func hostsOf(ctx context.Context) []string {
	hosts, _ := ctx.Value(hostsKey).([]string)
	return hosts
}

// WithUser returns a context of a request of the user, for tests.
func WithUser(ctx context.Context, u *User) context.Context {
	return context.WithValue(ctx, userKey, u)
}

// DeniedError is that a user may not do something.
type DeniedError struct {
	User   string
	Action Action
	Task   string // empty: it is about no single task
}

func (e *DeniedError) Error() string {
	if e.Task == "" {
		return fmt.Sprintf("user %.64q lacks the action %q for all tasks", e.User, e.Action)
	}
	return fmt.Sprintf("user %.64q lacks the action %q for task %.64q", e.User, e.Action, e.Task)
}

// Check returns a [*DeniedError] if the user of a request may not do something with a task,
// as Allows says.
func Check(ctx context.Context, action Action, task string) error {
	u := UserOf(ctx)
	if u.Allows(action, task) {
		return nil
	}
	e := &DeniedError{Action: action, Task: task}
	if u != nil {
		e.User = u.Name
	}
	return e
}

// HTTPStatus is 403.
func (*DeniedError) HTTPStatus() int { return http.StatusForbidden }
