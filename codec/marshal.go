package codec

import (
	"bytes"
	"encoding"
	"fmt"
	"math"
	"strings"

	"github.com/vmihailenco/msgpack/v5"
)

// AppendCustom appends v to b as its EncodeMsgpack writes it.
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

// AppendMarshaler appends v to b as its MarshalMsgpack returns it.
func AppendMarshaler(b []byte, v msgpack.Marshaler) ([]byte, error) {
	data, err := v.MarshalMsgpack()
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return appendWhole(b, data, v)
}

// appendWhole appends what a type wrote of itself, once it is one value: less
// or more would be taken for its neighbours.
func appendWhole(b, data []byte, v any) ([]byte, error) {
	r := NewReader(data)
	r.Skip()
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("encode %T: it did not write one value: %w", v, err)
	}
	return append(b, data...), nil
}

// AppendBinary appends v to b as the binary that its MarshalBinary returns.
func AppendBinary(b []byte, v encoding.BinaryMarshaler) ([]byte, error) {
	data, err := v.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return AppendBytes(b, data), nil
}

// BinaryAppender marshals itself with either of two methods, into the same
// bytes.
type BinaryAppender interface {
	encoding.BinaryMarshaler
	encoding.BinaryAppender
}

// AppendBinaryInPlace is [AppendBinary] without the copy in between.
func AppendBinaryInPlace(b []byte, v BinaryAppender) ([]byte, error) {
	const room = 2 // for the header of what is short
	start := len(b)
	out, err := v.AppendBinary(append(b, codeBin8, 0))
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	n := len(out) - start - room
	if n <= 0 || n > math.MaxUint8 {
		// Only MarshalBinary tells nil from nothing, and long headers are larger.
		return AppendBinary(b, v)
	}
	out[start+1] = byte(n)
	return out, nil
}

// AppendText appends v to b as the text that its MarshalText returns, in the
// form of binary as msgpack/v5 does.
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

// ReadCustom reads the next value with v's DecodeMsgpack, which is given that
// value only; nil sets the zero value.
func ReadCustom[T any, P interface {
	*T
	msgpack.CustomDecoder
}](r *Reader, v P) {
	readWhole(r, v, func(data []byte) error { return v.DecodeMsgpack(r.decoderOf(data)) })
}

// ReadMarshaler reads the next value with v's UnmarshalMsgpack; nil sets the
// zero value.
func ReadMarshaler[T any, P interface {
	*T
	msgpack.Unmarshaler
}](r *Reader, v P) {
	readWhole(r, v, func(data []byte) error { return v.UnmarshalMsgpack(bytes.Clone(data)) })
}

// decoder is one of msgpack/v5's with what it reads from.
type decoder struct {
	in  bytes.Reader
	dec *msgpack.Decoder
}

// decoderOf returns a decoder of data. It is the reader's, used for one value
// after the other.
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

// readWhole hands the next value's bytes to decode. They were skipped first,
// so what they declare is really there and not nested deeper than MaxDepth.
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

// ReadBinary reads binary with v's UnmarshalBinary; nil sets the zero value.
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

// ReadText reads text, a string or binary, with v's UnmarshalText; nil sets
// the zero value.
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

// whole returns the bytes of binary or text, or tells that it is nil. They are
// the reader's: unmarshalers copy what they keep.
func (r *Reader) whole() (data []byte, isNil bool) {
	if r.Nil() {
		return nil, true
	}
	return r.raw(), false
}

// check fails the reader, at the value that began at the offset at, if its own
// method returned an error.
func (r *Reader) check(at int, v any, err error) {
	if err != nil {
		r.pos = at
		name := typeName(v)
		r.quoting(name+" refuses this value", "decode %s: %s", name, err)
	}
}

func typeName(v any) string { return strings.TrimPrefix(fmt.Sprintf("%T", v), "*") }
