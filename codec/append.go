package codec

import (
	"encoding/binary"
	"math"
	"time"
)

// AppendNil appends nil to b.
func AppendNil(b []byte) []byte { return append(b, codeNil) }

// AppendBool appends v to b.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, codeTrue)
	}
	return append(b, codeFalse)
}

// AppendInt appends v to b in the fewest bytes.
func AppendInt(b []byte, v int64) []byte {
	if uint64(v) <= math.MaxInt8 {
		return append(b, byte(v))
	}
	return appendInt(b, v)
}

func appendInt(b []byte, v int64) []byte {
	switch {
	case v >= 0:
		return appendUint(b, uint64(v))
	case v >= -32:
		return append(b, byte(v))
	case v >= math.MinInt8:
		return append(b, codeInt8, byte(v))
	case v >= math.MinInt16:
		return append16(b, codeInt16, uint16(v))
	case v >= math.MinInt32:
		return append32(b, codeInt32, uint32(v))
	}
	return append64(b, codeInt64, uint64(v))
}

// AppendUint appends v to b in the fewest bytes.
func AppendUint(b []byte, v uint64) []byte {
	if v <= math.MaxInt8 {
		return append(b, byte(v))
	}
	return appendUint(b, v)
}

func appendUint(b []byte, v uint64) []byte {
	switch {
	case v <= math.MaxInt8:
		return append(b, byte(v))
	case v <= math.MaxUint8:
		return append(b, codeUint8, byte(v))
	case v <= math.MaxUint16:
		return append16(b, codeUint16, uint16(v))
	case v <= math.MaxUint32:
		return append32(b, codeUint32, uint32(v))
	}
	return append64(b, codeUint64, v)
}

// append16 appends a first byte and 16 bits in one step.
func append16(b []byte, code byte, v uint16) []byte {
	return append(b, code, byte(v>>8), byte(v))
}

func append32(b []byte, code byte, v uint32) []byte {
	return append(b, code, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

func append64(b []byte, code byte, v uint64) []byte {
	return append(b, code, byte(v>>56), byte(v>>48), byte(v>>40), byte(v>>32), byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

// AppendFloat32 appends v to b as a 32-bit float.
func AppendFloat32(b []byte, v float32) []byte {
	return append32(b, codeFloat32, math.Float32bits(v))
}

// AppendFloat64 appends v to b as a 64-bit float.
func AppendFloat64(b []byte, v float64) []byte {
	return append64(b, codeFloat64, math.Float64bits(v))
}

// AppendString appends s to b.
func AppendString(b []byte, s string) []byte {
	if len(s) < 32 {
		return append(append(b, codeFixStr|byte(len(s))), s...)
	}
	return appendLong(b, s)
}

func appendLong(b []byte, s string) []byte {
	return append(appendStringLen(b, len(s)), s...)
}

func appendStringLen(b []byte, n int) []byte {
	switch {
	case n < 32:
		return append(b, codeFixStr|byte(n))
	case n <= math.MaxUint8:
		return append(b, codeStr8, byte(n))
	case n <= math.MaxUint16:
		return append16(b, codeStr16, uint16(n))
	}
	return append32(b, codeStr32, uint32(n))
}

// AppendBytes appends v to b as binary, or nil if v is nil.
func AppendBytes(b, v []byte) []byte {
	if v == nil {
		return AppendNil(b)
	}
	return append(appendBytesLen(b, len(v)), v...)
}

func appendBytesLen(b []byte, n int) []byte {
	switch {
	case n <= math.MaxUint8:
		return append(b, codeBin8, byte(n))
	case n <= math.MaxUint16:
		return append16(b, codeBin16, uint16(n))
	}
	return append32(b, codeBin32, uint32(n))
}

// AppendArrayLen appends the header of an array of n elements to b. The caller
// appends the elements.
func AppendArrayLen(b []byte, n int) []byte {
	switch {
	case n < 16:
		return append(b, codeFixArray|byte(n))
	case n <= math.MaxUint16:
		return append16(b, codeArray16, uint16(n))
	}
	return append32(b, codeArray32, uint32(n))
}

// AppendMapLen appends the header of a map of n pairs to b. The caller appends each
// key and its value.
func AppendMapLen(b []byte, n int) []byte {
	switch {
	case n < 16:
		return append(b, codeFixMap|byte(n))
	case n <= math.MaxUint16:
		return append16(b, codeMap16, uint16(n))
	}
	return append32(b, codeMap32, uint32(n))
}

// AppendTime appends the instant t to b as MessagePack's timestamp extension (type
// -1), without its location and monotonic reading.
func AppendTime(b []byte, t time.Time) []byte {
	sec, nsec := uint64(t.Unix()), uint64(t.Nanosecond())
	switch {
	case sec>>34 != 0:
		b = append(b, codeExt8, 12, extTime)
		b = binary.BigEndian.AppendUint32(b, uint32(nsec))
		return binary.BigEndian.AppendUint64(b, sec)
	case nsec == 0 && sec>>32 == 0:
		return append32(append(b, codeFixExt4), extTime, uint32(sec))
	}
	return append64(append(b, codeFixExt8), extTime, nsec<<34|sec)
}

// AppendDuration appends d to b as an integer of nanoseconds.
func AppendDuration(b []byte, d time.Duration) []byte { return AppendInt(b, int64(d)) }
