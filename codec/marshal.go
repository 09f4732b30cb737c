package codec

import (
	"bytes"
	"encoding"
	"fmt"

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

// AppendText appends v to b as the text that its MarshalText returns, in the
// form of binary as msgpack/v5 does.
func AppendText(b []byte, v encoding.TextMarshaler) ([]byte, error) {
	data, err := v.MarshalText()
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
	readWhole(r, v, func(data []byte) error {
		return v.DecodeMsgpack(msgpack.NewDecoder(bytes.NewReader(data)))
	})
}

// ReadMarshaler reads the next value with v's UnmarshalMsgpack; nil sets the
// zero value.
func ReadMarshaler[T any, P interface {
	*T
	msgpack.Unmarshaler
}](r *Reader, v P) {
	readWhole(r, v, func(data []byte) error { return v.UnmarshalMsgpack(bytes.Clone(data)) })
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
	if r.err != nil {
		return
	}
	if err := decode(data); err != nil {
		r.pos = at
		r.failf("decode %T: %s", *v, err)
	}
}

// ReadBinary reads binary with v's UnmarshalBinary; nil sets the zero value.
func ReadBinary[T any, P interface {
	*T
	encoding.BinaryUnmarshaler
}](r *Reader, v P) {
	readBytes(r, v, v.UnmarshalBinary)
}

// ReadText reads text, a string or binary, with v's UnmarshalText; nil sets
// the zero value.
func ReadText[T any, P interface {
	*T
	encoding.TextUnmarshaler
}](r *Reader, v P) {
	readBytes(r, v, v.UnmarshalText)
}

func readBytes[T any](r *Reader, v *T, decode func(data []byte) error) {
	if r.Nil() {
		*v = *new(T)
		return
	}
	at := r.pos
	data := r.Bytes()
	if r.err != nil {
		return
	}
	if err := decode(data); err != nil {
		r.pos = at
		r.failf("decode %T: %s", *v, err)
	}
}
