package jsonform

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/taskgen/taskgen/codec"
)

// escapeKey is the only key of an object that has MessagePack as base64.
const escapeKey = "$msgpack"

// own reads a value of a type that marshals itself.
func (e *encoder) own(n *node) {
	switch n.Method {
	case "text":
		if e.peek() != '"' {
			e.mismatch(n)
			return
		}
		if text, ok := e.str(); ok {
			e.out = codec.AppendBytes(e.out, text)
		}
	case "binary":
		if data, _, ok := e.base64(n); ok {
			e.out = codec.AppendBytes(e.out, data)
		}
	default:
		e.whole()
	}
}

// whole reads JSON of any kind as MessagePack, which no reader refuses.
func (e *encoder) whole() {
	start, at := len(e.out), e.pos
	e.any(0)
	if !e.alive() || len(e.errs) > 0 {
		return
	}
	r := codec.NewReader(e.out[start:])
	r.Skip()
	if err := r.Done(); err != nil {
		e.add(at, Limit, fmt.Sprintf("at most %d levels", codec.MaxDepth), "more")
	}
}

// any reads JSON of any kind. depth is that of arrays and objects around it.
func (e *encoder) any(depth int) {
	if !e.alive() || !e.count() {
		return
	}
	if depth > codec.MaxDepth {
		e.stop(Limit, fmt.Sprintf("at most %d levels", codec.MaxDepth), "more")
		return
	}
	switch c := e.peek(); {
	case c == '"':
		if text, ok := e.str(); ok {
			e.out = codec.AppendString(e.out, string(text))
		}
	case c == '-', c >= '0' && c <= '9':
		e.anyNumber()
	case c == 't' && e.word("true"):
		e.out = codec.AppendBool(e.out, true)
	case c == 'f' && e.word("false"):
		e.out = codec.AppendBool(e.out, false)
	case c == 'n' && e.word("null"):
		e.out = codec.AppendNil(e.out)
	case c == '[':
		start, count := len(e.out), 0
		for more := e.open(']'); more && e.alive(); more = e.next(']') {
			e.within(step{index: count}, func() { e.any(depth + 1) })
			count++
		}
		e.header(start, count, codec.AppendArrayLen)
	case c == '{':
		e.anyObject(depth)
	default:
		e.fail("a value", e.here())
		e.alive()
	}
}

func (e *encoder) anyNumber() {
	at := e.pos
	number, ok := e.number()
	if !ok {
		return
	}
	if strings.ContainsAny(number, ".eE") {
		v, err := strconv.ParseFloat(number, 64)
		if err != nil {
			e.refuseAs(at, Range, "a number that a 64-bit float can hold", shorten(number))
		}
		e.out = codec.AppendFloat64(e.out, v)
		return
	}
	v, ok := parseInteger(minusNoZero(number), math.MinInt64, math.MaxUint64)
	if !ok {
		e.refuseAs(at, Range, wantInteger(math.MinInt64, math.MaxUint64), shorten(number))
	}
	e.out = appendInteger(e.out, v)
}

// anyObject reads an object, whose keys keep their order, or MessagePack in one.
func (e *encoder) anyObject(depth int) {
	start, count := len(e.out), 0
	seen := map[string]bool{}
	for more := e.open('}'); more && e.alive(); more = e.next('}') {
		at := e.pos
		text, ok := e.str()
		if !ok || !e.expect(':', "a colon") {
			break
		}
		key := string(text)
		e.within(step{key: key, index: -1}, func() {
			if seen[key] {
				e.add(at, Duplicate, "", "")
			}
			if key == escapeKey && count == 0 {
				e.raw()
				return
			}
			e.out = codec.AppendString(e.out, key)
			e.any(depth + 1)
		})
		seen[key] = true
		count++
	}
	switch {
	case !e.alive():
	case !seen[escapeKey]:
		e.header(start, count, codec.AppendMapLen)
	case count > 1:
		e.add(e.pos, Type, "no key beside "+escapeKey, "more")
	}
}

