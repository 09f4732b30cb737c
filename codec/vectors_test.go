package codec_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/codec"
)

// vector is one line of testdata/codec.
type vector struct {
	Name, Type, Value, Hex string
	Written                bool
}

func vectors(t *testing.T, file string) (all []vector) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "testdata", "codec", file))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &all))
	require.NotEmpty(t, all)
	return all
}

// textCodec reads a type's values as the text that the vectors have for them,
// and writes them from it.
type textCodec struct {
	read  func(r *codec.Reader) string
	write func(t *testing.T, text string) []byte
}

func textCodecs() map[string]textCodec {
	return map[string]textCodec{
		"bool": {
			func(r *codec.Reader) string { return strconv.FormatBool(r.Bool()) },
			func(t *testing.T, text string) []byte { return codec.AppendBool(nil, text == "true") },
		},
		"int64": {
			func(r *codec.Reader) string { return strconv.FormatInt(r.Int64(), 10) },
			func(t *testing.T, text string) []byte {
				v, err := strconv.ParseInt(text, 10, 64)
				require.NoError(t, err)
				return codec.AppendInt(nil, v)
			},
		},
		"uint64": {
			func(r *codec.Reader) string { return strconv.FormatUint(r.Uint64(), 10) },
			func(t *testing.T, text string) []byte {
				v, err := strconv.ParseUint(text, 10, 64)
				require.NoError(t, err)
				return codec.AppendUint(nil, v)
			},
		},
		"float32": {
			func(r *codec.Reader) string { return strconv.FormatFloat(float64(r.Float32()), 'f', -1, 32) },
			func(t *testing.T, text string) []byte {
				v, err := strconv.ParseFloat(text, 32)
				require.NoError(t, err)
				return codec.AppendFloat32(nil, float32(v))
			},
		},
		"float64": {
			func(r *codec.Reader) string { return strconv.FormatFloat(r.Float64(), 'f', -1, 64) },
			func(t *testing.T, text string) []byte {
				v, err := strconv.ParseFloat(text, 64)
				require.NoError(t, err)
				return codec.AppendFloat64(nil, v)
			},
		},
		"string": {
			(*codec.Reader).String,
			func(t *testing.T, text string) []byte { return codec.AppendString(nil, text) },
		},
		"bytes":                {readHex, writeHex},
		"time":                 {readTime, writeTime},
		"duration":             {func(r *codec.Reader) string { return r.Duration().String() }, writeDuration},
		"list of int":          {readIntegers, writeIntegers},
		"map of string to int": {readTable, writeTable},
	}
}

func readHex(r *codec.Reader) string {
	if v := r.Bytes(); v != nil {
		return hex.EncodeToString(v)
	}
	return "nil"
}

func writeHex(t *testing.T, text string) []byte {
	if text == "nil" {
		return codec.AppendBytes(nil, nil)
	}
	v, err := hex.DecodeString(text)
	require.NoError(t, err)
	return codec.AppendBytes(nil, v)
}

func readTime(r *codec.Reader) string { return r.Time().Format(time.RFC3339Nano) }

func writeTime(t *testing.T, text string) []byte {
	v, err := time.Parse(time.RFC3339Nano, text)
	require.NoError(t, err)
	return codec.AppendTime(nil, v)
}

func writeDuration(t *testing.T, text string) []byte {
	v, err := time.ParseDuration(text)
	require.NoError(t, err)
	return codec.AppendDuration(nil, v)
}

func readIntegers(r *codec.Reader) string {
	text, err := json.Marshal(readSlice((*codec.Reader).Int)(r))
	r.Fail(err)
	return string(text)
}

func writeIntegers(t *testing.T, text string) []byte {
	var v []int
	require.NoError(t, json.Unmarshal([]byte(text), &v))
	b := codec.AppendSliceHeader(nil, v)
	for _, e := range v {
		b = codec.AppendInt(b, int64(e))
	}
	return b
}

func readTable(r *codec.Reader) string {
	text, err := json.Marshal(readMap((*codec.Reader).String, (*codec.Reader).Int)(r))
	r.Fail(err)
	return string(text)
}

func writeTable(t *testing.T, text string) []byte {
	var v map[string]int
	require.NoError(t, json.Unmarshal([]byte(text), &v))
	b := codec.AppendMapHeader(nil, v)
	for k, e := range codec.Sorted(v) {
		b = codec.AppendInt(codec.AppendString(b, k), int64(e))
	}
	return b
}

func TestVectors(t *testing.T) {
	codecs := textCodecs()
	for _, v := range vectors(t, "values.json") {
		t.Run(v.Name, func(t *testing.T) {
			c, ok := codecs[v.Type]
			require.True(t, ok, "type %s", v.Type)
			b, err := hex.DecodeString(v.Hex)
			require.NoError(t, err)
			r := codec.NewReader(b)
			require.Equal(t, v.Value, c.read(r))
			require.NoError(t, r.Done())
			if wrote := hex.EncodeToString(c.write(t, v.Value)); v.Written {
				require.Equal(t, v.Hex, wrote)
			} else {
				require.NotEqual(t, v.Hex, wrote, "these are the bytes that are written")
			}
		})
	}
}

func TestRefusedVectors(t *testing.T) {
	codecs := textCodecs()
	for _, v := range vectors(t, "refused.json") {
		t.Run(v.Name, func(t *testing.T) {
			c, ok := codecs[v.Type]
			require.True(t, ok, "type %s", v.Type)
			b, err := hex.DecodeString(v.Hex)
			require.NoError(t, err)
			r := codec.NewReader(b)
			c.read(r)
			var typed *codec.Error
			require.ErrorAs(t, r.Done(), &typed)
		})
	}
}
