package codec

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"unsafe"
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
		if len(m) == 0 {
			return
		}
		keys := slices.AppendSeq(make([]K, 0, len(m)), maps.Keys(m))
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

// ReadSlice sets s to an array's elements, each read by read, or to nil.
func ReadSlice[S ~[]E, E any](r *Reader, s *S, read func(*Reader, *E)) {
	if r.Nil() {
		*s = nil
		return
	}
	n := r.ArrayLen()
	if r.err != nil {
		return
	}
	elems := make(S, 0, prealloc[E](n))
	for ; n > 0 && r.More(); n-- {
		var e E
		elems = append(elems, e)
		read(r, &elems[len(elems)-1])
	}
	*s = elems
}

// ReadArray sets s, all of an array's elements, each read by read. Another
// number of elements is an error.
func ReadArray[E any](r *Reader, s []E, read func(*Reader, *E)) {
	at := r.pos
	n := r.ArrayLen()
	if r.err == nil && n != len(s) {
		r.pos = at
		r.failf("%d elements where %d were expected", n, len(s))
	}
	for i := 0; i < len(s) && r.More(); i++ {
		read(r, &s[i])
	}
}

// ReadMap sets m to a map's pairs, read by key and value, or to nil. A key
// that stands twice is an error.
func ReadMap[M ~map[K]V, K comparable, V any](r *Reader, m *M, key func(*Reader) K, value func(*Reader, *V)) {
	if r.Nil() {
		*m = nil
		return
	}
	n := r.MapLen()
	if r.err != nil {
		return
	}
	pairs := make(M, prealloc[struct {
		key   K
		value V
	}](n))
	for ; n > 0 && r.More(); n-- {
		at := r.pos
		k := key(r)
		if _, twice := pairs[k]; twice && r.err == nil {
			r.pos = at
			r.failf("the key %v stands twice", k)
		}
		var v V
		value(r, &v)
		if r.err == nil {
			pairs[k] = v
		}
	}
	*m = pairs
}

// ReadPointer sets p to a new value read by read, or to nil.
func ReadPointer[P ~*E, E any](r *Reader, p *P, read func(*Reader, *E)) {
	if r.Nil() {
		*p = nil
		return
	}
	e := new(E)
	read(r, e)
	*p = e
}

// preallocBytes bounds what is made for elements that were only declared.
const preallocBytes = 64 << 10

// prealloc is [Prealloc] for elements of type E, of which one byte of input may
// stand for many.
func prealloc[E any](n int) int {
	var e E
	size := int(unsafe.Sizeof(e))
	return min(Prealloc(n), preallocBytes/max(size, 1))
}
