package jsonform_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	greeter "github.com/taskgen/taskgen/examples/greeter/tasks"
	imaging "github.com/taskgen/taskgen/examples/imaging/tasks"
	quickstart "github.com/taskgen/taskgen/examples/quickstart/tasks"
	shop "github.com/taskgen/taskgen/examples/shop/tasks"
	"github.com/taskgen/taskgen/internal/codectest"
	"github.com/taskgen/taskgen/internal/jsonform"
	"github.com/taskgen/taskgen/internal/schema"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// tasks returns the tasks of every encoded shape, and those of the examples.
func tasks() []taskrt.Task {
	return slices.Concat(codectest.Tasks(), greeter.Tasks(), imaging.Tasks(), quickstart.Tasks(nil), shop.Tasks())
}

// TestAcceptedJSONIsOfTheTask makes JSON of every task by its wire form. The task decodes
// what jsonform makes of it; what the task then encodes is written and read as the same
// bytes.
func TestAcceptedJSONIsOfTheTask(t *testing.T) {
	for _, task := range tasks() {
		t.Run(task.Name(), func(t *testing.T) {
			f := params(t, task.Spec().Params)
			read, written := schemas(t, f)
			for seed := range uint64(300) {
				g := &maker{rand.New(rand.NewPCG(seed, 1))}
				text := g.value(f.Type(), 0)
				payload, err := f.Encode([]byte(text))
				require.NoError(t, err, text)
				value, err := task.DecodeParams(payload)
				require.NoError(t, err, text)
				valid(t, read, text)
				valid(t, written, sameBytes(t, f, task, value))
			}
		})
	}
}

// sameBytes encodes a value by its task, and checks that its JSON is read as the same bytes.
func sameBytes(t *testing.T, f *jsonform.Form, task taskrt.Task, value any) string {
	t.Helper()
	payload, err := task.EncodeParams(value)
	require.NoError(t, err)
	written, err := f.Decode(payload)
	require.NoError(t, err)
	require.True(t, json.Valid(written), "%s", written)
	again, err := f.Encode(written)
	require.NoError(t, err, "%s", written)
	require.Equal(t, payload, again, "%s", written)
	return string(written)
}

// schemas returns the JSON Schemas of what a form reads and writes.
func schemas(t testing.TB, f *jsonform.Form) (read, written *jsonschema.Schema) {
	t.Helper()
	compile := func(name string, text json.RawMessage, err error) *jsonschema.Schema {
		require.NoError(t, err)
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		require.NoError(t, err)
		c := jsonschema.NewCompiler()
		c.AssertFormat()
		c.AssertContent()
		require.NoError(t, c.AddResource(name, doc))
		s, err := c.Compile(name)
		require.NoError(t, err)
		return s
	}
	text, err := schema.ParamsJSON(f.Fields())
	read = compile("read.json", text, err)
	text, err = f.Type().JSON()
	return read, compile("written.json", text, err)
}

// valid checks a JSON text by a schema.
func valid(t *testing.T, s *jsonschema.Schema, text string) {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	require.NoError(t, err)
	require.NoError(t, s.Validate(value), "%s", text)
}

// maker makes JSON of types.
type maker struct {
	*rand.Rand
}

func (g *maker) value(t *schema.Type, depth int) string {
	if slices.Contains([]schema.Kind{schema.Bytes, schema.Slice, schema.Map, schema.Pointer}, t.Kind) && (depth > 6 || g.IntN(6) == 0) {
		return "null"
	}
	switch t.Kind {
	case schema.Scalar:
		return g.scalar(t.Name)
	case schema.Bytes:
		return g.base64(g.IntN(5))
	case schema.FixedBytes:
		return g.base64(int(t.Len))
	case schema.Slice:
		return g.list(t.Elem, g.IntN(4), depth)
	case schema.Array:
		return g.list(t.Elem, int(t.Len), depth)
	case schema.Map:
		var members []string
		seen := map[string]bool{}
		for range g.IntN(5) {
			key := g.key(t.Key, depth)
			if !seen[key] {
				members = append(members, key+" :\t"+g.value(t.Elem, depth+1))
			}
			seen[key] = true
		}
		return "{" + strings.Join(members, ",") + "}"
	case schema.Pointer:
		return g.value(t.Elem, depth+1)
	case schema.Struct:
		return g.structOf(t, depth)
	}
	return g.own(t.Name)
}

