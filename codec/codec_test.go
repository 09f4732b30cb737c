package codec_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/taskgen/taskgen/codec"
)

// reference is the encoding of msgpack/v5 with compact integers and sorted maps.
func reference(t *testing.T, v any) []byte {
	t.Helper()
	var buf bytes.Buffer
	enc := msgpack.NewEncoder(&buf)
	enc.UseCompactInts(true)
	enc.SetSortMapKeys(true)
	require.NoError(t, enc.Encode(v))
	return buf.Bytes()
}

// same checks that the codec and msgpack/v5 encode v to the same bytes, and that each
// decodes the other's.
func same[T any](t *testing.T, v T, ours []byte, read func(*codec.Reader) T) {
	t.Helper()
	theirs := reference(t, v)
	require.Equal(t, theirs, ours, "bytes of %T %v", v, v)
	r := codec.NewReader(theirs)
	back := read(r)
	require.NoError(t, r.Done(), "reading %T %v", v, v)
	requireSame(t, v, back)
	var decoded T
	require.NoError(t, msgpack.Unmarshal(ours, &decoded))
	requireSame(t, v, decoded)
}

// requireSame compares values; NaN is itself, and instants need no location.
func requireSame(t *testing.T, want, got any) {
	t.Helper()
	switch want := want.(type) {
	case time.Time:
		require.True(t, want.Equal(got.(time.Time)), "want %s, got %s", want, got)
	case float64:
		require.Equal(t, math.Float64bits(want), math.Float64bits(got.(float64)))
	case float32:
		require.Equal(t, math.Float32bits(want), math.Float32bits(got.(float32)))
	default:
		require.Equal(t, want, got)
	}
}

func integers() []int64 {
	var all []int64
	for shift := range 64 {
		edge := int64(1) << shift
		all = append(all, edge-1, edge, edge+1, -edge-1, -edge, -edge+1)
	}
	return append(all, 0, math.MaxInt64, math.MinInt64, -32, -33)
}

func TestIntegersLikeMsgpack(t *testing.T) {
	for _, v := range integers() {
		same(t, v, codec.AppendInt(nil, v), (*codec.Reader).Int64)
		same(t, uint64(v), codec.AppendUint(nil, uint64(v)), (*codec.Reader).Uint64)
		same(t, int(v), codec.AppendInt(nil, v), (*codec.Reader).Int)
		same(t, uint(v), codec.AppendUint(nil, uint64(v)), (*codec.Reader).Uint)
		same(t, int32(v), codec.AppendInt(nil, int64(int32(v))), (*codec.Reader).Int32)
		same(t, uint32(v), codec.AppendUint(nil, uint64(uint32(v))), (*codec.Reader).Uint32)
		same(t, int16(v), codec.AppendInt(nil, int64(int16(v))), (*codec.Reader).Int16)
		same(t, uint16(v), codec.AppendUint(nil, uint64(uint16(v))), (*codec.Reader).Uint16)
		same(t, int8(v), codec.AppendInt(nil, int64(int8(v))), (*codec.Reader).Int8)
		same(t, uint8(v), codec.AppendUint(nil, uint64(uint8(v))), (*codec.Reader).Uint8)
		same(t, time.Duration(v), codec.AppendDuration(nil, time.Duration(v)), (*codec.Reader).Duration)
	}
}

func TestScalarsLikeMsgpack(t *testing.T) {
	for _, v := range []bool{true, false} {
		same(t, v, codec.AppendBool(nil, v), (*codec.Reader).Bool)
	}
	for _, v := range []float64{0, math.Copysign(0, -1), 1.5, math.MaxFloat64, math.SmallestNonzeroFloat64, math.Inf(1), math.Inf(-1), math.NaN()} {
		same(t, v, codec.AppendFloat64(nil, v), (*codec.Reader).Float64)
		same(t, float32(v), codec.AppendFloat32(nil, float32(v)), (*codec.Reader).Float32)
	}
	for _, n := range []int{0, 1, 31, 32, 255, 256, 65535, 65536} {
		s := strings.Repeat("x", n)
		same(t, s, codec.AppendString(nil, s), (*codec.Reader).String)
		same(t, []byte(s), codec.AppendBytes(nil, []byte(s)), (*codec.Reader).Bytes)
	}
	same(t, []byte(nil), codec.AppendBytes(nil, nil), (*codec.Reader).Bytes)
}

func TestTimesLikeMsgpack(t *testing.T) {
	for _, v := range []time.Time{
		{},
		time.Unix(0, 0), time.Unix(0, 1), time.Unix(1, 999_999_999), time.Unix(-1, 0), time.Unix(-1, 5),
		time.Unix(math.MaxUint32, 0), time.Unix(math.MaxUint32, 1), time.Unix(math.MaxUint32+1, 0),
		time.Unix(1<<34-1, 999_999_999), time.Unix(1<<34, 0),
		time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("x", 3600)),
	} {
		same(t, v, codec.AppendTime(nil, v), (*codec.Reader).Time)
	}
}

