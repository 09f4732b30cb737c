package codec

import "fmt"

// Error is a decoding error: the bytes are truncated, of another type, out of range,
// or beyond a limit.
type Error struct {
	Offset  int    // offset in the reader's bytes
	Message string // expected and found
	plain   string // Message without quoted input; "" if it quotes none
}

func (e *Error) Error() string { return fmt.Sprintf("msgpack offset %d: %s", e.Offset, e.Message) }

// Plain returns the error without quoted input: without a repeated key, or the
// message of a type's own method about a value.
func (e *Error) Plain() *Error {
	if e.plain == "" {
		return e
	}
	return &Error{Offset: e.Offset, Message: e.plain}
}
