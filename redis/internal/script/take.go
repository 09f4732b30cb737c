package script

import (
	"bufio"
	"cmp"
	"fmt"
	"slices"

	"github.com/taskgen/taskgen/redis/internal/resp"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// TakeKeys returns the named keys of take.lua.
func TakeKeys(q *wire.QueueKeys, name string) []string {
	return q.Keys(q.InFlight, q.Leases, q.Takes, q.Batch(name), q.Paused, q.Disabled, q.Deferred, q.Enabling,
		q.Backlogs, q.Rounds, q.Policy, q.Recheck, q.Running, q.Starts, q.Rates, q.Outbox, q.Stages, q.Limits)
}

// TakeArgs are the named arguments of take.lua.
type TakeArgs struct {
	Session                 string
	Number                  int64 // the batch's in the session
	Lease                   int64 // milliseconds
	IO, CPU, Total          int
	Announce                string
	PrefetchIO, PrefetchCPU int
	Apart                   bool
	Limits                  string // of the program
}

// Append appends them in their order.
func (a *TakeArgs) Append(args []any) []any {
	return append(args, a.Session, a.Number, a.Lease, a.IO, a.CPU, a.Total, a.Announce, a.PrefetchIO, a.PrefetchCPU, yes(a.Apart), a.Limits)
}

// TakeReply is the reply of take.lua.
type TakeReply struct {
	Next   int64 // milliseconds until the first delayed run is due, -1 if there is none, or one of the codes
	Stored [][]byte
}

// Codes that take.lua returns instead of when the first delayed run is due.
const (
	TakeUsedUp = -2 // the batch's number is used: the next take needs the next number
	TakeQuiet  = -3 // the queue has no delayed run, and nothing in flight either
	TakeStaged = -4 // there is no run that can be taken, but there are runs of large calls to move
)

// MaxTake is how many runs of each kind one take returns at most.
const MaxTake = 1000

// AppendReadBatch appends the command that reads a batch behind a take: the server is faster
// at that than a script.
func AppendReadBatch(to []byte, batch string) []byte {
	to = resp.AppendBulk(resp.AppendBulk(resp.AppendArray(to, 4), "LRANGE"), batch)
	return resp.AppendBulk(resp.AppendBulk(to, "0"), "-1")
}

// ReadTake reads the reply of take.lua and that of the command behind it, which reads the
// batch. ParseTake takes its result.
func ReadTake(in *bufio.Reader) (any, error) {
	v, err := resp.ReadReply(in, 0)
	if err != nil {
		return nil, err
	}
	stored, err := readStoredRuns(in)
	if err != nil {
		return nil, err
	}
	if _, refused := v.(resp.Error); refused {
		return v, nil
	}
	if refused, ok := stored.(resp.Error); ok {
		return refused, nil // the next take with this number gets the batch
	}
	b := new(TakeReply)
	reply, _ := v.([]any)
	if len(reply) == 1 {
		b.Next, _ = reply[0].(int64)
		b.Stored, _ = stored.([][]byte)
		return b, nil
	}
	return nil, resp.ErrProtocol
}

// readStoredRuns reads an array of stored runs into little memory. Small ones share a piece of
// it. Large ones do not: one run would keep the memory of others.
func readStoredRuns(in *bufio.Reader) (any, error) {
	const small, piece = 4 << 10, 64 << 10
	if kind, err := in.Peek(1); err != nil || kind[0] != '*' {
		return resp.ReadReply(in, 0)
	}
	n, err := resp.ReadSize(in, '*')
	if err != nil || n < 0 || n > 2*MaxTake {
		return nil, cmp.Or(err, resp.ErrProtocol)
	}
	stored := make([][]byte, n)
	var shared []byte
	for i := range stored {
		size, err := resp.ReadSize(in, '$')
		if err != nil {
			return nil, err
		}
		into := []byte(nil)
		if size <= small {
			if cap(shared)-len(shared) < int(size) {
				shared = make([]byte, 0, max(int(size), min(piece, (int(size)+8)*(len(stored)-i))))
			}
			into = shared
		}
		got, err := resp.AppendRead(into, in, size)
		if err != nil {
			return nil, err
		}
		if size <= small {
			shared = got
		}
		stored[i] = slices.Clip(got[len(into):])
	}
	return stored, nil
}

// ParseTake parses the reply of take.lua, whether ReadTake has read it or not.
func ParseTake(v any) (*TakeReply, error) {
	if b, ok := v.(*TakeReply); ok {
		return b, nil
	}
	reply, ok := v.([]any)
	if !ok || len(reply) == 0 {
		return nil, fmt.Errorf("unexpected reply %T of take.lua", v)
	}
	b := &TakeReply{Stored: make([][]byte, len(reply)-1)}
	b.Next, _ = reply[0].(int64)
	for i, e := range reply[1:] {
		stored, _ := e.(string)
		b.Stored[i] = []byte(stored)
	}
	return b, nil
}