func TestArbitraryValuesLikeMsgpack(t *testing.T) {
	property := func(i int64, u uint64, f float64, s string, b []byte, sec int64, nsec uint32) bool {
		same(t, i, codec.AppendInt(nil, i), (*codec.Reader).Int64)
		same(t, u, codec.AppendUint(nil, u), (*codec.Reader).Uint64)
		same(t, f, codec.AppendFloat64(nil, f), (*codec.Reader).Float64)
		same(t, s, codec.AppendString(nil, s), (*codec.Reader).String)
		same(t, b, codec.AppendBytes(nil, b), (*codec.Reader).Bytes)
		at := time.Unix(sec>>20, int64(nsec%1_000_000_000))
		same(t, at, codec.AppendTime(nil, at), (*codec.Reader).Time)
		return true
	}
	require.NoError(t, quick.Check(property, &quick.Config{MaxCount: 500}))
}

func TestCollectionsLikeMsgpack(t *testing.T) {
	property := func(s []string, m map[string]string, a [3]int16) bool {
		b := codec.AppendSliceHeader(nil, s)
		for _, e := range s {
			b = codec.AppendString(b, e)
		}
		same(t, s, b, readStrings)

		b = codec.AppendMapHeader(nil, m)
		for k, e := range codec.Sorted(m) {
			b = codec.AppendString(codec.AppendString(b, k), e)
		}
		same(t, m, b, readMap((*codec.Reader).String, (*codec.Reader).String))

		b = codec.AppendArrayLen(nil, len(a))
		for _, e := range a {
			b = codec.AppendInt(b, int64(e))
		}
		same(t, a, b, func(r *codec.Reader) (v [3]int16) {
			r.ReadArray(len(v))
			for i := range v {
				v[i] = r.Int16()
			}
			return v
		})

		return true
	}
	require.NoError(t, quick.Check(property, &quick.Config{MaxCount: 300}))
	for _, n := range []int{15, 16, 65535, 65536} {
		s := make([]bool, n)
		b := codec.AppendSliceHeader(nil, s)
		m := map[int]bool{}
		for i := range s {
			b = codec.AppendBool(b, false)
			m[i] = true
		}
		same(t, s, b, readSlice((*codec.Reader).Bool))
		b = codec.AppendMapHeader(nil, m)
		for k := range codec.Sorted(m) {
			b = codec.AppendBool(codec.AppendInt(b, int64(k)), true)
		}
		var back map[int]bool
		require.NoError(t, msgpack.Unmarshal(b, &back))
		require.Equal(t, m, back)
		r := codec.NewReader(b)
		require.Equal(t, m, readMap((*codec.Reader).Int, (*codec.Reader).Bool)(r))
		require.NoError(t, r.Done())
	}
}

// readSlice reads a slice as generated code does.
func readSlice[E any](read func(*codec.Reader) E) func(*codec.Reader) []E {
	return func(r *codec.Reader) (s []E) {
		for n := codec.ReadSlice(r, &s); n > 0 && r.More(); n-- {
			s = append(s, read(r))
		}
		return s
	}
}

func readStrings(r *codec.Reader) []string { return readSlice((*codec.Reader).String)(r) }

// readMap reads a map as generated code does.
func readMap[K comparable, V any](key func(*codec.Reader) K, value func(*codec.Reader) V) func(*codec.Reader) map[K]V {
	return func(r *codec.Reader) (m map[K]V) {
		for n := codec.ReadMap(r, &m); n > 0 && r.More(); n-- {
			k := codec.NewKey(r, m, key(r))
			m[k] = value(r)
		}
		return m
	}
}

type level byte

func TestNamedBytesLikeMsgpack(t *testing.T) {
	for _, n := range []int{0, 1, 255, 256, 70000} {
		v := make([]level, n)
		for i := range v {
			v[i] = level(i)
		}
		same(t, v, codec.AppendBytesOf(nil, v), codec.BytesOf[level])
	}
	same(t, []level(nil), codec.AppendBytesOf[level](nil, nil), codec.BytesOf[level])
	array := [3]level{1, 2, 3}
	// A pointer, as msgpack/v5 panics on such an array that has no address.
	same(t, &array, codec.AppendBytesOf(nil, array[:]), func(r *codec.Reader) *[3]level {
		var v [3]level
		codec.BytesIntoOf(r, v[:])
		return &v
	})
	r := codec.NewReader([]byte("\xc4\x02ab"))
	codec.BytesIntoOf(r, array[:])
	require.EqualError(t, r.Err(), "msgpack offset 0: 2 bytes where 3 were expected")
}

