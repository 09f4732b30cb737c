package schema_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/ordered"
	"github.com/taskgen/taskgen/internal/schema"
)

func TestParamsComeBack(t *testing.T) {
	for _, line := range []string{
		"",
		"dataID string",
		"dataID string, at time, tags [string], by {name string, age uint8?}",
		"a bool, b int, c int8, d uint64, e float32, f float64, g duration, h bytes, i bytes(16)",
		"ids [3]int64, counts map[string]int, byID map[uint32][*time]",
		"tenantID|tenant|customer string=, limit *int, rest {}",
		"at custom(example.com/app.Stamp), ip text(net/netip.Addr), n binary(math/big.Int), m marshaler(a.b)",
		`"weird key" string, "2nd" int, größe int, "a,b|c" bool?=`,
		`p text("example.com/app.Page[int]")`,
		"root @Node={value int, next *@Node, children [@Node]}",
		"a @Item={id string}, b [@Item], c map[string]@Item2={id int}, d @Item2",
		"t @Tree=map[string]@Tree",
		"x {a {b {c [[[2][1]bytes]]}}}",
	} {
		t.Run(line, func(t *testing.T) {
			fields, err := schema.ParseParams(line)
			require.NoError(t, err)
			require.Equal(t, line, schema.Params(fields))
		})
	}
}

func TestOnlyWhatStandsTwiceKeepsAName(t *testing.T) {
	fields, err := schema.ParseParams("a @Once={id string}, b @T={x int} , c  @T")
	require.NoError(t, err)
	require.Equal(t, "a {id string}, b @T={x int}, c @T", schema.Params(fields))
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"a":                              "offset 1: a type is missing",
		"a strin":                        `offset 2: unknown type "strin"`,
		"a string b int":                 "offset 9: unexpected 'b'",
		"a string,":                      "offset 9: a key is missing",
		"a string, a int":                `offset 15: key "a" is repeated`,
		"a|b int, b int":                 `offset 14: key "b" is repeated`,
		"a [string":                      "offset 9: ']' is missing",
		"a {b int":                       "offset 8: '}' is missing",
		"a bytes(x)":                     "offset 8: a number is missing or too large",
		"a [99999999999999999999]int":    "offset 23: a number is missing or too large",
		"a map[float64]int":              "offset 17: a map's keys must be strings, integers, bools, times, bytes of a fixed length, types that marshal themselves, or arrays of these",
		"a map[[2]float32]int":           "offset 20: a map's keys must be strings, integers, bools, times, bytes of a fixed length, types that marshal themselves, or arrays of these",
		"a map[*int]int":                 "offset 14: a map's keys must be strings, integers, bools, times, bytes of a fixed length, types that marshal themselves, or arrays of these",
		"a map[[int]]int":                "offset 15: a map's keys must be strings, integers, bools, times, bytes of a fixed length, types that marshal themselves, or arrays of these",
		"a map[bytes]int":                "offset 15: a map's keys must be strings, integers, bools, times, bytes of a fixed length, types that marshal themselves, or arrays of these",
		"a map[{b int}]int":              "offset 17: a map's keys must be strings, integers, bools, times, bytes of a fixed length, types that marshal themselves, or arrays of these",
		"a map[@A=[2]@A]int":             "offset 18: a map's keys must be strings, integers, bools, times, bytes of a fixed length, types that marshal themselves, or arrays of these",
		"a @N":                           "offset 4: @N was not given before",
		"a @N=@N":                        "offset 5: a name cannot stand for a name",
		"a @N=*@N":                       "offset 8: @N points to nothing but itself",
		"a @N=int":                       "offset 8: @N stands for a single word",
		"a @N={}, b @N={}":               "offset 14: @N is given twice",
		`"a string`:                      "offset 0: a key has no end",
		"a custom()":                     "offset 9: a name is missing",
		"a " + strings.Repeat("[", 1000): "offset 502: types are nested too deeply",
	} {
		_, err := schema.ParseParams(text)
		require.EqualError(t, err, "parse parameters: "+want, text)
	}
	_, err := schema.ParseParams(strings.Repeat(" ", 5<<20))
	require.EqualError(t, err, "parse parameters: offset 0: 5242880 bytes are too many")
	_, err = schema.Parse("")
	require.EqualError(t, err, "parse type: offset 0: a type is missing")
}

