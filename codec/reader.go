package codec

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"
)

// Reader reads MessagePack values from a byte slice in order. After the first error,
// every method returns a zero value, so code that reads many values checks Err or
// Done once.
//
// A Reader may be used by one goroutine at a time.
type Reader struct {
	buf   []byte
	pos   int
	depth int
	keyAt int // offset of the last key
	ahead int // memory left for elements that are only declared
	limit int // limit of memory in bytes
	// memory is the unused part of limit.
	memory int
	dec    *decoder // for types with msgpack/v5's methods; nil until needed
	err    error
}

// NewReader returns a reader of b. It does not copy b, which must not change while it
// is read. Returned strings and byte slices are copies, except those of Key, Text,
// View and Raw.
func NewReader(b []byte) *Reader {
	memory := memoryFor(len(b))
	return &Reader{buf: b, ahead: declarable(len(b)), memory: usable(memory), limit: memory}
}

// Reset makes r a reader of b, like NewReader, so that it can be reused.
func (r *Reader) Reset(b []byte) {
	memory := memoryFor(len(b))
	*r = Reader{buf: b, ahead: declarable(len(b)), memory: usable(memory), limit: memory, dec: r.dec}
}

// Err returns the first error: an [*Error], or one passed to Fail.
func (r *Reader) Err() error { return r.err }

// Fail sets the reader's error, unless it has one or err is nil.
func (r *Reader) Fail(err error) {
	if r.err == nil && err != nil {
		r.err = err
		r.pos = len(r.buf)
	}
}

// Done returns the first error, or an error if bytes are left over or the memory
// limit is exceeded.
func (r *Reader) Done() error {
	if r.memory < 0 {
		r.exhausted()
	}
	if r.err == nil && r.pos < len(r.buf) {
		r.failf("%d bytes left over after the value", len(r.buf)-r.pos)
	}
	return r.err
}

// More reports whether the reader has no error. It is a condition of loops over
// elements.
func (r *Reader) More() bool { return r.err == nil }

// Offset returns the offset of the next value.
func (r *Reader) Offset() int { return r.pos }

func (r *Reader) failf(format string, args ...any) {
	if r.err == nil {
		r.err = &Error{Offset: r.pos, Message: fmt.Sprintf(format, args...)}
	}
	r.pos = len(r.buf)
}

// quoting sets an error with two messages: one that quotes the input and one that
// does not.
func (r *Reader) quoting(plain, format string, args ...any) {
	if r.err == nil {
		r.err = &Error{Offset: r.pos, Message: fmt.Sprintf(format, args...), plain: plain}
	}
	r.pos = len(r.buf)
}

// wrong sets the error for a value of another kind than wanted.
func (r *Reader) wrong(want string) {
	if r.err != nil {
		return
	}
	if r.pos >= len(r.buf) {
		r.failf("ends where %s was expected", want)
		return
	}
	r.failf("%s where %s was expected", codeName(r.buf[r.pos]), want)
}

// peek returns the next value's first byte, or 0xc1, which MessagePack never uses, at
// the end or after an error.
func (r *Reader) peek() byte {
	if r.pos < len(r.buf) {
		return r.buf[r.pos]
	}
	return 0xc1
}

// fixed consumes a value's first byte and the n bytes after it, and returns those.
func (r *Reader) fixed(n int) []byte {
	if len(r.buf)-r.pos < 1+n {
		r.failf("ends inside a value")
		return nil
	}
	b := r.buf[r.pos+1 : r.pos+1+n]
	r.pos += 1 + n
	return b
}

// Nil reports whether the next value is nil, and consumes it if so.
func (r *Reader) Nil() bool {
	if r.peek() == codeNil {
		r.pos++
		return true
	}
	return false
}

// Bool reads a bool.
func (r *Reader) Bool() bool {
	switch r.peek() {
	case codeTrue:
		r.pos++
		return true
	case codeFalse:
		r.pos++
	default:
		r.wrong("a bool")
	}
	return false
}

// integer reads any integer as 64 bits, and reports whether it is negative.
func (r *Reader) integer(want string) (v uint64, negative bool) {
	c := r.peek()
	switch {
	case r.pos >= len(r.buf):
	case c < codeFixMap:
		r.pos++
		return uint64(c), false
	case c >= 0xe0:
		r.pos++
		return uint64(int64(int8(c))), true
	case c >= codeUint8 && c <= codeInt64:
		return widen(r.fixed(1<<((c-codeUint8)&3)), c >= codeInt8)
	}
	r.wrong(want)
	return 0, false
}

// bigEndian returns the bytes of an integer or a length as 64 bits.
func bigEndian(b []byte) uint64 {
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(b))
	case 4:
		return uint64(binary.BigEndian.Uint32(b))
	case 8:
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// widen returns a big-endian integer as 64 bits.
func widen(b []byte, signed bool) (uint64, bool) {
	v := bigEndian(b)
	if !signed || len(b) == 0 {
		return v, false
	}
	shift := 64 - 8*len(b)
	s := int64(v<<shift) >> shift
	return uint64(s), s < 0
}

