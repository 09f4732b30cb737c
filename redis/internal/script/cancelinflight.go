package script

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
