package access

import (
	"context"
	"net/http"
	"slices"
	"strings"
)

// Gate answers pages what the user of a request may do. The request passed a [Guard].
type Gate struct{}

// Name returns the name of the user, empty if there is none.
func (Gate) Name(ctx context.Context) string {
	if u := UserOf(ctx); u != nil {
		return u.Name
	}
	return ""
}

// Rights returns a text that is the same for users who see and may do the same.
func (Gate) Rights(ctx context.Context) string {
	u := UserOf(ctx)
	if u == nil {
		return ""
	}
	actions, tasks := u.Actions(), u.Tasks()
	slices.Sort(actions)
	slices.Sort(tasks)
	return joined(slices.Compact(actions)) + "\n" + strings.Join(slices.Compact(tasks), "\n")
}

// May reports whether the user may do an action to the runs of a task. Without a task it is
// what concerns all tasks, but for reading: that is what any task has.
func (Gate) May(ctx context.Context, action, task string) bool {
	u := UserOf(ctx)
	if action == string(Read) && task == "" {
		return u.Has(Read)
	}
	return u.Allows(Action(action), task)
}

// Do calls f if the user may do the action, and adds it to the audit line of the request,
// with names and values as slog has them. It returns the error of f, or a [*DeniedError].
func (g Gate) Do(ctx context.Context, action, task string, args []any, f func(ctx context.Context) error) error {
	entry := EntryOf(ctx)
	entry.Set(Action(action), task)
	entry.Add(args...)
	err := Check(ctx, Action(action), task)
	if err == nil {
		err = f(ctx)
	}
	if err != nil {
		entry.Fail(err)
	}
	return err
}

// HTTPStatus is 403.
func (*DeniedError) HTTPStatus() int { return http.StatusForbidden }
