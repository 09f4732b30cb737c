package codec

// Kind is what a value is on the wire.
type Kind int

// The kinds of value.
const (
	KindNone Kind = iota // no value: the bytes end, or are no MessagePack
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

// String names the kind with its article, as errors do.
func (k Kind) String() string {
	names := [...]string{
		"an invalid byte", "nil", "a bool", "an integer", "a float", "a string", "binary", "an array", "a map", "an extension",
	}
	if k < 0 || int(k) >= len(names) {
		k = KindNone
	}
	return names[k]
}

// Kind returns what the next value is, without reading it.
func (r *Reader) Kind() Kind {
	if r.pos >= len(r.buf) {
		return KindNone
	}
	return kindOf(r.buf[r.pos])
}
