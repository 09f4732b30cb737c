package codec

import (
	"cmp"
	"iter"
	"slices"
)

// AppendSliceHeader appends the header of an array of len(s) elements to b, or nil if
// s is nil. The caller appends the elements.
func AppendSliceHeader[E any](b []byte, s []E) []byte {
	if s == nil {
		return AppendNil(b)
	}
	return AppendArrayLen(b, len(s))
}

// AppendMapHeader appends the header of a map of len(m) pairs to b, or nil if m is
// nil. The caller appends each key and its value.
func AppendMapHeader[K comparable, V any](b []byte, m map[K]V) []byte {
	if m == nil {
		return AppendNil(b)
	}
	return AppendMapLen(b, len(m))
}

// Sorted yields the pairs of m ordered by key, so that equal maps have equal
// encodings.
func Sorted[K cmp.Ordered, V any](m map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		var few [16]K // on the stack: most maps are small
		keys := few[:0]
		for k := range m {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}

// AppendBytesOf is AppendBytes for slices of a named byte type.
func AppendBytesOf[E ~byte](b []byte, v []E) []byte {
	if v == nil {
		return AppendNil(b)
	}
	b = appendBytesLen(b, len(v))
	for _, e := range v {
		b = append(b, byte(e))
	}
	return b
}

// BytesOf is [Reader.Bytes] for slices of a named byte type.
func BytesOf[E ~byte](r *Reader) []E {
	if r.Nil() {
		return nil
	}
	b := r.raw()
	if r.err != nil {
		return nil
	}
	r.copied(len(b))
	v := make([]E, len(b))
	for i, c := range b {
		v[i] = E(c)
	}
	return v
}

// BytesIntoOf is [Reader.BytesInto] for arrays of a named byte type.
func BytesIntoOf[E ~byte](r *Reader, dst []E) {
	at := r.pos
	v := BytesOf[E](r)
	switch {
	case r.err != nil:
	case len(v) != len(dst):
		r.pos = at
		r.failf("%d bytes where %d were expected", len(v), len(dst))
	default:
		copy(dst, v)
	}
}

// ReadSlice reads an array's header and sets s to an empty slice with room for its
// elements, or to nil. It returns how many elements follow:
//
//	for n := codec.ReadSlice(r, &s); n > 0 && codec.Room(r, &s, n); n-- {
//		s = append(s, r.Int())
//	}
func ReadSlice[S ~[]E, E any](r *Reader, s *S) int {
	if r.Nil() {
		*s = nil
		return 0
	}
	n := r.ArrayLen()
	if r.err == nil {
		*s = make(S, 0, prealloc[E](r, n))
	}
	return n
}

// Next appends a zero element to s and returns a pointer to it.
func Next[S ~[]E, E any](s *S) *E {
	var e E
	*s = append(*s, e)
	return &(*s)[len(*s)-1]
}

// ReadArray reads the header of an array of n elements. Any other number is an error.
// The caller reads the elements.
func (r *Reader) ReadArray(n int) {
	at := r.pos
	if got := r.ArrayLen(); r.err == nil && got != n {
		r.pos = at
		r.failf("%d elements where %d were expected", got, n)
	}
}

// ReadMap reads a map's header and sets m to an empty map with room for its pairs, or
// to nil. It returns how many pairs follow:
//
//	for n := codec.ReadMap(r, &m); n > 0 && r.More(); n-- {
//		k := codec.NewKey(r, m, r.String())
//		m[k] = r.Int()
//	}
func ReadMap[M ~map[K]V, K comparable, V any](r *Reader, m *M) int {
	if r.Nil() {
		*m = nil
		return 0
	}
	n := r.MapLen()
	if r.err == nil {
		*m = make(M, countMap[K, V](r, n))
	}
	return n
}

// NewKey returns the key k that was just read. If m has it already, the reader fails.
func NewKey[M ~map[K]V, K comparable, V any](r *Reader, m M, k K) K {
	if _, twice := m[k]; twice {
		r.quoting("a key is repeated", "the key %v is repeated", k)
	}
	return k
}