func TestJSONSchema(t *testing.T) {
	const line = "id string, n uint8=, note *string, raw bytes, hash bytes(16), at time, wait duration, " +
		"f float32, ok bool, tags [string], pair [2]int8, counts map[string]uint16, byID map[int]bool, " +
		"root @Node={value int8, next *@Node?}, ip text(net/netip.Addr), big binary(math/big.Int), own custom(a.B), kin *@Node, " +
		"long *int64, ulong uint64, ratio *float64, rest map[uint8]int32"
	fields, err := schema.ParseParams(line)
	require.NoError(t, err)
	text, err := schema.ParamsJSON(fields)
	require.NoError(t, err)
	common := `
			"id": {"type": "string"},
			"n": {"type": "integer", "minimum": 0, "maximum": 255},
			"note": {"type": ["string", "null"]},
			"raw": {"type": ["string", "null"], "contentEncoding": "base64"},
			"hash": {"type": "string", "contentEncoding": "base64", "minLength": 24, "maxLength": 24},
			"at": {"type": "string", "format": "date-time"},
			"f": {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]},
			"ok": {"type": "boolean"},
			"tags": {"type": ["array", "null"], "items": {"type": "string"}},
			"pair": {"type": "array", "items": {"type": "integer", "minimum": -128, "maximum": 127}, "minItems": 2, "maxItems": 2},
			"counts": {"type": ["object", "null"], "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 65535}},
			"byID": {"type": ["object", "null"], "propertyNames": {"pattern": "^(0|-?[1-9][0-9]*)$"}, "additionalProperties": {"type": "boolean"}},
			"root": {"$ref": "#/$defs/Node"},
			"ip": {"title": "net/netip.Addr", "type": ["string", "null"]},
			"big": {"title": "math/big.Int", "type": ["string", "null"], "contentEncoding": "base64"},
			"own": {"title": "a.B", "description": "the JSON of what the type writes as MessagePack"},
			"kin": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
			"long": {"type": ["integer", "string", "null"], "minimum": -9223372036854775808, "maximum": 9223372036854775807, "pattern": "^(0|-?[1-9][0-9]*)$", "format": "int64"},
			"ulong": {"type": ["integer", "string"], "minimum": 0, "maximum": 18446744073709551615, "pattern": "^(0|[1-9][0-9]*)$", "format": "uint64"},
			"ratio": {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}, {"type": "null"}]},
			"rest": {"type": ["object", "null"], "propertyNames": {"pattern": "^(0|[1-9][0-9]*)$"}, "additionalProperties": {"type": "integer", "minimum": -2147483648, "maximum": 2147483647}}`
	const goText = `^[+-]?(0|([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`
	node := `"type": "object", "properties": {
				"value": {"type": "integer", "minimum": -128, "maximum": 127},
				"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}
			}, "required": ["value"]`
	require.JSONEq(t, `{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"type": "object",
		"properties": {`+common+`,
			"wait": {"type": ["string", "integer"], "minimum": -9223372036854775808, "maximum": 9223372036854775807,
				"pattern": "`+goText+`|^(0|-?[1-9][0-9]*)$", "description": "a duration in Go's text, such as 1m30s, or nanoseconds"}
		},
		"additionalProperties": false,
		"required": ["id", "raw", "hash", "at", "wait", "f", "ok", "tags", "pair", "counts", "byID", "root", "ip", "big", "own", "ulong", "rest"],
		"$defs": {"Node": {`+node+`, "additionalProperties": false}}
	}`, string(text))
	require.Less(t, strings.Index(string(text), `"tags"`), strings.Index(string(text), `"pair"`), "properties keep their order")
	resolves(t, text)

	// What is written has all fields but those left out if empty, and perhaps more.
	text, err = (&schema.Type{Kind: schema.Struct, Fields: fields}).JSON()
	require.NoError(t, err)
	require.JSONEq(t, `{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"type": "object",
		"properties": {`+common+`,
			"wait": {"type": "string", "pattern": "`+goText+`", "description": "a duration in Go's text, such as 1m30s"}
		},
		"required": ["id", "n", "note", "raw", "hash", "at", "wait", "f", "ok", "tags", "pair", "counts", "byID", "root", "ip", "big", "own", "kin", "long", "ulong", "ratio", "rest"],
		"$defs": {"Node": {`+node+`}}
	}`, string(text))
	resolves(t, text)
}

