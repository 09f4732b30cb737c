package script

import "fmt"

// AnnounceArgs are the named arguments of announce.lua.
type AnnounceArgs struct {
	ID       string
	Instance []byte
	Kept     int64 // milliseconds
}

// Append appends them in their order.
func (a *AnnounceArgs) Append(args []any) []any { return append(args, a.ID, a.Instance, a.Kept) }

// InstancesArgs are the named arguments of instances.lua.
type InstancesArgs struct {
	Cursor  string
	Page    int
	Kept    int64 // milliseconds
	Longest int   // bytes
}

// Append appends them in their order.
func (a *InstancesArgs) Append(args []any) []any {
	return append(args, a.Cursor, a.Page, a.Kept, a.Longest)
}

// InstancesReply is the reply of instances.lua.
type InstancesReply struct {
	Cursor string   // "" at the end
	Stored []string // in turn an id, and what is stored of the instance
}

// ParseInstances parses the reply of instances.lua.
func ParseInstances(v any) (InstancesReply, error) {
	reply := texts(v)
	if len(reply)%2 != 1 {
		return InstancesReply{}, fmt.Errorf("unexpected reply of %d values of instances.lua", len(reply))
	}
	r := InstancesReply{Cursor: reply[0], Stored: reply[1:]}
	if r.Cursor == "0" {
		r.Cursor = ""
	}
	return r, nil
}
