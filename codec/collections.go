package codec

import (
	"cmp"
	"iter"
	"slices"
)

// AppendSliceHeader appends the header of an array of s's elements to b, or
// nil for a nil slice; the elements follow.
func AppendSliceHeader[E any](b []byte, s []E) []byte {
	if s == nil {
		return AppendNil(b)
	}
	return AppendArrayLen(b, len(s))
}

// AppendMapHeader appends the header of a map of m's pairs to b, or nil for a
// nil map; keys and values follow in turns.
func AppendMapHeader[K comparable, V any](b []byte, m map[K]V) []byte {
	if m == nil {
		return AppendNil(b)
	}
	return AppendMapLen(b, len(m))
}

// Sorted yields m's pairs in the order of their keys, so that equal maps are
// written alike.
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

// ReadSlice reads the header of an array and makes s, empty, for its elements,
// or sets it to nil. It returns how many elements follow, for a loop that
// appends each:
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

// Next appends a zero element to s and points to it.
func Next[S ~[]E, E any](s *S) *E {
	var e E
	*s = append(*s, e)
	return &(*s)[len(*s)-1]
}

// ReadArray reads the header of an array of n elements, which are to follow.
// Another number of elements is an error.
func (r *Reader) ReadArray(n int) {
	at := r.pos
	if got := r.ArrayLen(); r.err == nil && got != n {
		r.pos = at
		r.failf("%d elements where %d were expected", got, n)
	}
}

// ReadMap reads the header of a map and makes m, empty, for its pairs, or sets
// it to nil. It returns how many pairs follow, for a loop that sets each:
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

// NewKey returns k, the key just read. One that m has already fails the reader.
func NewKey[M ~map[K]V, K comparable, V any](r *Reader, m M, k K) K {
	if _, twice := m[k]; twice {
		r.quoting("a key stands twice", "the key %v stands twice", k)
	}
	return k
}
