package codectest

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/codec"
)

func FuzzScalars(f *testing.F)         { fuzz(f, scalars()) }
func FuzzNamed(f *testing.F)           { fuzz(f, named()) }
func FuzzBinary(f *testing.F)          { fuzz(f, binaries()) }
func FuzzLists(f *testing.F)           { fuzz(f, lists()) }
func FuzzMaps(f *testing.F)            { fuzz(f, mapsOf()) }
func FuzzKeyed(f *testing.F)           { fuzz(f, keyed()) }
func FuzzPointers(f *testing.F)        { fuzz(f, pointers()) }
func FuzzStructs(f *testing.F)         { fuzz(f, structs()) }
func FuzzOwn(f *testing.F)             { fuzz(f, own()) }
func FuzzMany(f *testing.F)            { fuzz(f, many()) }
func FuzzNothing(f *testing.F)         { fuzz(f, nothing()) }
func FuzzTrees(f *testing.F)           { fuzz(f, trees()) }
func FuzzTextResult(f *testing.F)      { fuzz(f, textResult()) }
func FuzzTimeResult(f *testing.F)      { fuzz(f, timeResult()) }
func FuzzBytesResult(f *testing.F)     { fuzz(f, bytesResult()) }
func FuzzItemsResult(f *testing.F)     { fuzz(f, itemsResult()) }
func FuzzMapResult(f *testing.F)       { fuzz(f, mapResult()) }
func FuzzPointerResult(f *testing.F)   { fuzz(f, pointerResult()) }
func FuzzStructResult(f *testing.F)    { fuzz(f, structResult()) }
func FuzzCustomResult(f *testing.F)    { fuzz(f, customResult()) }
func FuzzNestedResult(f *testing.F)    { fuzz(f, nestedResult()) }
func FuzzRecursiveResult(f *testing.F) { fuzz(f, recursiveResult()) }

// fuzz compares one generated decoder and encoder with msgpack/v5.
func fuzz(f *testing.F, s *shape) {
	for _, v := range s.samples {
		b, err := s.encode(v)
		require.NoError(f, err)
		if len(b) < 4096 {
			f.Add(b)
		}
	}
	for _, bomb := range bombs() {
		if len(bomb) < 4096 {
			f.Add(bomb)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) { s.check(t, b) })
}

// check decodes arbitrary bytes. Refused bytes must return a typed error. Accepted
// ones are encoded again as msgpack/v5 does, and msgpack/v5 must decode them to the
// same value, except bytes that only our decoder accepts.
func (s *shape) check(t *testing.T, b []byte) {
	t.Helper()
	var v any
	var err error
	used := allocated(func() { v, err = s.decode(b) })
	if limit := 2 * limitFor(len(b)); used > limit {
		t.Fatalf("decoding %d bytes allocated %d, more than %d: %q", len(b), used, limit, b)
	}
	if err != nil {
		var typed *codec.Error
		if !errors.As(err, &typed) || typed.Offset < 0 || typed.Offset > len(b) {
			t.Fatalf("decode %q: %#v", b, err)
		}
		return
	}
	ours := s.checkEncoding(t, v)
	theirs, err := s.referenceOf(b)
	if (err != nil || !bytes.Equal(canonical(theirs), canonical(ours))) && !oursAlone(b) {
		t.Fatalf("of %q\nours is   %q\ntheirs is %q, %v", b, ours, theirs, err)
	}
}

// checkEncoding writes a value and returns its bytes: they are those of
// msgpack/v5, and both read the value in them.
func (s *shape) checkEncoding(t *testing.T, v any) []byte {
	t.Helper()
	ours, err := s.encode(v)
	require.NoError(t, err)
	theirs, err := s.reference(v)
	require.NoError(t, err)
	if !bytes.Equal(canonical(ours), canonical(theirs)) || len(ours) != len(theirs) {
		t.Fatalf("ours   %q\ntheirs %q", ours, theirs)
	}
	back, err := s.decode(ours)
	require.NoError(t, err, "decoding %q again", ours)
	again, err := s.encode(back)
	require.NoError(t, err)
	if !bytes.Equal(ours, again) {
		t.Fatalf("encoded as %q, then as %q", ours, again)
	}
	theirs, err = s.referenceOf(ours)
	require.NoError(t, err)
	if !bytes.Equal(canonical(ours), canonical(theirs)) {
		t.Fatalf("msgpack/v5 reads %q and writes %q", ours, theirs)
	}
	return ours
}

// oursAlone reports whether bytes that ours accepts may mean something else to
// msgpack/v5, which is so in these cases only:
//
//   - a float of 64 bits (0xcb) stands for one of 32;
//   - an unsigned integer (0xcf) above the largest signed one stands for a float.
func oursAlone(b []byte) bool {
	return slices.ContainsFunc(b, func(c byte) bool { return c == 0xcb || c == 0xcf })
}

// limitFor returns how many bytes decoding n bytes may allocate: for elements that
// are only declared, at each depth of a type, and for real elements, each of which
// takes at least a byte.
func limitFor(n int) uint64 { return 256<<10 + 256*uint64(n) }

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestMutations puts the first byte of every kind of value in the place of
// each byte of the samples: a fuzzer's first hour, in a second.
func TestMutations(t *testing.T) {
	kinds := []byte{0x00, 0xff, 0x80, 0x81, 0x90, 0x92, 0xa0, 0xa1, 0xc0, 0xc3, 0xc4, 0xca, 0xcb, 0xcc, 0xcf, 0xd0, 0xd3, 0xd4, 0xd6, 0xd9, 0xdc, 0xde}
	for _, s := range shapes() {
		t.Run(s.name, func(t *testing.T) {
			b, err := s.encode(s.samples[0])
			require.NoError(t, err)
			mutant := make([]byte, len(b))
			for i := range min(len(b), 150) {
				for _, kind := range kinds {
					copy(mutant, b)
					mutant[i] = kind
					s.check(t, mutant)
				}
			}
		})
	}
}
