package jsonform

import (
	"fmt"
	"strings"
)

// Problem is what is wrong with a value.
type Problem string

// The problems.
const (
	Syntax    Problem = "syntax"    // no JSON; nothing behind it was read
	Type      Problem = "type"      // another type of JSON
	Range     Problem = "range"     // a number or a length that the type cannot have
	Format    Problem = "format"    // a string that is no time, duration, base64 or number
	Unknown   Problem = "unknown"   // no such field
	Missing   Problem = "missing"   // a required field
	Duplicate Problem = "duplicate" // a field or key that occurs twice
	Limit     Problem = "limit"     // larger or deeper than allowed; nothing behind it was read
	Secret    Problem = "secret"    // the mask of a secret instead of its value
	NoForm    Problem = "no form"   // on output: a value that JSON cannot hold
	Payload   Problem = "payload"   // on output: bytes that do not fit the wire form
)

// Error is one error in a JSON text, or in a payload.
type Error struct {
	Pointer  string // RFC 6901: the place in the JSON; "" is the whole
	Problem  Problem
	Expected string // such as "an integer from 0 to 255"
	Found    string // such as "300"; of a secret parameter, never its value
	Offset   int    // in the JSON read, or in the payload
}

// Error returns the place, what was expected and what was found.
func (e *Error) Error() string {
	at := e.Pointer
	if at == "" {
		at = "the whole"
	}
	return fmt.Sprintf("%s: %s", at, e.Message())
}

// Message returns the error without its place.
func (e *Error) Message() string {
	switch e.Problem {
	case Unknown:
		return "no such field; " + e.Expected
	case Missing:
		return "this is missing: " + e.Expected
	case Duplicate:
		return "this occurs twice"
	case Secret:
		return "*** stands for a secret; give its value"
	}
	return fmt.Sprintf("expected %s, found %s", e.Expected, e.Found)
}

// Errors are all errors of a JSON text, in its order, or the first ones.
type Errors []*Error

// Error returns all of them.
func (e Errors) Error() string {
	texts := make([]string, len(e))
	for i, one := range e {
		texts[i] = one.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns each.
func (e Errors) Unwrap() []error {
	list := make([]error, len(e))
	for i, one := range e {
		list[i] = one
	}
	return list
}

// step is a part of a JSON Pointer: a key, or an index if it has no key.
type step struct {
	key   string
	index int // -1: a key
}

// maxKey is how many bytes of a key stand in a pointer.
const maxKey = 256

// pointer returns the JSON Pointer of a path. It cuts keys that no parameter has.
func pointer(path []step) string {
	var b strings.Builder
	for _, s := range path {
		b.WriteByte('/')
		if s.index >= 0 {
			fmt.Fprint(&b, s.index)
			continue
		}
		key := s.key
		if len(key) > maxKey {
			key = key[:maxKey] + "…" // or twenty errors in it were twenty times as long
		}
		b.WriteString(escaper.Replace(strings.ToValidUTF8(key, "\uFFFD")))
	}
	return b.String()
}

var escaper = strings.NewReplacer("~", "~0", "/", "~1")

// shorten returns a text of at most some bytes, for an error.
func shorten(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
