package script

// WatchArgs are the named arguments of watch.lua.
type WatchArgs struct {
	Kinds, Keys int
	Keep        int64 // milliseconds
}

// Append appends them in their order.
func (a *WatchArgs) Append(args []any) []any { return append(args, a.Kinds, a.Keys, a.Keep) }

// WatchReply is the reply of watch.lua. Queues are named by their place in the call, from 0.
type WatchReply struct {
	Waiting []int // queues in which a run may wait
	Broken  []WatchFailure
}

// WatchFailure says why runs of a queue wake nobody.
type WatchFailure struct {
	Queue int
	Why   string
}

// ParseWatch parses the reply of watch.lua to a call for so many queues.
func ParseWatch(v any, queues int) (r WatchReply, err error) {
	reply, err := arrayOf("watch", v, 2)
	if err != nil {
		return r, err
	}
	place := func(v any) (int, bool) {
		n := number(v)
		return int(n) - 1, n >= 1 && int(n) <= queues
	}
	waiting, _ := reply[0].([]any)
	for _, v := range waiting {
		if i, ok := place(v); ok {
			r.Waiting = append(r.Waiting, i)
		}
	}
	broken, _ := reply[1].([]any)
	for i := 0; i+1 < len(broken); i += 2 {
		if q, ok := place(broken[i]); ok {
			r.Broken = append(r.Broken, WatchFailure{q, text(broken[i+1])})
		}
	}
	return r, nil
}
