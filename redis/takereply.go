package redis

import (
	"bufio"
	"cmp"
	"fmt"
	"slices"

	"github.com/taskgen/taskgen/redis/internal/resp"
)

// takeReply is the reply of the take script.
type takeReply struct {
	due    int64 // milliseconds until the next delayed run is due, or a code
	stored [][]byte
}

// readTakeReply reads what is replied to a take and to the command behind it, which
// reads the batch.
func readTakeReply(in *bufio.Reader) (any, error) {
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
		return refused, nil // the next take of the slot gets the batch
	}
	b := new(takeReply)
	reply, _ := v.([]any)
	if len(reply) == 1 {
		b.due, _ = reply[0].(int64)
		b.stored, _ = stored.([][]byte)
		return b, nil
	}
	return nil, resp.ErrProtocol
}

// readStoredRuns reads an array of elements into little memory: small ones share a
// piece of it, large ones do not: one run would keep the memory of others.
func readStoredRuns(in *bufio.Reader) (any, error) {
	const small, piece = 4 << 10, 64 << 10
	if kind, err := in.Peek(1); err != nil || kind[0] != '*' {
		return resp.ReadReply(in, 0)
	}
	n, err := resp.ReadSize(in, '*')
	if err != nil || n < 0 || n > 2*maxTake {
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

// takeReplyOf returns the batch of a reply, whoever read it.
func takeReplyOf(v any) (*takeReply, error) {
	if b, ok := v.(*takeReply); ok {
		return b, nil
	}
	reply, ok := v.([]any)
	if !ok || len(reply) == 0 {
		return nil, fmt.Errorf("unexpected reply %T of the take script", v)
	}
	b := &takeReply{stored: make([][]byte, len(reply)-1)}
	b.due, _ = reply[0].(int64)
	for i, e := range reply[1:] {
		stored, _ := e.(string)
		b.stored[i] = []byte(stored)
	}
	return b, nil
}
