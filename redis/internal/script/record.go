package script

import "github.com/taskgen/taskgen/redis/internal/wire"

// RecordKeys returns the named keys of record.lua. The last one, of committed large calls, is
// optional.
func RecordKeys(q *wire.QueueKeys, id string) []string {
	return []string{q.Record(id), q.Waiters, q.Progress(id), q.Staged}
}

// RecordArgs are the named arguments of record.lua.
type RecordArgs struct {
	Waiter, ID string
}

// Append appends them in their order.
func (a *RecordArgs) Append(args []any) []any { return append(args, a.Waiter, a.ID) }

// RecordReply is the reply of record.lua.
type RecordReply struct {
	Found    bool
	Staged   bool // runs of large calls are to be moved first: the run may be one of them
	Record   string
	Progress string // "" for none
}

// ParseRecord parses the reply of record.lua.
func ParseRecord(v any) (RecordReply, error) {
	switch v {
	case nil:
		return RecordReply{}, nil
	case int64(1):
		return RecordReply{Staged: true}, nil
	}
	reply, err := arrayOf("record", v, 2)
	if err != nil {
		return RecordReply{}, err
	}
	return RecordReply{Found: true, Record: text(reply[0]), Progress: text(reply[1])}, nil
}
