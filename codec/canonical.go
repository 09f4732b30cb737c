package codec

import (
	"bytes"
	"math"
	"slices"
)

// AppendCanonical appends values to b so that equal values have equal bytes, whoever encoded
// them. Keys of policies are digests of these bytes:
//
//   - Integers, lengths and timestamps are as short as can be.
//   - A float is 64 bits wide. A whole one up to 2^53 is an integer, as languages that do not
//     tell the two apart write it: -0 is 0. All NaNs are one.
//   - Binary is a string, as a reader of binary reads both.
//   - An empty array, map or binary is nil.
//   - The pairs of maps, structs included, are in the order of the bytes of their keys.
//   - An extension other than a timestamp has a length of 32 bits.
//
// It returns an error if values has something else than whole values.
func AppendCanonical(b, values []byte) ([]byte, error) {
	r := NewReader(values)
	for r.err == nil && r.pos < len(values) {
		b = r.canonical(b)
	}
	return b, r.err
}

// canonical appends the next value.
func (r *Reader) canonical(b []byte) []byte {
	switch r.Kind() {
	case KindInteger:
		v, negative := r.integer("an integer")
		if negative {
			return AppendInt(b, int64(v))
		}
		return AppendUint(b, v)
	case KindFloat:
		return appendNumber(b, r.Float64())
	case KindString:
		return AppendString(b, string(r.text("a string")))
	case KindBinary:
		data := r.raw()
		if len(data) == 0 {
			return AppendNil(b)
		}
		return AppendString(b, string(data))
	case KindArray:
		return r.canonicalArray(b)
	case KindMap:
		return r.canonicalMap(b)
	case KindExtension:
		return r.canonicalExtension(b)
	}
	return append(b, r.Raw()...)
}

// appendNumber appends a float as an integer if it is whole and exact.
func appendNumber(b []byte, f float64) []byte {
	switch {
	case f == math.Trunc(f) && math.Abs(f) <= 1<<53:
		return AppendInt(b, int64(f))
	case f != f:
		return AppendFloat64(b, math.Float64frombits(0x7ff8<<48))
	}
	return AppendFloat64(b, f)
}

func (r *Reader) canonicalArray(b []byte) []byte {
	n := r.ArrayLen()
	if n == 0 {
		return AppendNil(b)
	}
	r.Enter()
	defer r.Leave()
	b = AppendArrayLen(b, n)
	for i := 0; i < n && r.err == nil; i++ {
		b = r.canonical(b)
	}
	return b
}

func (r *Reader) canonicalMap(b []byte) []byte {
	n := r.MapLen()
	if n == 0 {
		return AppendNil(b)
	}
	r.Enter()
	defer r.Leave()
	b = AppendMapLen(b, n)
	start, pairs := len(b), make([]pair, 0, n)
	sorted := true
	for i := 0; i < n && r.err == nil; i++ {
		p := pair{key: len(b)}
		b = r.canonical(b)
		p.value = len(b)
		if last := len(pairs) - 1; last >= 0 && bytes.Compare(b[pairs[last].key:pairs[last].value], b[p.key:p.value]) > 0 {
			sorted = false
		}
		pairs = append(pairs, p)
		b = r.canonical(b)
	}
	if sorted || r.err != nil {
		return b
	}
	return sortPairs(b, start, pairs)
}

// sortPairs sorts the pairs of a map, which are all of b from start on, by their keys.
func sortPairs(b []byte, start int, pairs []pair) []byte {
	written := bytes.Clone(b[start:])
	type span struct{ key, whole []byte }
	spans := make([]span, len(pairs))
	for i, p := range pairs {
		end := len(b)
		if i+1 < len(pairs) {
			end = pairs[i+1].key
		}
		spans[i] = span{written[p.key-start : p.value-start], written[p.key-start : end-start]}
	}
	slices.SortStableFunc(spans, func(x, y span) int { return bytes.Compare(x.key, y.key) })
	b = b[:start]
	for _, s := range spans {
		b = append(b, s.whole...)
	}
	return b
}

func (r *Reader) canonicalExtension(b []byte) []byte {
	at := r.pos
	kind, data := r.ext("an extension")
	if r.err != nil {
		return b
	}
	if kind == extTime && (len(data) == 4 || len(data) == 8 || len(data) == 12) {
		end := r.pos
		r.pos = at
		if t := r.Time(); r.err == nil {
			return AppendTime(b, t)
		}
		r.pos, r.err = end, nil // nanoseconds beyond a second: some other extension
	}
	b = append32(b, codeExt32, uint32(len(data)))
	return append(append(b, kind), data...)
}
