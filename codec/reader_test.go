package codec_test

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/taskgen/taskgen/codec"
)

func TestReaderRefuses(t *testing.T) {
	for _, c := range []struct {
		in   string
		read func(*codec.Reader)
		want string
	}{
		{"", func(r *codec.Reader) { r.Int() }, "offset 0: ends where an integer was expected"},
		{"\xd1\x00", func(r *codec.Reader) { r.Int() }, "offset 0: ends inside a value"},
		{"\xcd\x01\x00", func(r *codec.Reader) { r.Uint8() }, "offset 0: an integer that does not fit in 8 unsigned bits"},
		{"\xff", func(r *codec.Reader) { r.Uint64() }, "offset 0: an integer that does not fit in 64 unsigned bits"},
		{"\xcf\x80\x00\x00\x00\x00\x00\x00\x00", func(r *codec.Reader) { r.Int64() }, "offset 0: an integer that does not fit in 64 bits"},
		{"\xcc\x80", func(r *codec.Reader) { r.Int8() }, "offset 0: an integer that does not fit in 8 bits"},
		{"\xc0", func(r *codec.Reader) { r.Bool() }, "offset 0: nil where a bool was expected"},
		{"\xcb\x00", func(r *codec.Reader) { r.Float64() }, "offset 0: ends inside a value"},
		{"\xcf\x00\x20\x00\x00\x00\x00\x00\x01", func(r *codec.Reader) { r.Float64() }, "offset 0: an integer that a float64 cannot hold exactly"},
		{"\xa3ab", func(r *codec.Reader) { _ = r.String() }, "offset 1: 3 bytes declared, 2 left"},
		{"\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a", func(r *codec.Reader) { r.Float32() }, "offset 0: a float that 32 bits cannot hold exactly"},
		{"\xc6\xff\xff\xff\xff", func(r *codec.Reader) { r.Bytes() }, "offset 5: 4294967295 bytes declared, 0 left"},
		{"\xc4\x02ab", func(r *codec.Reader) { r.BytesInto(make([]byte, 3)) }, "offset 0: 2 bytes where 3 were expected"},
		{"\xdd\xff\xff\xff\xff", func(r *codec.Reader) { r.ArrayLen() }, "offset 5: 4294967295 elements declared in 0 bytes"},
		{"\x81\x01", func(r *codec.Reader) { r.MapLen() }, "offset 1: 1 elements declared in 1 bytes"},
		{"\xd6\x01abcd", func(r *codec.Reader) { r.Time() }, "offset 0: an extension that is not a timestamp"},
		{"\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff", func(r *codec.Reader) { r.Time() }, "offset 0: an extension that is not a timestamp"},
		{"\xc7\x05\xffabcde", func(r *codec.Reader) { r.Time() }, "offset 0: an extension that is not a timestamp"},
		{"\xc1", func(r *codec.Reader) { r.Skip() }, "offset 0: an invalid byte where a value was expected"},
		{"\x01\x02", func(r *codec.Reader) { r.Int() }, "offset 1: 1 bytes left over after the value"},
		{"\x92\x01", func(r *codec.Reader) { r.Skip() }, "offset 1: 2 elements declared in 1 bytes"},
		{"\x93\x01\x02\x03", func(r *codec.Reader) { r.ReadArray(2) }, "offset 0: 3 elements where 2 were expected"},
		{"\x82\xa1a\x01\xa1a\x02", func(r *codec.Reader) {
			readMap((*codec.Reader).String, (*codec.Reader).Int)(r)
		}, "offset 6: the key a is repeated"},
	} {
		r := codec.NewReader([]byte(c.in))
		c.read(r)
		err := r.Done()
		require.EqualError(t, err, "msgpack "+c.want, "reading %q", c.in)
		var typed *codec.Error
		require.ErrorAs(t, err, &typed)
	}
}

func TestFirstErrorSticks(t *testing.T) {
	r := codec.NewReader([]byte("\xa1x\x01\x02"))
	require.Zero(t, r.Int())
	first := r.Err()
	require.Error(t, first)
	require.False(t, r.More())
	require.Zero(t, r.Int())
	require.Empty(t, r.String())
	require.Zero(t, r.ArrayLen())
	require.Nil(t, r.Raw())
	require.True(t, r.Time().IsZero())
	r.Skip()
	r.Fail(io.EOF)
	require.Equal(t, first, r.Done())
}