// signed reads an integer that fits size bits, 8 to 64.
func (r *Reader) signed(size int) int64 {
	at := r.pos
	if at < len(r.buf) && r.buf[at] < codeFixMap {
		r.pos++
		return int64(r.buf[at])
	}
	v, negative := r.integer("an integer")
	s := int64(v)
	if !negative && v > math.MaxInt64 || s<<(64-size)>>(64-size) != s {
		r.pos = at
		r.failf("an integer that does not fit in %d bits", size)
		return 0
	}
	return s
}

// unsigned reads an unsigned integer that fits size bits, 8 to 64.
func (r *Reader) unsigned(size int) uint64 {
	at := r.pos
	if at < len(r.buf) && r.buf[at] < codeFixMap {
		r.pos++
		return uint64(r.buf[at])
	}
	v, negative := r.integer("an integer")
	if negative || bits.Len64(v) > size {
		r.pos = at
		r.failf("an integer that does not fit in %d unsigned bits", size)
		return 0
	}
	return v
}

// Int reads an integer that fits in an int.
func (r *Reader) Int() int { return int(r.signed(bits.UintSize)) }

// Int8 reads an integer that fits in an int8.
func (r *Reader) Int8() int8 { return int8(r.signed(8)) }

// Int16 reads an integer that fits in an int16.
func (r *Reader) Int16() int16 { return int16(r.signed(16)) }

// Int32 reads an integer that fits in an int32.
func (r *Reader) Int32() int32 { return int32(r.signed(32)) }

// Int64 reads an integer that fits in an int64.
func (r *Reader) Int64() int64 { return r.signed(64) }

// Uint reads an integer that fits in a uint.
func (r *Reader) Uint() uint { return uint(r.unsigned(bits.UintSize)) }

// Uint8 reads an integer that fits in a uint8.
func (r *Reader) Uint8() uint8 { return uint8(r.unsigned(8)) }

// Uint16 reads an integer that fits in a uint16.
func (r *Reader) Uint16() uint16 { return uint16(r.unsigned(16)) }

// Uint32 reads an integer that fits in a uint32.
func (r *Reader) Uint32() uint32 { return uint32(r.unsigned(32)) }

// Uint64 reads an integer that fits in a uint64.
func (r *Reader) Uint64() uint64 { return r.unsigned(64) }

// Float32 reads a 32-bit float, or any number that Float64 reads and a float32 holds
// exactly: some languages write all floats with 64 bits.
func (r *Reader) Float32() float32 {
	if r.peek() == codeFloat32 {
		if b := r.fixed(4); b != nil {
			return math.Float32frombits(binary.BigEndian.Uint32(b))
		}
		return 0
	}
	at := r.pos
	f := r.Float64()
	if f32 := float32(f); float64(f32) == f || f != f {
		return f32
	}
	r.pos = at
	r.failf("a float that 32 bits cannot hold exactly")
	return 0
}

// Float64 reads a float of 32 or 64 bits, or an integer that a float64 holds exactly:
// some languages write 1.0 as 1.
func (r *Reader) Float64() float64 {
	switch c := r.peek(); {
	case c == codeFloat64:
		if b := r.fixed(8); b != nil {
			return math.Float64frombits(binary.BigEndian.Uint64(b))
		}
		return 0
	case c == codeFloat32:
		return float64(r.Float32())
	}
	at := r.pos
	v, negative := r.integer("a float")
	f := float64(v)
	if negative {
		f = float64(int64(v))
	}
	if !exact(v, negative) {
		r.pos = at
		r.failf("an integer that a float64 cannot hold exactly")
		return 0
	}
	return f
}

// exact reports whether the 53 bits of a float64 hold the integer v.
func exact(v uint64, negative bool) bool {
	if negative {
		v = -v
	}
	return v == 0 || bits.Len64(v)-bits.TrailingZeros64(v) <= 53
}

// header consumes a first byte and n bytes of length, and returns the length, or one
// beyond any input if it overflows int.
func (r *Reader) header(n int) int {
	return int(min(bigEndian(r.fixed(n)), math.MaxInt))
}

// take consumes the next n bytes and returns them without copying.
func (r *Reader) take(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n > len(r.buf)-r.pos {
		r.failf("%d bytes declared, %d left", n, len(r.buf)-r.pos)
		return nil
	}
	b := r.buf[r.pos : r.pos+n : r.pos+n]
	r.pos += n
	return b
}

// text consumes the next string and returns its bytes without copying.
func (r *Reader) text(want string) []byte {
	if r.pos < len(r.buf) {
		// Fast path: most strings are short.
		if n := int(r.buf[r.pos] ^ codeFixStr); n < 32 && n < len(r.buf)-r.pos {
			start := r.pos + 1
			r.pos = start + n
			return r.buf[start:r.pos:r.pos]
		}
	}
	return r.longText(want)
}

