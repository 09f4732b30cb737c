package codec

import "fmt"

// Error tells where and why bytes could not be read as what was expected:
// truncated, of another type, out of range, or beyond a limit.
type Error struct {
	Offset  int    // in the bytes given to the reader
	Message string // what was expected and what was found
	plain   string // Message without what it quotes; "" when it quotes nothing
}

func (e *Error) Error() string { return fmt.Sprintf("msgpack offset %d: %s", e.Offset, e.Message) }

// Plain is the error without what it quotes of the bytes: a key that stands
// twice, or what a type's own method says of a value that it refused.
func (e *Error) Plain() *Error {
	if e.plain == "" {
		return e
	}
	return &Error{Offset: e.Offset, Message: e.plain}
}