func (g *maker) structOf(t *schema.Type, depth int) string {
	var members []string
	for _, i := range g.Perm(len(t.Fields)) {
		f := t.Fields[i]
		if f.Dispensable() && (depth > 6 || g.IntN(3) == 0) {
			continue
		}
		name, _ := json.Marshal(f.Key)
		members = append(members, string(name)+":"+g.value(f.Type, depth+1))
	}
	return "{" + strings.Join(members, ", ") + "}"
}

func (g *maker) list(elem *schema.Type, n, depth int) string {
	elements := make([]string, n)
	for i := range elements {
		elements[i] = g.value(elem, depth+1)
	}
	return "[" + strings.Join(elements, " ,\n") + "]"
}

func (g *maker) base64(n int) string {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(g.Uint32())
	}
	return strconv.Quote(base64.StdEncoding.EncodeToString(data))
}

func (g *maker) pick(texts ...string) string { return texts[g.IntN(len(texts))] }

func (g *maker) key(t *schema.Type, depth int) string {
	_, _, isInteger := schema.IntegerRange(t.Name)
	if t.Kind != schema.Scalar || !isInteger && t.Name != "string" {
		text := g.value(t, depth+1)
		if text[0] == '"' && (t.Kind != schema.Own || t.Method == "text" || t.Method == "binary") {
			return text
		}
		return quoted(text)
	}
	if t.Name == "string" {
		return g.pick(`""`, `"a"`, `"ä"`, `"~/"`, `"\u0000"`, `"b c"`, strconv.Quote(strconv.Itoa(g.IntN(100))))
	}
	return strconv.Quote(g.integer(t.Name))
}

func quoted(text string) string {
	b, _ := json.Marshal(text)
	return string(b)
}

// integer returns an integer of the type, often one of its bounds.
func (g *maker) integer(name string) string {
	low, high, _ := schema.IntegerRange(name)
	switch g.IntN(4) {
	case 0:
		return strconv.FormatInt(low, 10)
	case 1:
		return strconv.FormatUint(high, 10)
	case 2:
		return strconv.FormatUint(g.Uint64()>>g.IntN(64)&high, 10)
	}
	return strconv.Itoa(g.IntN(100))
}

func (g *maker) scalar(name string) string {
	switch name {
	case "bool":
		return g.pick("true", "false")
	case "string":
		return g.pick(`""`, `"plain"`, `"\ud83d\ude00 \"\\\/\b\f\n\r\t"`, `"***"`, `"</script>"`)
	case "time":
		return g.pick(`"0001-01-01T00:00:00Z"`, `"2026-11-30T20:15:00.123456789Z"`, `"9999-12-31T23:59:59.999999999Z"`,
			`"0000-01-01T00:00:00Z"`, `"1969-12-31T23:59:59.5-07:00"`, fmt.Sprintf(`"20%02d-02-28T01:02:03+01:00"`, g.IntN(100)))
	case "float32":
		return g.pick("0", "-0", "0.1", "3.4028234663852886e38", "-1.401298464324817e-45", `"NaN"`, `"Infinity"`, "16777217")
	case "float64":
		return g.pick("0", "-0", "0.1", "1.7976931348623157e308", "5e-324", `"NaN"`, `"-Infinity"`, "1e21", strconv.FormatFloat(g.NormFloat64(), 'g', -1, 64))
	}
	switch {
	case name == "duration" && g.IntN(2) == 0:
		return g.pick(`"0"`, `"1m30s"`, `"-1.5h"`, `"2562047h47m16.854775807s"`, `"3µs"`)
	case jsonform.Wide(name) && g.IntN(2) == 0:
		return strconv.Quote(g.integer(name))
	}
	return g.integer(name)
}