// longText is text for strings of any length.
func (r *Reader) longText(want string) []byte {
	c := r.peek()
	switch {
	case c >= codeFixStr && c < codeNil:
		r.pos++
		return r.take(int(c & 0x1f))
	case c >= codeStr8 && c <= codeStr32:
		return r.take(r.header(1 << (c - codeStr8)))
	}
	r.wrong(want)
	return nil
}

// String reads a string. Like Go strings, it need not be UTF-8: it returns the bytes
// that AppendString wrote.
func (r *Reader) String() string {
	b := r.text("a string")
	r.copied(len(b))
	return string(b)
}

// Key reads a map's string key without copying it. The bytes are valid until the
// input changes.
func (r *Reader) Key() []byte {
	r.keyAt = r.pos
	return r.text("a string key")
}

// Bytes reads binary, or nil as a nil slice. It also reads strings, which languages
// without a byte type write.
func (r *Reader) Bytes() []byte {
	if r.Nil() {
		return nil
	}
	b := r.raw()
	if b == nil {
		return nil
	}
	r.copied(len(b))
	return append(make([]byte, 0, len(b)), b...)
}

// View is Bytes without copying: it returns a part of the input.
func (r *Reader) View() []byte {
	if r.Nil() {
		return nil
	}
	return slices.Clip(r.raw())
}

// Text is String without copying: it returns a part of the input.
func (r *Reader) Text() []byte { return slices.Clip(r.text("a string")) }

// BytesInto reads binary of exactly len(dst) bytes into dst.
func (r *Reader) BytesInto(dst []byte) {
	at := r.pos
	b := r.raw()
	if r.err != nil {
		return
	}
	if len(b) != len(dst) {
		r.pos = at
		r.failf("%d bytes where %d were expected", len(b), len(dst))
		return
	}
	copy(dst, b)
}

func (r *Reader) raw() []byte {
	c := r.peek()
	if c >= codeBin8 && c <= codeBin32 {
		return r.take(r.header(1 << (c - codeBin8)))
	}
	return r.text("binary")
}

// ArrayLen reads an array's header and returns the number of elements. It is never
// more than the remaining bytes.
func (r *Reader) ArrayLen() int {
	c := r.peek()
	switch {
	case c >= codeFixArray && c < codeFixStr:
		r.pos++
		return r.room(int(c&0x0f), 1)
	case c == codeArray16, c == codeArray32:
		return r.room(r.header(2<<(c-codeArray16)), 1)
	}
	r.wrong("an array")
	return 0
}

// MapLen reads a map's header and returns the number of pairs. It is never more than
// half the remaining bytes.
func (r *Reader) MapLen() int {
	c := r.peek()
	switch {
	case c >= codeFixMap && c < codeFixArray:
		r.pos++
		return r.room(int(c&0x0f), 2)
	case c == codeMap16, c == codeMap32:
		return r.room(r.header(2<<(c-codeMap16)), 2)
	}
	r.wrong("a map")
	return 0
}

// room checks a declared number of elements of at least size bytes each against the
// remaining bytes.
func (r *Reader) room(n, size int) int {
	if r.err != nil {
		return 0
	}
	if n > (len(r.buf)-r.pos)/size {
		r.failf("%d elements declared in %d bytes", n, len(r.buf)-r.pos)
		return 0
	}
	return n
}

// Time reads a timestamp extension and returns the instant in UTC.
func (r *Reader) Time() time.Time {
	at := r.pos
	kind, b := r.ext("a timestamp")
	if r.err != nil {
		return time.Time{}
	}
	var sec int64
	nsec := uint64(math.MaxUint64) // not a timestamp
	switch {
	case kind != extTime:
	case len(b) == 4:
		sec, nsec = int64(binary.BigEndian.Uint32(b)), 0
	case len(b) == 8:
		v := binary.BigEndian.Uint64(b)
		sec, nsec = int64(v&(1<<34-1)), v>>34
	case len(b) == 12:
		nsec = uint64(binary.BigEndian.Uint32(b))
		sec = int64(binary.BigEndian.Uint64(b[4:]))
	}
	if nsec >= 1e9 {
		r.pos = at
		r.failf("an extension that is not a timestamp")
		return time.Time{}
	}
	return time.Unix(sec, int64(nsec)).UTC()
}

// Duration reads an integer of nanoseconds.
func (r *Reader) Duration() time.Duration { return time.Duration(r.Int64()) }

// ext reads an extension's type and data without copying them.
func (r *Reader) ext(want string) (kind byte, data []byte) {
	c := r.peek()
	n := 0
	switch {
	case c >= codeFixExt1 && c <= codeFixExt16:
		r.pos++
		n = 1 << (c - codeFixExt1)
	case c >= codeExt8 && c <= codeExt32:
		n = r.header(1 << (c - codeExt8))
	default:
		r.wrong(want)
		return 0, nil
	}
	if b := r.take(1); b != nil {
		kind = b[0]
	}
	return kind, r.take(n)
}
