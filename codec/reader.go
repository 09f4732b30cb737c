package codec

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"
)

// Reader reads MessagePack values from a byte slice in order. The first error
// sticks: every later call returns a zero value, and Err tells it. So code
// that reads many values checks once, at the end.
//
// A Reader is for one goroutine.
type Reader struct {
	buf   []byte
	pos   int
	depth int
	keyAt int // where the last key starts
	ahead int // bytes that may still be made for what is only declared
	limit int // on the bytes of memory that may be made
	// memory is how many of them are left.
	memory int
	dec    *decoder // of types that have msgpack/v5's methods; nil: none yet
	err    error
}

// NewReader returns a reader of b, which it does not copy: b must not change
// while it is read. Strings and byte slices it returns are copies, but for
// those of Key, Text and View.
func NewReader(b []byte) *Reader {
	memory := memoryFor(len(b))
	return &Reader{buf: b, ahead: declarable(len(b)), memory: usable(memory), limit: memory}
}

// Reset makes r a reader of b, as NewReader would. A reader can so be used
// again.
func (r *Reader) Reset(b []byte) {
	memory := memoryFor(len(b))
	*r = Reader{buf: b, ahead: declarable(len(b)), memory: usable(memory), limit: memory, dec: r.dec}
}

// Err returns the first error, always an [*Error] or one given to Fail.
func (r *Reader) Err() error { return r.err }

// Fail makes err the reader's error unless it already has one, or err is nil.
func (r *Reader) Fail(err error) {
	if r.err == nil && err != nil {
		r.err = err
		r.pos = len(r.buf)
	}
}

// Done returns the first error, or one that says that bytes are left over or that
// the strings took more than the limit.
func (r *Reader) Done() error {
	if r.memory < 0 {
		r.exhausted()
	}
	if r.err == nil && r.pos < len(r.buf) {
		r.failf("%d bytes left over after the value", len(r.buf)-r.pos)
	}
	return r.err
}

// More reports whether the reader has had no error. It stands in the condition
// of loops over elements, so that they end at the first bad one.
func (r *Reader) More() bool { return r.err == nil }

// Offset is where the next value starts.
func (r *Reader) Offset() int { return r.pos }

func (r *Reader) failf(format string, args ...any) {
	if r.err == nil {
		r.err = &Error{Offset: r.pos, Message: fmt.Sprintf(format, args...)}
	}
	r.pos = len(r.buf)
}

// quoting fails with a message that quotes the bytes, beside one that does not.
func (r *Reader) quoting(plain, format string, args ...any) {
	if r.err == nil {
		r.err = &Error{Offset: r.pos, Message: fmt.Sprintf(format, args...), plain: plain}
	}
	r.pos = len(r.buf)
}

// wrong fails with what was wanted beside what is there.
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

// peek returns the next value's first byte, or 0xc1 (never used by
// MessagePack) at the end or after an error.
func (r *Reader) peek() byte {
	if r.pos < len(r.buf) {
		return r.buf[r.pos]
	}
	return 0xc1
}

// fixed returns the n bytes after the first byte, and moves behind them.
func (r *Reader) fixed(n int) []byte {
	if len(r.buf)-r.pos < 1+n {
		r.failf("ends inside a value")
		return nil
	}
	b := r.buf[r.pos+1 : r.pos+1+n]
	r.pos += 1 + n
	return b
}

// Nil reports whether the next value is nil, and if so moves behind it.
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

// integer reads any integer as its 64 bits and whether it is negative.
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

// bigEndian makes 64 bits of the bytes of an integer or a length.
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

// widen makes 64 bits of a big-endian integer.
func widen(b []byte, signed bool) (uint64, bool) {
	v := bigEndian(b)
	if !signed || len(b) == 0 {
		return v, false
	}
	shift := 64 - 8*len(b)
	s := int64(v<<shift) >> shift
	return uint64(s), s < 0
}

// signed reads an integer that fits in size bits, 8 to 64.
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

// unsigned reads an integer of no sign that fits in size bits, 8 to 64.
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

// Float32 reads a 32-bit float, or what Float64 reads if a float32 holds it
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

// Float64 reads a float of 32 or 64 bits, or an integer that a float64 holds
// exactly: other languages write 1.0 as 1.
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

// exact reports whether a float64's 53 bits hold the integer v.
func exact(v uint64, negative bool) bool {
	if negative {
		v = -v
	}
	return v == 0 || bits.Len64(v)-bits.TrailingZeros64(v) <= 53
}

// header moves behind a first byte and the n bytes of length that follow it,
// and returns that length, or one beyond any input where int has no room for it.
func (r *Reader) header(n int) int {
	return int(min(bigEndian(r.fixed(n)), math.MaxInt))
}

// take returns the next n bytes without copying them.
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

// text returns the next string's bytes without copying them.
func (r *Reader) text(want string) []byte {
	if r.pos < len(r.buf) {
		// Most strings are short.
		if n := int(r.buf[r.pos] ^ codeFixStr); n < 32 && n < len(r.buf)-r.pos {
			start := r.pos + 1
			r.pos = start + n
			return r.buf[start:r.pos:r.pos]
		}
	}
	return r.longText(want)
}

// longText is text for any length.
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

// String reads a string. As in Go its bytes are usually UTF-8, but need not be:
// what AppendString wrote comes back.
func (r *Reader) String() string {
	b := r.text("a string")
	r.copied(len(b))
	return string(b)
}

// Key reads a map's string key. The bytes are the reader's: they are for
// comparing at once, not for keeping.
func (r *Reader) Key() []byte {
	r.keyAt = r.pos
	return r.text("a string key")
}

// Bytes reads binary, or nil as a nil slice. Strings are taken too: languages
// without a byte type write them.
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

// View is Bytes without the copy: what it returns is a part of what the reader
// reads.
func (r *Reader) View() []byte {
	if r.Nil() {
		return nil
	}
	return slices.Clip(r.raw())
}

// Text is String without the copy: what it returns is a part of what the reader
// reads.
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

// ArrayLen reads an array's header and returns its number of elements, which
// is never more than the bytes that are left.
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

// MapLen reads a map's header and returns its number of pairs, which is never
// more than half the bytes that are left.
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

// room holds a declared number of elements of at least size bytes each against
// the bytes that are left.
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
	nsec := uint64(math.MaxUint64) // no timestamp
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