// own returns JSON of the types in package codectest that marshal themselves.
func (g *maker) own(name string) string {
	switch name[strings.LastIndex(name, "/")+1:] {
	case "netip.Addr":
		return g.pick(`""`, `"fwAAAQ=="`)
	case "url.URL":
		return g.pick("null", strconv.Quote(base64.StdEncoding.EncodeToString([]byte("https://example.com/a?b=c#d"))))
	case "big.Int", "codectest.Amount":
		return g.pick(`"0"`, `"-123456789012345678901234567890"`)
	case "big.Rat":
		return g.pick(`"0"`, `"-1/3"`)
	case "big.Float":
		return g.pick(`"0"`, `"1.5"`)
	case "regexp.Regexp":
		return `"^a+$"`
	case "codectest.Celsius":
		return g.pick(`"\u0000"`, `"A"`)
	case "codectest.Version":
		return `"AQI="`
	case "codectest.Duo":
		return g.pick(`["x",5]`, `["",-9007199254740991]`, "null", `["ä",{"$msgpack":"zwAgAAAAAAAA"}]`)
	case "codectest.Raw":
		return g.pick("null", `{"b":[1.0,1,-1,1e300],"a":{}}`, `"x"`, `{"$msgpack":"xAEA"}`, "[[[]]]", "true")
	}
	panic(name)
}

// own reports whether a value of a type that marshals itself is in the type: the type alone
// knows its values.
func own(t *schema.Type, met map[*schema.Type]bool) bool {
	if t == nil || met[t] {
		return false
	}
	met[t] = true
	for _, f := range t.Fields {
		if own(f.Type, met) {
			return true
		}
	}
	return t.Kind == schema.Own || own(t.Key, met) || own(t.Elem, met)
}

// FuzzEncode checks that a task decodes what is made of any accepted JSON, and that neither
// encoding/json nor the JSON Schema of the task refuses that JSON.
func FuzzEncode(f *testing.F) {
	all := tasks()
	var read []*jsonschema.Schema
	for i, task := range all {
		form, err := jsonform.Params(task.Spec().Params)
		require.NoError(f, err)
		s, _ := schemas(f, form)
		read = append(read, s)
		for seed := range uint64(3) {
			f.Add(i, (&maker{rand.New(rand.NewPCG(seed, 2))}).value(form.Type(), 0))
		}
	}
	f.Fuzz(func(t *testing.T, i int, text string) {
		if i < 0 || i >= len(all) || len(text) > 100_000 {
			return
		}
		task := all[i]
		form := params(t, task.Spec().Params)
		payload, err := form.Encode([]byte(text))
		if err != nil {
			require.NotPanics(t, func() { _ = err.Error() })
			return
		}
		require.True(t, json.Valid([]byte(text)), "%q", text)
		require.LessOrEqual(t, len(payload), 5*len(text)+5)
		valid(t, read[i], text)
		value, err := task.DecodeParams(payload)
		if own(form.Type(), map[*schema.Type]bool{}) {
			return
		}
		require.NoError(t, err, text)
		if _, err := task.EncodeParams(value); err == nil { // it may be too deep to encode
			sameBytes(t, form, task, value)
		}
	})
}

// FuzzDecode checks that what a task decodes can be shown, and that JSON which is exact is
// read as a payload with the same JSON.
func FuzzDecode(f *testing.F) {
	all := tasks()
	for i, task := range all {
		form, err := jsonform.Params(task.Spec().Params)
		require.NoError(f, err)
		payload, err := form.Encode([]byte((&maker{rand.New(rand.NewPCG(7, 2))}).value(form.Type(), 0)))
		require.NoError(f, err)
		f.Add(i, payload)
	}
	f.Fuzz(func(t *testing.T, i int, payload []byte) {
		if i < 0 || i >= len(all) || len(payload) > 100_000 {
			return
		}
		task := all[i]
		form := params(t, task.Spec().Params)
		shown, err := form.DecodeWith(payload, jsonform.Output{Lossy: true})
		if _, refused := task.DecodeParams(payload); refused != nil {
			return
		}
		require.NoError(t, err)
		require.True(t, json.Valid(shown), "%s", shown)
		exact, err := form.Decode(payload)
		if err != nil {
			return
		}
		require.Equal(t, shown, exact)
		again, err := form.Encode(exact)
		require.NoError(t, err, "%s", exact)
		back, err := form.Decode(again)
		require.NoError(t, err)
		require.JSONEq(t, string(exact), string(back))
	})
}
