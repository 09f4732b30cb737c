package codec

// First bytes of values, named as in the MessagePack specification.
const (
	codeFixMap   = 0x80
	codeFixArray = 0x90
	codeFixStr   = 0xa0
	codeNil      = 0xc0
	codeFalse    = 0xc2
	codeTrue     = 0xc3
	codeBin8     = 0xc4
	codeBin16    = 0xc5
	codeBin32    = 0xc6
	codeExt8     = 0xc7
	codeExt16    = 0xc8
	codeExt32    = 0xc9
	codeFloat32  = 0xca
	codeFloat64  = 0xcb
	codeUint8    = 0xcc
	codeUint16   = 0xcd
	codeUint32   = 0xce
	codeUint64   = 0xcf
	codeInt8     = 0xd0
	codeInt16    = 0xd1
	codeInt32    = 0xd2
	codeInt64    = 0xd3
	codeFixExt1  = 0xd4
	codeFixExt2  = 0xd5
	codeFixExt4  = 0xd6
	codeFixExt8  = 0xd7
	codeFixExt16 = 0xd8
	codeStr8     = 0xd9
	codeStr16    = 0xda
	codeStr32    = 0xdb
	codeArray16  = 0xdc
	codeArray32  = 0xdd
	codeMap16    = 0xde
	codeMap32    = 0xdf

	extTime = 0xff // -1, the timestamp extension
)

// kindOf returns the kind of a value with the first byte c.
func kindOf(c byte) Kind {
	switch {
	case c < codeFixMap, c >= 0xe0, c >= codeUint8 && c <= codeInt64:
		return KindInteger
	case c < codeFixArray, c == codeMap16, c == codeMap32:
		return KindMap
	case c < codeFixStr, c == codeArray16, c == codeArray32:
		return KindArray
	case c < codeNil, c >= codeStr8 && c <= codeStr32:
		return KindString
	case c == codeNil:
		return KindNil
	case c == codeFalse, c == codeTrue:
		return KindBool
	case c >= codeBin8 && c <= codeBin32:
		return KindBinary
	case c == codeFloat32, c == codeFloat64:
		return KindFloat
	case c >= codeExt8 && c <= codeExt32, c >= codeFixExt1 && c <= codeFixExt16:
		return KindExtension
	}
	return KindNone
}

// codeName returns the kind of a value with the first byte c, for errors.
func codeName(c byte) string { return kindOf(c).String() }
