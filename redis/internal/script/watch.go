package script

// WatchArgs are the named arguments of watch.lua.
type WatchArgs struct {
	Kinds, Keys int
	Keep        int64 // milliseconds
}

// Append appends them in their order.
func (a *WatchArgs) Append(args []any) []any { return append(args, a.Kinds, a.Keys, a.Keep) }
