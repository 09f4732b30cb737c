package codectest

import (
	"bytes"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/codec"
)

// bombs are values that no decoder may accept: they declare more than there
// is, nest too deep, or are no MessagePack.
func bombs() map[string][]byte {
	return map[string][]byte{
		"nothing":         {},
		"never used":      {0xc1},
		"bytes 2^32-1":    {0xc6, 0xff, 0xff, 0xff, 0xff},
		"bytes 2^31":      {0xc6, 0x80, 0, 0, 0},
		"bytes 2^16-1":    {0xc5, 0xff, 0xff},
		"string 2^32-1":   {0xdb, 0xff, 0xff, 0xff, 0xff},
		"string 2^16-1":   {0xda, 0xff, 0xff, 'x'},
		"string 255":      {0xd9, 0xff, 'x'},
		"array 2^32-1":    {0xdd, 0xff, 0xff, 0xff, 0xff},
		"array 2^31-1":    {0xdd, 0x7f, 0xff, 0xff, 0xff, 0x80, 0x80},
		"array 2^16-1":    {0xdc, 0xff, 0xff, 0xc0},
		"map 2^32-1":      {0xdf, 0xff, 0xff, 0xff, 0xff},
		"map 2^31":        {0xdf, 0x80, 0, 0, 0, 0xa0, 0xa0},
		"map 2^16-1":      {0xde, 0xff, 0xff, 0xa0, 0xc0},
		"ext 2^32-1":      {0xc9, 0xff, 0xff, 0xff, 0xff, 0xff},
		"ext 2^16-1":      {0xc8, 0xff, 0xff, 0xff},
		"time cut short":  {0xd7, 0xff, 0, 0, 0},
		"integer cut":     {0xcf, 1, 2, 3},
		"float cut":       {0xcb, 1},
		"deep array":      append(bytes.Repeat([]byte{0x91}, 1<<20), 0xc0),
		"deep array 16":   append(bytes.Repeat([]byte{0xdc, 0, 1}, 1<<18), 0xc0),
		"deep map":        append(bytes.Repeat([]byte{0x81, 0xa0}, 1<<19), 0xc0),
		"deep map of map": append(bytes.Repeat([]byte{0x81}, 1<<20), 0xc0),
	}
}

// hostile puts a bomb wherever a decoder reads: in place of everything, of each
// parameter, and of skipped values.
func hostile(s *shape, bomb []byte) [][]byte {
	all := [][]byte{bomb}
	for _, key := range append(slices.Clone(s.keys), "unknown") {
		all = append(all, append(codec.AppendString([]byte{0x81}, key), bomb...))
	}
	// After a correct start, as an element and as a pair's value.
	for _, key := range s.keys {
		list := append(codec.AppendString([]byte{0x81}, key), 0x91)
		table := append(codec.AppendString([]byte{0x81}, key), 0x81, 0xa1, 'k')
		all = append(all, append(list, bomb...), append(table, bomb...))
	}
	return all
}

func TestHostileBytes(t *testing.T) {
	for _, s := range shapes() {
		t.Run(s.name, func(t *testing.T) {
			for name, bomb := range bombs() {
				for _, b := range hostile(s, bomb) {
					var err error
					used := allocated(func() { _, err = s.decode(b) })
					var typed *codec.Error
					require.ErrorAs(t, err, &typed, "%s: %.40q", name, b)
					require.Less(t, used, 2*limitFor(0), "%s: %.40q", name, b)
				}
			}
		})
	}
}

// TestDeepPromises nests a type that contains itself, each time with many more
// elements than follow.
func TestDeepPromises(t *testing.T) {
	s := trees()
	b := []byte("\x81\xa4tree")
	for range codec.MaxDepth / 2 {
		b = append(b, "\x82\xa5Value\x01\xa8Children\xdc\x04\x00"...)
	}
	b = append(b, make([]byte, 2048)...)
	var err error
	used := allocated(func() { _, err = s.decode(b) })
	require.Error(t, err)
	require.Less(t, used, 2*limitFor(0))
}

func TestCutAndTrailingBytes(t *testing.T) {
	for _, s := range shapes() {
		t.Run(s.name, func(t *testing.T) {
			for _, v := range s.samples {
				b, err := s.encode(v)
				require.NoError(t, err)
				var typed *codec.Error
				step := max(1, len(b)/500)
				for n := 0; n < len(b); n += step {
					_, err := s.decode(b[:n])
					require.ErrorAs(t, err, &typed, "%q", b[:n])
				}
				_, err = s.decode(append(b, 0xc0))
				require.ErrorContains(t, err, "1 bytes left over")
			}
		})
	}
}

func TestDuplicateAndMissingKeys(t *testing.T) {
	for _, s := range shapes() {
		for i, key := range s.keys {
			v, err := s.encode(s.samples[0])
			require.NoError(t, err)
			pairs := pairsOf(t, v)
			twice := codec.AppendMapLen(nil, len(pairs)+1)
			without := codec.AppendMapLen(nil, len(pairs)-1)
			for _, p := range pairs {
				twice = append(append(twice, p.key...), p.value...)
				if string(p.key) != string(codec.AppendString(nil, key)) {
					without = append(append(without, p.key...), p.value...)
					continue
				}
				twice = append(append(twice, p.key...), p.value...)
			}
			_, err = s.decode(twice)
			require.ErrorContains(t, err, `the key "`+key+`" is repeated`, s.name)
			_, err = s.decode(without)
			if s.plain.Field(i).Type.Kind() == reflect.Pointer {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, `parameter "`+key+`" is missing`, s.name)
			}
		}
	}
}

// pair is one of a map's.
type pair struct{ key, value []byte }

func pairsOf(t *testing.T, b []byte) (pairs []pair) {
	t.Helper()
	r := codec.NewReader(b)
	for n := r.MapLen(); n > 0 && r.More(); n-- {
		pairs = append(pairs, pair{r.Raw(), r.Raw()})
	}
	require.NoError(t, r.Done())
	return pairs
}

func TestSamplesLikeMsgpack(t *testing.T) {
	for _, s := range shapes() {
		t.Run(s.name, func(t *testing.T) {
			for _, v := range s.samples {
				s.checkEncoding(t, v)
			}
		})
	}
}
