package codec

// Kind is the type of a value on the wire.
type Kind int

// The kinds of values.
const (
	KindNone Kind = iota // no value: the end, or not MessagePack
	KindNil
	KindBool
	KindInteger
	KindFloat
	KindString
	KindBinary
	KindArray
	KindMap
	KindExtension
)

// String returns the kind with its article, as in errors.
func (k Kind) String() string {
	names := [...]string{
		"an invalid byte", "nil", "a bool", "an integer", "a float", "a string", "binary", "an array", "a map", "an extension",
	}
	if k < 0 || int(k) >= len(names) {
		k = KindNone
	}
	return names[k]
}

// Kind returns the kind of the next value without reading it.
func (r *Reader) Kind() Kind {
	if r.pos >= len(r.buf) {
		return KindNone
	}
	return kindOf(r.buf[r.pos])
}