// TestDescribeRefersElsewhere checks the schemas for a larger document.
func TestDescribeRefersElsewhere(t *testing.T) {
	typ, err := schema.Parse("[@Node={next *@Node}]")
	require.NoError(t, err)
	shape, defs := typ.Describe(true, func(name string) string { return "#/components/schemas/a." + name })
	text, err := json.Marshal(ordered.Object{{"shape", shape}, {"defs", defs}})
	require.NoError(t, err)
	require.JSONEq(t, `{
		"shape": {"type": ["array", "null"], "items": {"$ref": "#/components/schemas/a.Node"}},
		"defs": {"Node": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/components/schemas/a.Node"}, {"type": "null"}]}}, "required": ["next"]}}
	}`, string(text))
}

// resolves holds a schema against what every JSON Schema is: known types, and
// references to definitions that are there.
func resolves(t *testing.T, text []byte) {
	var doc map[string]any
	require.NoError(t, json.Unmarshal(text, &doc))
	defs, _ := doc["$defs"].(map[string]any)
	known := []any{"null", "boolean", "object", "array", "number", "string", "integer"}
	var visit func(s map[string]any)
	visit = func(s map[string]any) {
		if ref, ok := s["$ref"].(string); ok {
			require.Contains(t, defs, strings.TrimPrefix(ref, "#/$defs/"))
		}
		switch typ := s["type"].(type) {
		case []any:
			require.Subset(t, known, typ)
		case string:
			require.Contains(t, known, typ)
		default:
			require.Nil(t, typ)
		}
		for _, nested := range []string{"anyOf"} {
			list, _ := s[nested].([]any)
			for _, inner := range list {
				visit(inner.(map[string]any))
			}
		}
		for _, nested := range []string{"items", "additionalProperties", "propertyNames"} {
			if inner, ok := s[nested].(map[string]any); ok {
				visit(inner)
			}
		}
		for _, nested := range []string{"properties", "$defs"} {
			members, _ := s[nested].(map[string]any)
			for _, inner := range members {
				visit(inner.(map[string]any))
			}
		}
		if required, ok := s["required"].([]any); ok {
			for _, name := range required {
				require.Contains(t, s["properties"], name)
			}
		}
	}
	visit(doc)
}

// FuzzParse checks that no text makes the parser panic, and that what it reads
// is written and read again without change, as lines and as JSON Schema.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		if typ, err := schema.Parse(text); err == nil {
			line := typ.String()
			again, err := schema.Parse(line)
			require.NoError(t, err, line)
			require.Equal(t, line, again.String())
		}
		fields, err := schema.ParseParams(text)
		if err != nil {
			return
		}
		line := schema.Params(fields)
		again, err := schema.ParseParams(line)
		require.NoError(t, err, line)
		require.Equal(t, line, schema.Params(again))
		doc, err := schema.ParamsJSON(fields)
		require.NoError(t, err)
		resolves(t, doc)
	})
}

// TestGeneratedCodeComesBack reads the lines in the generated code of this
// module, which its generator wrote.
func TestGeneratedCodeComesBack(t *testing.T) {
	line := regexp.MustCompile(`(?m)^\t\t(Params|Result):\s+("(?:[^"\\]|\\.)*"),$`)
	files, err := filepath.Glob("../../*/*/tasks_gen.go")
	require.NoError(t, err)
	more, err := filepath.Glob("../../*/*/*/tasks_gen.go")
	require.NoError(t, err)
	seen := map[string]int{}
	for _, path := range append(files, more...) {
		src, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, found := range line.FindAllStringSubmatch(string(src), -1) {
			text, err := strconv.Unquote(found[2])
			require.NoError(t, err)
			seen[found[1]]++
			if found[1] == "Params" {
				fields, err := schema.ParseParams(text)
				require.NoError(t, err, text)
				require.Equal(t, text, schema.Params(fields))
				continue
			}
			typ, err := schema.Parse(text)
			require.NoError(t, err, text)
			require.Equal(t, text, typ.String())
		}
	}
	require.Positive(t, seen["Params"])
	require.Positive(t, seen["Result"])
}
