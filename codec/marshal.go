package codec

import (
	"bytes"
	"encoding"
	"fmt"
	"math"
	"strings"

	"github.com/vmihailenco/msgpack/v5"
)

// AppendCustom appends v to b by its EncodeMsgpack method.
func AppendCustom(b []byte, v msgpack.CustomEncoder) ([]byte, error) {
	var buf bytes.Buffer
	enc := msgpack.NewEncoder(&buf)
	enc.UseCompactInts(true)
	enc.SetSortMapKeys(true)
	if err := v.EncodeMsgpack(enc); err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return appendWhole(b, buf.Bytes(), v)
}

// AppendMarshaler appends v to b by its MarshalMsgpack method.
func AppendMarshaler(b []byte, v msgpack.Marshaler) ([]byte, error) {
	data, err := v.MarshalMsgpack()
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return appendWhole(b, data, v)
}

// appendWhole appends the output of a type's own method after checking that it is
// exactly one value.
func appendWhole(b, data []byte, v any) ([]byte, error) {
	r := NewReader(data)
	r.Skip()
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("encode %T: it did not write one value: %w", v, err)
	}
	return append(b, data...), nil
}

// AppendBinary appends v to b as binary, by its MarshalBinary method.
func AppendBinary(b []byte, v encoding.BinaryMarshaler) ([]byte, error) {
	data, err := v.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return AppendBytes(b, data), nil
}

// BinaryAppender has two methods that encode it to the same bytes.
type BinaryAppender interface {
	encoding.BinaryMarshaler
	encoding.BinaryAppender
}

// AppendBinaryInPlace is [AppendBinary] without an intermediate copy.
func AppendBinaryInPlace(b []byte, v BinaryAppender) ([]byte, error) {
	const room = 2 // for a short header
	start := len(b)
	out, err := v.AppendBinary(append(b, codeBin8, 0))
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	n := len(out) - start - room
	if n <= 0 || n > math.MaxUint8 {
		// Only MarshalBinary distinguishes nil from empty, and a longer header does
		// not fit.
		return AppendBinary(b, v)
	}
	out[start+1] = byte(n)
	return out, nil
}

// AppendText appends v to b by its MarshalText method, as binary like msgpack/v5.
func AppendText(b []byte, v encoding.TextMarshaler) ([]byte, error) {
	data, err := v.MarshalText()
	if err == nil {
		err = checkText(v, data)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return AppendBytes(b, data), nil
}

// ReadCustom reads the next value by v's DecodeMsgpack method, which sees only that
// value. Nil sets the zero value.
func ReadCustom[T any, P interface {
	*T
	msgpack.CustomDecoder
}](r *Reader, v P) {
	readWhole(r, v, func(data []byte) error { return v.DecodeMsgpack(r.decoderOf(data)) })
}

// ReadMarshaler reads the next value by v's UnmarshalMsgpack method. Nil sets the
// zero value.
func ReadMarshaler[T any, P interface {
	*T
	msgpack.Unmarshaler
}](r *Reader, v P) {
	readWhole(r, v, func(data []byte) error { return v.UnmarshalMsgpack(bytes.Clone(data)) })
}

// decoder is a decoder of msgpack/v5 and its input.
type decoder struct {
	in  bytes.Reader
	dec *msgpack.Decoder
}

// decoderOf returns a decoder of data. The reader reuses it for all values.
func (r *Reader) decoderOf(data []byte) *msgpack.Decoder {
	if r.dec == nil {
		r.dec = new(decoder)
		r.dec.in.Reset(data)
		r.dec.dec = msgpack.NewDecoder(&r.dec.in)
		return r.dec.dec
	}
	r.dec.in.Reset(data)
	r.dec.dec.Reset(&r.dec.in)
	return r.dec.dec
}

// readWhole passes the next value's bytes to decode. It skips them first, so they are
// complete and not nested deeper than MaxDepth.
func readWhole[T any](r *Reader, v *T, decode func(data []byte) error) {
	if r.Nil() {
		*v = *new(T)
		return
	}
	at := r.pos
	data := r.Raw()
	if r.err != nil || !r.own(len(data), decoded) {
		return
	}
	r.check(at, v, decode(data))
}

// ReadBinary reads binary by v's UnmarshalBinary method. Nil sets the zero value.
func ReadBinary[T any, P interface {
	*T
	encoding.BinaryUnmarshaler
}](r *Reader, v P) {
	at := r.pos
	data, isNil := r.whole()
	switch {
	case r.err != nil:
	case isNil:
		*v = *new(T)
	case r.own(len(data), partsOf(v)):
		r.check(at, v, v.UnmarshalBinary(data))
	}
}

// ReadText reads text, a string or binary, by v's UnmarshalText method. Nil sets the
// zero value.
func ReadText[T any, P interface {
	*T
	encoding.TextUnmarshaler
}](r *Reader, v P) {
	at := r.pos
	data, isNil := r.whole()
	switch {
	case r.err != nil:
	case isNil:
		*v = *new(T)
	case r.ownText(at, v, data):
		r.check(at, v, v.UnmarshalText(data))
	}
}

// whole returns the bytes of binary or text, or reports nil. The bytes belong to the
// reader; unmarshalers copy what they keep.
func (r *Reader) whole() (data []byte, isNil bool) {
	if r.Nil() {
		return nil, true
	}
	return r.raw(), false
}

// check sets the reader's error at offset at if a type's own method returned one.
func (r *Reader) check(at int, v any, err error) {
	if err != nil {
		r.pos = at
		name := typeName(v)
		r.quoting(name+" refuses this value", "decode %s: %s", name, err)
	}
}

func typeName(v any) string { return strings.TrimPrefix(fmt.Sprintf("%T", v), "*") }
