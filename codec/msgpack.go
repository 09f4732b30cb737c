package codec

import (
	"fmt"
	"math"

	"github.com/vmihailenco/msgpack/v5"
)

// Appender appends its own encoding. Generated parameter types implement it.
type Appender interface {
	AppendMsgpack(b []byte) ([]byte, error)
}

// EncodeTo writes v to a msgpack/v5 encoder. A generated EncodeMsgpack method calls
// it.
func EncodeTo(enc *msgpack.Encoder, v Appender) error {
	b, err := v.AppendMsgpack(nil)
	if err != nil {
		return err
	}
	_, err = enc.Writer().Write(b)
	return err
}

// Filler is implemented by generated types for parameters.
type Filler interface {
	ReadMsgpack(r *Reader)
}

// DecodeFrom reads one value from a msgpack/v5 decoder, and has v read it. A generated
// DecodeMsgpack method calls it. It does not recurse, and allocates only for bytes that
// are there.
func DecodeFrom(dec *msgpack.Decoder, v Filler) error {
	b, err := copyValue(dec)
	if err != nil {
		return err
	}
	r := NewReader(b)
	v.ReadMsgpack(r)
	return r.Done()
}

// copyValue copies the next value's bytes from dec.
func copyValue(dec *msgpack.Decoder) ([]byte, error) {
	var (
		b    []byte
		open []int // values left in each open collection
	)
	for {
		head, more, values, err := copyHead(dec)
		if err != nil {
			return nil, err
		}
		b = append(b, head...)
		if b, err = copyBytes(dec, b, more); err != nil {
			return nil, err
		}
		if values > 0 {
			if len(open) == MaxDepth {
				return nil, &Error{Offset: len(b), Message: fmt.Sprintf("nested more than %d deep", MaxDepth)}
			}
			open = append(open, values)
			continue
		}
		for len(open) > 0 {
			last := len(open) - 1
			open[last]--
			if open[last] > 0 {
				break
			}
			open = open[:last]
		}
		if len(open) == 0 {
			return b, nil
		}
	}
}

// copyHead copies a value's first byte and length from dec, and returns them with the
// number of bytes and nested values that follow.
func copyHead(dec *msgpack.Decoder) (head []byte, more, values int, err error) {
	var buf [5]byte
	if err := dec.ReadFull(buf[:1]); err != nil {
		return nil, 0, 0, fmt.Errorf("read a value: %w", err)
	}
	c := buf[0]
	size := lengthSize(c)
	if err := dec.ReadFull(buf[1 : 1+size]); err != nil {
		return nil, 0, 0, fmt.Errorf("read a value's length: %w", err)
	}
	var length uint64
	for _, x := range buf[1 : 1+size] {
		length = length<<8 | uint64(x)
	}
	// Half of the largest int: on 32-bit systems, nothing is longer.
	n := int(min(length, math.MaxInt/2))
	switch {
	case c < codeFixMap, c >= 0xe0, c == codeNil, c == codeFalse, c == codeTrue:
	case c < codeFixArray:
		values = 2 * int(c&0x0f)
	case c < codeFixStr:
		values = int(c & 0x0f)
	case c < codeNil:
		more = int(c & 0x1f)
	case c == codeMap16, c == codeMap32:
		values = 2 * n
	case c == codeArray16, c == codeArray32:
		values = n
	case c == codeFloat32:
		more = 4
	case c == codeFloat64:
		more = 8
	case c >= codeUint8 && c <= codeInt64:
		more = 1 << ((c - codeUint8) & 3)
	case c >= codeFixExt1 && c <= codeFixExt16:
		more = 1 + 1<<(c-codeFixExt1)
	case c >= codeExt8 && c <= codeExt32:
		more = 1 + n
	case size > 0:
		more = n
	default:
		return nil, 0, 0, &Error{Message: codeName(c) + " where a value was expected"}
	}
	return buf[:1+size], more, values, nil
}

// lengthSize returns how many bytes of length follow the first byte c.
func lengthSize(c byte) int {
	switch {
	case c >= codeBin8 && c <= codeBin32:
		return 1 << (c - codeBin8)
	case c >= codeExt8 && c <= codeExt32:
		return 1 << (c - codeExt8)
	case c >= codeStr8 && c <= codeStr32:
		return 1 << (c - codeStr8)
	case c == codeArray16, c == codeMap16:
		return 2
	case c == codeArray32, c == codeMap32:
		return 4
	}
	return 0
}

// copyBytes appends the next n bytes of dec to b, in steps, because n is only
// declared.
func copyBytes(dec *msgpack.Decoder, b []byte, n int) ([]byte, error) {
	const step = 4096
	for n > 0 {
		m := min(n, step)
		b = append(b, make([]byte, m)...)
		if err := dec.ReadFull(b[len(b)-m:]); err != nil {
			return nil, fmt.Errorf("read a value's bytes: %w", err)
		}
		n -= m
	}
	return b, nil
}