// raw reads MessagePack in base64.
func (e *encoder) raw() {
	const want = "one MessagePack value in base64"
	if e.peek() != '"' {
		e.mismatchAs(want)
		return
	}
	at := e.pos
	text, ok := e.str()
	if !ok {
		return
	}
	data := make([]byte, strict.DecodedLen(len(text)))
	size, err := strict.Decode(data, text)
	r := codec.NewReader(data[:size])
	r.Skip()
	if err != nil || r.Done() != nil {
		e.refuseAs(at, Format, want, e.quote(string(text)))
		return
	}
	e.out = append(e.out, data[:size]...)
}

// appendAny appends the JSON of one MessagePack value, which is complete.
func appendAny(b, value []byte) []byte {
	start := len(b)
	r := codec.NewReader(value)
	if b, ok := appendNatural(b, value, r); ok {
		return b
	}
	b = append(b[:start], `{"`+escapeKey+`":"`...)
	return append(strict.AppendEncode(b, value), `"}`...)
}

// appendNatural appends the JSON of the next value of r, whose bytes are those of value. It
// reports false if the JSON would not be read as the same bytes.
func appendNatural(b, value []byte, r *codec.Reader) ([]byte, bool) {
	start := r.Offset()
	same := func(form []byte) bool { return bytes.Equal(form, value[start:r.Offset()]) }
	switch r.Kind() {
	case codec.KindNil:
		r.Nil()
		return append(b, "null"...), true
	case codec.KindBool:
		return strconv.AppendBool(b, r.Bool()), true
	case codec.KindInteger:
		raw := r.Raw()
		v := readInteger(raw)
		return appendIntegerText(b, v), v.safe() && same(appendInteger(nil, v))
	case codec.KindFloat:
		v := r.Float64()
		return appendPointed(b, v), !math.IsNaN(v) && !math.IsInf(v, 0) && same(codec.AppendFloat64(nil, v))
	case codec.KindString:
		text := r.Text()
		return appendString(b, text), utf8.Valid(text) && same(codec.AppendString(nil, string(text)))
	case codec.KindArray:
		n := r.ArrayLen()
		if !same(codec.AppendArrayLen(nil, n)) {
			return b, false
		}
		b = append(b, '[')
		for i := range n {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendAny(b, r.Raw())
		}
		return append(b, ']'), true
	case codec.KindMap:
		n := r.MapLen()
		if !same(codec.AppendMapLen(nil, n)) {
			return b, false
		}
		return appendMembers(b, value, r, n)
	}
	return b, false
}

// appendMembers is appendNatural for the pairs of a map.
func appendMembers(b, value []byte, r *codec.Reader, n int) ([]byte, bool) {
	seen := map[string]bool{}
	b = append(b, '{')
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		if r.Kind() != codec.KindString {
			return b, false
		}
		var ok bool
		at := r.Offset()
		if b, ok = appendNatural(b, value, r); !ok {
			return b, false
		}
		key := string(codec.NewReader(value[at:]).Text())
		if seen[key] || key == escapeKey {
			return b, false
		}
		seen[key] = true
		b = append(b, ':')
		b = appendAny(b, r.Raw())
	}
	return append(b, '}'), true
}

// readInteger returns an integer of any size.
func readInteger(raw []byte) integer {
	r := codec.NewReader(raw)
	if v := r.Int64(); r.More() {
		return integer{uint64(v), v < 0}
	}
	return integer{bits: codec.NewReader(raw).Uint64()}
}

// safe reports whether every JSON reader tells the integer from its neighbours.
func (v integer) safe() bool {
	if v.negative {
		return int64(v.bits) >= -maxSafe
	}
	return v.bits <= maxSafe
}

func appendIntegerText(b []byte, v integer) []byte {
	if v.negative {
		return strconv.AppendInt(b, int64(v.bits), 10)
	}
	return strconv.AppendUint(b, v.bits, 10)
}

// appendPointed appends a float with a point or an exponent.
func appendPointed(b []byte, v float64) []byte {
	start := len(b)
	b = appendFloatText(b, v, 64)
	if !bytes.ContainsAny(b[start:], ".e") {
		b = append(b, ".0"...)
	}
	return b
}

// appendFloatText appends the shortest text that is read as the same float.
func appendFloatText(b []byte, v float64, size int) []byte {
	const small, large = 1e-6, 1e21
	format := byte('f')
	if abs := math.Abs(v); abs != 0 && (abs < small || abs >= large) {
		format = 'e'
	}
	return strconv.AppendFloat(b, v, format, -1, size)
}