func TestRequire(t *testing.T) {
	r := codec.NewReader(nil)
	r.Require(0b101, "a", "b", "c")
	require.EqualError(t, r.Err(), `msgpack offset 0: parameter "b" is missing`)
	r = codec.NewReader(nil)
	r.RequireFields(0, "a", "b")
	require.EqualError(t, r.Err(), `msgpack offset 0: fields "a", "b" are missing`)
	names := strings.Split(strings.Repeat("x,", 63)+"last", ",")
	r = codec.NewReader(nil)
	r.Require(1<<63-1, names...)
	require.ErrorContains(t, r.Err(), `parameter "last" is missing`)
	r = codec.NewReader(nil)
	r.Require(1<<64-1, names...)
	require.NoError(t, r.Err())
}

func TestDuplicateKey(t *testing.T) {
	r := codec.NewReader([]byte("\x82\xa1k\x01\xa1k\x02"))
	var seen uint64
	for n := r.MapLen(); n > 0 && r.More(); n-- {
		r.Key()
		r.Once(&seen, 3)
		r.Skip()
	}
	require.EqualError(t, r.Done(), `msgpack offset 4: the key "k" is repeated`)
}

func TestNesting(t *testing.T) {
	deep := strings.Repeat("\x91", codec.MaxDepth) + "\x01"
	r := codec.NewReader([]byte(deep))
	r.Skip()
	require.NoError(t, r.Done())
	r = codec.NewReader([]byte("\x91" + deep))
	r.Skip()
	require.ErrorContains(t, r.Done(), "nested more than 64 deep")
	r = codec.NewReader(bytes.Repeat([]byte{0x91}, 10<<20))
	r.Skip()
	require.ErrorContains(t, r.Done(), "nested more than 64 deep")
	r = codec.NewReader(nil)
	for range codec.MaxDepth {
		r.Enter()
	}
	require.NoError(t, r.Err())
	r.Enter()
	require.Error(t, r.Err())
}

// big is an element of which one byte of input declares much.
type big [1 << 16]byte

func readBig(r *codec.Reader) (v big) { r.BytesInto(v[:]); return v }

// bombs are a few bytes that declare a lot.
func bombs() map[string][]byte {
	many := append([]byte{0xdd, 0, 0x01, 0, 0}, bytes.Repeat([]byte{0x80}, 1<<16)...)
	return map[string][]byte{
		"bytes":   {0xc6, 0x7f, 0xff, 0xff, 0xff},
		"string":  {0xdb, 0xff, 0xff, 0xff, 0xff},
		"array":   {0xdd, 0x7f, 0xff, 0xff, 0xff},
		"map":     {0xdf, 0x7f, 0xff, 0xff, 0xff},
		"ext":     {0xc9, 0x7f, 0xff, 0xff, 0xff, 0xff},
		"deep":    bytes.Repeat([]byte{0x91}, 1<<20),
		"deepMap": bytes.Repeat([]byte{0x81}, 1<<20),
		"many":    many,
	}
}

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestBombsAllocateLittle(t *testing.T) {
	readers := map[string]func(*codec.Reader){
		"Skip":   (*codec.Reader).Skip,
		"Raw":    func(r *codec.Reader) { r.Raw() },
		"Bytes":  func(r *codec.Reader) { r.Bytes() },
		"String": func(r *codec.Reader) { _ = r.String() },
		"slice of big": func(r *codec.Reader) {
			readSlice(readBig)(r)
		},
		"map of big": func(r *codec.Reader) {
			readMap((*codec.Reader).String, readBig)(r)
		},
		"slice of slices": func(r *codec.Reader) {
			readSlice(readSlice((*codec.Reader).Int))(r)
		},
		"custom": func(r *codec.Reader) { var v anything; codec.ReadCustom(r, &v) },
	}
	for name, bomb := range bombs() {
		for method, read := range readers {
			if name == "many" && method == "custom" {
				continue // they are all there, and each becomes a map
			}
			t.Run(name+"/"+method, func(t *testing.T) {
				got := allocated(func() {
					r := codec.NewReader(bomb)
					read(r)
					if name != "many" {
						require.Error(t, r.Done())
					}
				})
				require.Less(t, got, uint64(512<<10+2*len(bomb)), "for %d bytes of input", len(bomb))
			})
		}
	}
}

// anything decodes whatever comes, by reflection.
type anything struct{ v any }

func (a *anything) EncodeMsgpack(enc *msgpack.Encoder) error { return enc.Encode(a.v) }

func (a *anything) DecodeMsgpack(dec *msgpack.Decoder) (err error) {
	a.v, err = dec.DecodeInterface()
	return err
}

// filler is a function that reads a value as generated types do.
type filler func(r *codec.Reader)

func (f filler) ReadMsgpack(r *codec.Reader) { f(r) }

