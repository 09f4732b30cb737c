package scan

import "slices"

// Present says what omitempty asks of a value of type t.
type Present int

// The questions omitempty may ask.
const (
	Always     Present = iota // it is never empty
	NotZero                   // compare with the zero value of Basic
	HasLen                    // its length is not zero
	NotNil                    // it is not nil
	AskIsZero                 // its IsZero says no
	NotNilZero                // it is not nil and its IsZero says no
	AnyField                  // one of its fields is present
	Never                     // it is always empty
)

// Present returns the question for a value of type t, as msgpack/v5 asks it.
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
		return HasLen // only slices and maps come here
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
