package codec

import (
	"bytes"
	"errors"
	"slices"
)

// Pairs orders the pairs of a map by the bytes of their keys, for keys that Go does not
// order:
//
//	pairs := codec.NewPairs(len(m))
//	for k, v := range m {
//		pairs.Key(b)
//		b = codec.AppendBool(b, k)
//		pairs.Value(b)
//		b = codec.AppendInt(b, v)
//	}
//	b, err = pairs.Sort(b)
type Pairs struct{ marks []pair }

// pair is where a key and its value begin in the output.
type pair struct{ key, value int }

// NewPairs returns the pairs of a map that has n.
func NewPairs(n int) Pairs { return Pairs{make([]pair, 0, n)} }

// Key notes that the next key is appended to b.
func (p *Pairs) Key(b []byte) { p.marks = append(p.marks, pair{key: len(b)}) }

// Value notes that the value of the last key is appended to b.
func (p *Pairs) Value(b []byte) { p.marks[len(p.marks)-1].value = len(b) }

// Sort orders the pairs, of which the last one ends b. It returns an error if two keys have
// the same bytes: a reader would refuse the second.
func (p *Pairs) Sort(b []byte) ([]byte, error) {
	if len(p.marks) < 2 {
		return b, nil
	}
	start := p.marks[0].key
	type span struct{ key, whole []byte }
	written := bytes.Clone(b[start:])
	spans := make([]span, len(p.marks))
	for i, m := range p.marks {
		end := len(b)
		if i+1 < len(p.marks) {
			end = p.marks[i+1].key
		}
		spans[i] = span{written[m.key-start : m.value-start], written[m.key-start : end-start]}
	}
	slices.SortFunc(spans, func(a, b span) int { return bytes.Compare(a.key, b.key) })
	b = b[:start]
	for i, s := range spans {
		if i > 0 && bytes.Equal(s.key, spans[i-1].key) {
			return nil, errors.New("encode map: two of its keys have the same encoding")
		}
		b = append(b, s.whole...)
	}
	return b, nil
}
