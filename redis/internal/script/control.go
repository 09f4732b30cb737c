package script

import "github.com/taskgen/taskgen/redis/internal/wire"

// ControlKeys returns the named keys of control.lua.
func ControlKeys(q *wire.QueueKeys) []string {
	return []string{q.Paused, q.Disabled, q.Enabling, q.Wake[0], q.Wake[1]}
}

// ControlArgs are the named arguments of control.lua.
type ControlArgs struct {
	Action, Task string
}

// Append appends them in their order.
func (a *ControlArgs) Append(args []any) []any { return append(args, a.Action, a.Task) }

// ParseControl parses the reply of control.lua, which says nothing but that all is done.
func ParseControl(v any) error {
	_, err := integerOf("control", v, 0, 0)
	return err
}
