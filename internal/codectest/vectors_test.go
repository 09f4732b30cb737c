package codectest

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// vector is one payload of testdata/codec/tasks.json.
type vector struct {
	Task   string          `json:"task"`
	Params json.RawMessage `json:"params"`
	Hex    string          `json:"hex"`
}

// TestTaskVectors reads and writes whole payloads, as programs in other
// languages do.
func TestTaskVectors(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "testdata", "codec", "tasks.json"))
	require.NoError(t, err)
	var vectors []vector
	require.NoError(t, json.Unmarshal(text, &vectors))
	byTask := map[string]*shape{"scalars": scalars(), "named": named(), "maps": mapsOf(), "pointers": pointers(), "nothing": nothing()}
	used := map[string]bool{}
	for _, v := range vectors {
		t.Run(v.Task, func(t *testing.T) {
			s := byTask[v.Task]
			require.NotNil(t, s)
			used[v.Task] = true
			b, err := hex.DecodeString(v.Hex)
			require.NoError(t, err)
			decoded, err := s.decode(b)
			require.NoError(t, err)
			require.JSONEq(t, string(v.Params), s.asJSON(t, decoded))

			// From the JSON, the way back.
			plain := reflect.New(jsonKeyed(s.plain))
			require.NoError(t, json.Unmarshal(v.Params, plain.Interface()))
			params := reflect.New(reflect.TypeOf(decoded).Elem())
			params.Elem().Set(plain.Elem().Convert(params.Elem().Type()))
			again, err := s.encode(params.Interface())
			require.NoError(t, err)
			require.Equal(t, v.Hex, hex.EncodeToString(again))
		})
	}
	require.Len(t, used, len(byTask))
}

// asJSON is parameters as JSON, keyed by their names.
func (s *shape) asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(reflect.ValueOf(v).Elem().Convert(jsonKeyed(s.plain)).Interface())
	require.NoError(t, err)
	return string(b)
}

// jsonKeyed is a struct type with its keys in tags for JSON.
func jsonKeyed(plain reflect.Type) reflect.Type {
	var fields []reflect.StructField
	for i := range plain.NumField() {
		f := plain.Field(i)
		f.Tag = reflect.StructTag(strings.Replace(string(f.Tag), "msgpack:", "json:", 1))
		fields = append(fields, reflect.StructField{Name: f.Name, Type: f.Type, Tag: f.Tag})
	}
	return reflect.StructOf(fields)
}
