package codec_test

import (
	"encoding/hex"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/taskgen/taskgen/codec"
)

func canonical(t *testing.T, values []byte) string {
	t.Helper()
	b, err := codec.AppendCanonical(nil, values)
	require.NoError(t, err)
	again, err := codec.AppendCanonical(nil, b)
	require.NoError(t, err)
	require.Equal(t, b, again, "it is its own canonical form")
	return hex.EncodeToString(b)
}

// TestCanonicalForms has encodings of equal values in each row.
func TestCanonicalForms(t *testing.T) {
	for want, forms := range map[string]string{
		"c0":                 "c0 90 80 c400 dc0000 df00000000 c50000",
		"01":                 "01 cc01 cd0001 d001 d30000000000000001 cb3ff0000000000000 ca3f800000",
		"00":                 "00 cb8000000000000000 cb0000000000000000 ca80000000",
		"ff":                 "ff d0ff d3ffffffffffffffff cbbff0000000000000",
		"cf8000000000000000": "cf8000000000000000",
		"cb7ff8000000000000": "cb7ff8000000000001 ca7fc00000 cbfff8000000000000",
		"a26162":             "a26162 d9026162 c4026162 da00026162",
		"a0":                 "a0 d900",
		"920102":             "920102 dc00020102",
		"82a16101a16202":     "82a16101a16202 82a16202a16101 de0002c40162cc02a161cb3ff0000000000000",
		"81a1618201020304":   "81a1618203040102 81a16182cc03cc040102",
		"d6ff00000001":       "d6ff00000001 d7ff0000000000000001 c70cff000000000000000000000001",
		"c9000000010501":     "d40501 c7010501",
		"c2c3":               "c2c3",
	} {
		for _, form := range strings.Fields(forms) {
			b, err := hex.DecodeString(form)
			require.NoError(t, err)
			require.Equal(t, want, canonical(t, b), form)
		}
	}
	for _, broken := range []string{"92", "c1", "d9", "8101", "d6ff00"} {
		b, _ := hex.DecodeString(broken)
		_, err := codec.AppendCanonical(nil, b)
		require.Error(t, err, broken)
	}
	odd, _ := hex.DecodeString("d7ffffffffff00000001") // no timestamp: too many nanoseconds
	require.Equal(t, "c900000008ffffffffff00000001", canonical(t, odd))
}

// TestCanonicalFormOfMaps has maps that Go encodes in any order.
func TestCanonicalFormOfMaps(t *testing.T) {
	value := map[string]map[int]string{}
	for _, key := range strings.Split("abcdefgh", "") {
		value[key] = map[int]string{1: key, 2: "b", 300: "c", -1: "d"}
	}
	seen := map[string]bool{}
	for range 50 {
		b, err := msgpack.Marshal(value)
		require.NoError(t, err)
		seen[canonical(t, b)] = true
	}
	require.Len(t, seen, 1)
	value["a"][1] = "other"
	b, err := msgpack.Marshal(value)
	require.NoError(t, err)
	require.False(t, seen[canonical(t, b)])
}

// TestCanonicalFormOfOtherValues has values that are not equal.
func TestCanonicalFormOfOtherValues(t *testing.T) {
	seen := map[string]any{}
	instant := time.Date(2026, 3, 1, 12, 0, 0, 1, time.UTC)
	for _, v := range []any{nil, "", "a", 0, 1, 1.5, math.Inf(1), math.Inf(-1), math.NaN(), uint64(1 << 63), math.Pow(2, 63), int64(math.MinInt64),
		true, false, []int{0}, []any{nil}, map[string]int{"a": 1}, map[string]int{"a": 2}, map[int]int{1: 1}, instant, instant.Add(1)} {
		b, err := msgpack.Marshal(v)
		require.NoError(t, err)
		form := canonical(t, b)
		require.NotContains(t, seen, form, "%v and %v", v, seen[form])
		seen[form] = v
	}
	a, err := msgpack.Marshal(instant)
	require.NoError(t, err)
	b, err := msgpack.Marshal(instant.In(time.FixedZone("", 3600)))
	require.NoError(t, err)
	require.Equal(t, canonical(t, a), canonical(t, b))
}
