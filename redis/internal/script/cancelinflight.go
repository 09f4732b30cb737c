package script

import "fmt"

// CancelInFlightArgs are the named arguments of cancelinflight.lua.
type CancelInFlightArgs struct {
	ID      string
	Failure []byte
	Keep    int64 // milliseconds
	Looked  int64
}

// Append appends them in their order.
func (a *CancelInFlightArgs) Append(args []any) []any {
	return append(args, a.ID, a.Failure, a.Keep, a.Looked)
}

// CancelInFlightReply is the reply of cancelinflight.lua.
type CancelInFlightReply struct {
	Batches int // that were looked at to their end
	Found   bool
	Looked  int64 // runs of the next batch
}

// ParseCancelInFlight parses the reply of cancelinflight.lua.
func ParseCancelInFlight(v any) (CancelInFlightReply, error) {
	reply, err := arrayOf("cancelinflight", v, 3)
	if err != nil {
		return CancelInFlightReply{}, err
	}
	if number(reply[0]) < 0 {
		return CancelInFlightReply{}, fmt.Errorf("unexpected number of batches %v of cancelinflight.lua", reply[0])
	}
	return CancelInFlightReply{int(number(reply[0])), number(reply[1]) == 1, number(reply[2])}, nil
}
