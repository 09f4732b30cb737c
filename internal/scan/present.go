package scan

import "slices"

// Present is the test that omitempty makes of a value.
type Present int

// The tests of omitempty.
const (
	Always     Present = iota // it is never empty
	NotZero                   // compare with the zero value of Basic
	HasLen                    // its length is not zero
	NotNil                    // it is not nil
	AskIsZero                 // its IsZero returns false
	NotNilZero                // it is not nil and its IsZero returns false
	AnyField                  // one of its fields is present
	Never                     // it is always empty
)

// Present returns the test for a value of type t, as msgpack/v5 makes it.
func (t *Type) Present() Present {
	switch {
	case t.IsZero && t.Kind == Pointer:
		return NotNilZero
	case t.IsZero && (t.Kind == Slice || t.Kind == Map || t.Kind == Bytes || t.NilIs):
		return NotNilZero
	case t.IsZero:
		return AskIsZero
	}
	switch t.Kind {
	case Basic:
		return NotZero
	case Bytes, Slice, Map:
		return HasLen
	case Array, ByteArray:
		if t.Len == 0 {
			return Never
		}
		return Always
	case Pointer:
		return NotNil
	case Struct:
		return t.presentStruct()
	case Custom:
		return HasLen // only slices and maps reach this
	}
	return Always
}

func (t *Type) presentStruct() Present {
	if len(t.Fields) == 0 {
		return Never
	}
	if slices.ContainsFunc(t.Fields, func(f *Field) bool { return !f.OmitEmpty }) {
		return Always
	}
	return AnyField
}