func TestOwnMarshallersLikeMsgpack(t *testing.T) {
	addr := netip.MustParseAddr("10.1.2.3")
	b, err := codec.AppendBinary(nil, addr)
	require.NoError(t, err)
	same(t, addr, b, func(r *codec.Reader) (v netip.Addr) { codec.ReadBinary(r, &v); return v })

	u := url.URL{Scheme: "https", Host: "example.com"}
	b, err = codec.AppendBinary(nil, &u)
	require.NoError(t, err)
	same(t, &u, b, func(r *codec.Reader) *url.URL { var v url.URL; codec.ReadBinary(r, &v); return &v })

	b, err = codec.AppendBinaryInPlace(nil, &u)
	require.NoError(t, err)
	same(t, &u, b, func(r *codec.Reader) *url.URL { var v url.URL; codec.ReadBinary(r, &v); return &v })

	text := celsius(21)
	b, err = codec.AppendText(nil, text)
	require.NoError(t, err)
	same(t, text, b, func(r *codec.Reader) (v celsius) { codec.ReadText(r, &v); return v })

	pair := duo{"a", 1}
	b, err = codec.AppendCustom(nil, &pair)
	require.NoError(t, err)
	same(t, &pair, b, func(r *codec.Reader) *duo { var v duo; codec.ReadCustom(r, &v); return &v })

	whole := raw("\x93\x01\x02\x03")
	b, err = codec.AppendMarshaler(nil, whole)
	require.NoError(t, err)
	same(t, whole, b, func(r *codec.Reader) (v raw) { codec.ReadMarshaler(r, &v); return v })
}

// span marshals itself, as nil if negative. Its value is its length.
type span int

func (s span) AppendBinary(b []byte) ([]byte, error) {
	return append(b, make([]byte, max(s, 0))...), nil
}

func (s span) MarshalBinary() ([]byte, error) {
	if s < 0 {
		return nil, nil
	}
	return make([]byte, s), nil
}

func (s *span) UnmarshalBinary(b []byte) error { *s = span(len(b)); return nil }

func TestMarshallersInPlaceLikeOthers(t *testing.T) {
	for _, s := range []span{-1, 0, 1, 255, 256, 70000} {
		want, err := codec.AppendBinary([]byte("before"), s)
		require.NoError(t, err)
		got, err := codec.AppendBinaryInPlace([]byte("before"), s)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, reference(t, s), got[len("before"):])
	}
}

func TestOwnMarshallersThatFail(t *testing.T) {
	_, err := codec.AppendText(nil, celsius(-300))
	require.EqualError(t, err, "encode codec_test.celsius: colder than cold")
	for _, bad := range []raw{"", "\x01\x02", "\x92\x01"} {
		_, err = codec.AppendMarshaler(nil, bad)
		require.ErrorContains(t, err, "it did not write one value")
	}
	r := codec.NewReader([]byte("\xc4\x01\x01"))
	var c celsius
	codec.ReadText(r, &c)
	require.ErrorContains(t, r.Err(), "decode codec_test.celsius")
	r = codec.NewReader([]byte("\xa1x"))
	var d duo
	codec.ReadCustom(r, &d)
	require.ErrorContains(t, r.Err(), "decode codec_test.duo")
}

// celsius writes itself as text.
type celsius int

func (c celsius) MarshalText() ([]byte, error) {
	if c < -273 {
		return nil, errCold
	}
	return binary.AppendVarint(nil, int64(c)), nil
}

func (c *celsius) UnmarshalText(b []byte) error {
	v, n := binary.Varint(b)
	if n != len(b) || v < 0 {
		return errCold
	}
	*c = celsius(v)
	return nil
}

type coldError struct{}

func (coldError) Error() string { return "colder than cold" }

var errCold = coldError{}

// duo writes itself as an array of two.
type duo struct {
	name string
	n    int
}

func (d *duo) EncodeMsgpack(enc *msgpack.Encoder) error {
	if err := enc.EncodeArrayLen(2); err != nil {
		return err
	}
	return enc.EncodeMulti(d.name, d.n)
}

func (d *duo) DecodeMsgpack(dec *msgpack.Decoder) error {
	if _, err := dec.DecodeArrayLen(); err != nil {
		return err
	}
	return dec.DecodeMulti(&d.name, &d.n)
}

// raw is MessagePack already.
type raw string

func (r raw) MarshalMsgpack() ([]byte, error) { return []byte(r), nil }

func (r *raw) UnmarshalMsgpack(b []byte) error { *r = raw(b); return nil }
