//go:build !race

// The race detector allocates too.

package codectest

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/codec"
)

// TestAllocations checks that generated code allocates only for the values
// themselves: encoding allocates the bytes once, and decoding the parameters and what
// they point to. Neither the reader nor the keys of a sorted map are on the heap.
func TestAllocations(t *testing.T) {
	const runs = 100
	t.Run("scalars", func(t *testing.T) {
		in := ScalarsParams{Yes: true, I: -1 << 40, U64: 1 << 63, F64: 0.5, Text: "some text"}
		data, err := in.AppendMsgpack(nil)
		require.NoError(t, err)
		encode := testing.AllocsPerRun(runs, func() { _, err = in.AppendMsgpack(nil) })
		require.NoError(t, err)
		require.EqualValues(t, 1, encode)
		var out *ScalarsParams
		decode := testing.AllocsPerRun(runs, func() {
			out = new(ScalarsParams)
			r := codec.NewReader(data)
			out.ReadMsgpack(r)
			err = r.Done()
		})
		require.NoError(t, err)
		require.Equal(t, in, *out)
		require.EqualValues(t, 1+1, decode, "the parameters, Text")
	})
	t.Run("structs", func(t *testing.T) {
		in := StructsParams{
			Item: Item{"first", 1}, Tagged: Tagged{ID: "tag"}, Page: Page[Item]{Items: []Item{{"second", 2}, {"third", 3}}, Next: "next"},
			Outer: Outer{Item: Item{"outer", 4}, Sparse: Sparse{Parent: &Item{"parent", 5}}},
		}
		data, err := in.AppendMsgpack(nil)
		require.NoError(t, err)
		encode := testing.AllocsPerRun(runs, func() { _, err = in.AppendMsgpack(nil) })
		require.NoError(t, err)
		require.EqualValues(t, 1, encode)
		var out *StructsParams
		decode := testing.AllocsPerRun(runs, func() {
			out = new(StructsParams)
			r := codec.NewReader(data)
			out.ReadMsgpack(r)
			err = r.Done()
		})
		require.NoError(t, err)
		require.Equal(t, in, *out)
		require.EqualValues(t, 1+7+1+1, decode, "the parameters, seven strings, Items, Parent")
	})
	t.Run("maps and methods", func(t *testing.T) {
		counts := map[string]int{"one": 1, "two": 2, "three": 3}
		in := MapsParams{Counts: counts}
		data, err := in.AppendMsgpack(nil)
		require.NoError(t, err)
		encode := testing.AllocsPerRun(runs, func() { _, err = in.AppendMsgpack(nil) })
		require.NoError(t, err)
		require.EqualValues(t, 1, encode)
		var out *MapsParams
		decode := testing.AllocsPerRun(runs, func() {
			out = new(MapsParams)
			r := codec.NewReader(data)
			out.ReadMsgpack(r)
			err = r.Done()
		})
		require.NoError(t, err)
		require.Equal(t, in, *out)
		require.EqualValues(t, 1+2+3, decode, "the parameters, the map and its slots, three keys")

		addr := netip.MustParseAddr("192.0.2.1")
		buf := make([]byte, 0, 64)
		inPlace := testing.AllocsPerRun(runs, func() { _, err = codec.AppendBinaryInPlace(buf, &addr) })
		require.NoError(t, err)
		require.Zero(t, inPlace)
	})
}