func TestDecodeFromBombs(t *testing.T) {
	for name, bomb := range bombs() {
		if name == "many" {
			continue // as large as it says
		}
		t.Run(name, func(t *testing.T) {
			got := allocated(func() {
				dec := msgpack.NewDecoder(bytes.NewReader(bomb))
				err := codec.DecodeFrom(dec, filler((*codec.Reader).Skip))
				require.Error(t, err)
			})
			require.Less(t, got, uint64(512<<10+2*len(bomb)))
		})
	}
}

func TestDecodeFromTakesOneValue(t *testing.T) {
	values := [][]byte{
		{0x01}, {0xff}, {0xc0}, {0xc2}, {0xca, 1, 2, 3, 4}, {0xcb, 1, 2, 3, 4, 5, 6, 7, 8},
		codec.AppendInt(nil, -1<<40), codec.AppendUint(nil, 1<<20), codec.AppendString(nil, strings.Repeat("x", 5000)),
		codec.AppendBytes(nil, make([]byte, 70000)), codec.AppendTime(nil, time.Unix(1<<40, 7)),
		[]byte("\x82\xa1a\x93\x01\x02\x80\xa1b\xd4\x05x"), []byte("\xdc\x00\x01\xde\x00\x01\x01\x02"),
		[]byte("\xc7\x03\x05abc"), []byte("\x90"), []byte("\x80"),
	}
	stream := bytes.Join(values, nil)
	dec := msgpack.NewDecoder(bytes.NewReader(stream))
	for _, want := range values {
		var got []byte
		require.NoError(t, codec.DecodeFrom(dec, filler(func(r *codec.Reader) { got = r.Raw() })))
		require.Equal(t, want, got)
	}
	require.ErrorIs(t, codec.DecodeFrom(dec, filler((*codec.Reader).Skip)), io.EOF)
	require.ErrorContains(t, codec.DecodeFrom(msgpack.NewDecoder(strings.NewReader("\xc1")), filler((*codec.Reader).Skip)), "an invalid byte")
	require.ErrorContains(t, codec.DecodeFrom(msgpack.NewDecoder(strings.NewReader("\x92\x01")), filler((*codec.Reader).Skip)), "EOF")
}

type point struct{ x, y int64 }

func (p *point) AppendMsgpack(b []byte) ([]byte, error) {
	return codec.AppendInt(codec.AppendInt(append(b, 0x92), p.x), p.y), nil
}

func TestEncodeTo(t *testing.T) {
	var buf bytes.Buffer
	require.NoError(t, codec.EncodeTo(msgpack.NewEncoder(&buf), &point{1, -1}))
	require.Equal(t, "\x92\x01\xff", buf.String())
}

// FuzzReader compares the reader with msgpack/v5: both skip the same values, with the
// same number of bytes, and nothing makes the reader panic.
func FuzzReader(f *testing.F) {
	for _, bomb := range bombs() {
		if len(bomb) < 100 {
			f.Add(bomb)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := codec.NewReader(b)
		whole := r.Raw()
		if r.Err() == nil {
			in := bytes.NewReader(b)
			if err := msgpack.NewDecoder(in).Skip(); err != nil {
				t.Fatalf("msgpack/v5 does not skip %q: %v", whole, err)
			}
			if n := len(b) - in.Len(); n != len(whole) {
				t.Fatalf("skipped %d bytes, msgpack/v5 %d", len(whole), n)
			}
			var copied []byte
			copyRaw := filler(func(r *codec.Reader) { copied = r.Raw() })
			if err := codec.DecodeFrom(msgpack.NewDecoder(bytes.NewReader(b)), copyRaw); err != nil || !bytes.Equal(copied, whole) {
				t.Fatalf("DecodeFrom: %v, %q of %q", err, copied, whole)
			}
		}
		r = codec.NewReader(b)
		for kind := 0; r.More() && r.Offset() < len(b); kind++ {
			at := r.Offset()
			readAny(r, int(b[at])+kind)
			if r.More() && r.Offset() <= at {
				t.Fatalf("no progress at %d of %q", at, b)
			}
		}
	})
}

// readAny reads with one of the reader's methods.
func readAny(r *codec.Reader, which int) {
	methods := []func(*codec.Reader){
		func(r *codec.Reader) { r.Int64() },
		func(r *codec.Reader) { r.Uint8() },
		func(r *codec.Reader) { r.Float64() },
		func(r *codec.Reader) { r.Float32() },
		func(r *codec.Reader) { _ = r.String() },
		func(r *codec.Reader) { r.Bytes() },
		func(r *codec.Reader) { r.Time() },
		func(r *codec.Reader) { r.Bool() },
		func(r *codec.Reader) { readStrings(r) },
		func(r *codec.Reader) { readMap((*codec.Reader).Int64, (*codec.Reader).Bytes)(r) },
		func(r *codec.Reader) { var v anything; codec.ReadCustom(r, &v) },
	}
	methods[which%len(methods)](r)
}
