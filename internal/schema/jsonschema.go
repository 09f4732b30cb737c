package schema

import (
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/internal/ordered"
)

// draft is the dialect of the schemas.
const draft = "https://json-schema.org/draft/2020-12/schema"

// ParamsJSON returns a JSON Schema of the parameters as an object, on one line: what package
// jsonform reads.
func ParamsJSON(fields []Field) (json.RawMessage, error) {
	return document(&Type{Kind: Struct, Fields: fields}, false)
}

// JSON returns a JSON Schema of the type, on one line: what package jsonform writes.
func (t *Type) JSON() (json.RawMessage, error) { return document(t, true) }

func document(root *Type, written bool) (json.RawMessage, error) {
	shape, defs := root.Describe(written, func(name string) string { return "#/$defs/" + url.PathEscape(name) })
	doc := append(ordered.Object{{"$schema", draft}}, shape...)
	if defs != nil {
		doc = append(doc, ordered.Member{"$defs", defs})
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write JSON Schema: %w", err)
	}
	return text, nil
}

// Describe returns a JSON Schema of the type for a document that has others: of what
// package jsonform reads, or of what it writes. defs are the types in it that occur several
// times, by their names; ref returns the reference to one.
func (t *Type) Describe(written bool, ref func(name string) string) (shape, defs ordered.Object) {
	order, names := named(t)
	d := &describer{names, written, ref}
	for _, t := range order {
		defs.Add(names[t], d.shape(t))
	}
	return d.describe(t), defs
}

// describer makes JSON Schemas of types.
type describer struct {
	names   map[*Type]string
	written bool // of what is written, not read
	ref     func(name string) string
}

// describe returns a reference to a named type, and the schema of any other.
func (d *describer) describe(t *Type) ordered.Object {
	if name := d.names[t]; name != "" {
		return ordered.Object{{"$ref", d.ref(name)}}
	}
	return d.shape(t)
}

func (d *describer) shape(t *Type) ordered.Object {
	switch t.Kind {
	case Scalar:
		return d.scalar(t.Name)
	case Bytes:
		return ordered.Object{{"type", []string{"string", "null"}}, {"contentEncoding", "base64"}}
	case FixedBytes:
		n := (t.Len + 2) / 3 * 4
		return ordered.Object{{"type", "string"}, {"contentEncoding", "base64"}, {"minLength", n}, {"maxLength", n}}
	case Slice:
		return ordered.Object{{"type", []string{"array", "null"}}, {"items", d.describe(t.Elem)}}
	case Array:
		return ordered.Object{{"type", "array"}, {"items", d.describe(t.Elem)}, {"minItems", t.Len}, {"maxItems", t.Len}}
	case Map:
		return d.mapOf(t)
	case Pointer:
		return nullable(d.describe(t.Elem))
	case Own:
		return own(t)
	}
	return d.structOf(t)
}

func (d *describer) structOf(t *Type) ordered.Object {
	properties, required := ordered.Object{}, []string{}
	for _, f := range t.Fields {
		properties = append(properties, ordered.Member{f.Key, d.describe(f.Type)})
		if d.written && !f.Optional || !f.Dispensable() {
			required = append(required, f.Key)
		}
	}
	o := ordered.Object{{"type", "object"}, {"properties", properties}}
	if !d.written { // a reader of what is written has to expect the fields of newer versions
		o = append(o, ordered.Member{"additionalProperties", false})
	}
	if len(required) > 0 {
		o = append(o, ordered.Member{"required", required})
	}
	return o
}

func (d *describer) mapOf(t *Type) ordered.Object {
	o := ordered.Object{{"type", []string{"object", "null"}}}
	if names := d.key(t.Key); names != nil {
		o = append(o, ordered.Member{"propertyNames", names})
	}
	return append(o, ordered.Member{"additionalProperties", d.describe(t.Elem)})
}

// key returns the schema of a map's keys, or nil if they are any text.
func (d *describer) key(t *Type) ordered.Object {
	_, _, integer := IntegerRange(t.Name)
	switch {
	case t.Kind == Array, t.Kind == Own && t.Method != "text" && t.Method != "binary":
		return ordered.Object{{"contentMediaType", "application/json"}}
	case t.Kind == Own && t.Method == "text":
		return ordered.Object{{"title", t.Name}}
	case t.Kind == Own:
		return ordered.Object{{"title", t.Name}, {"contentEncoding", "base64"}}
	case t.Kind == FixedBytes:
		return d.shape(t)
	case t.Name == "string":
		return nil
	case t.Name == "bool":
		return ordered.Object{{"enum", []string{"true", "false"}}}
	case t.Name == "time":
		return d.scalar(t.Name)
	case integer && strings.HasPrefix(t.Name, "u"):
		return ordered.Object{{"pattern", unsigned}}
	}
	return ordered.Object{{"pattern", signed}}
}

// The texts of integers, and of durations.
const (
	unsigned = "^(0|[1-9][0-9]*)$"
	signed   = "^(0|-?[1-9][0-9]*)$"
	goText   = "^[+-]?(0|([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$"
)

func (d *describer) scalar(name string) ordered.Object {
	switch name {
	case "bool":
		return ordered.Object{{"type", "boolean"}}
	case "time":
		return ordered.Object{{"type", "string"}, {"format", "date-time"}}
	case "float32", "float64":
		return ordered.Object{{"anyOf", []ordered.Object{{{"type", "number"}}, {{"enum", []string{"NaN", "Infinity", "-Infinity"}}}}}}
	case "duration":
		return d.duration()
	}
	low, high, ok := IntegerRange(name)
	if !ok {
		return ordered.Object{{"type", "string"}}
	}
	bounds := ordered.Object{{"minimum", low}, {"maximum", high}}
	if high <= maxSafe {
		return append(ordered.Object{{"type", "integer"}}, bounds...)
	}
	o := append(ordered.Object{{"type", []string{"integer", "string"}}}, bounds...)
	if low == 0 {
		return append(o, ordered.Member{"pattern", unsigned}, ordered.Member{"format", "uint64"})
	}
	return append(o, ordered.Member{"pattern", signed}, ordered.Member{"format", "int64"})
}

// maxSafe is the largest integer that is always a number in JSON.
const maxSafe = 1<<53 - 1

// duration returns the schema of a duration: text, or also nanoseconds.
func (d *describer) duration() ordered.Object {
	if d.written {
		return ordered.Object{{"type", "string"}, {"pattern", goText}, {"description", "a duration in Go's text, such as 1m30s"}}
	}
	low, high, _ := IntegerRange("duration")
	return ordered.Object{
		{"type", []string{"string", "integer"}}, {"minimum", low}, {"maximum", high},
		{"pattern", strings.TrimSuffix(goText, "$") + "$|" + signed},
		{"description", "a duration in Go's text, such as 1m30s, or nanoseconds"},
	}
}

// own returns the schema of a type that marshals itself. Only the form of text and
// binary is known.
func own(t *Type) ordered.Object {
	title := ordered.Member{"title", t.Name}
	nullable := ordered.Member{"type", []string{"string", "null"}}
	switch t.Method {
	case "text":
		return ordered.Object{title, nullable}
	case "binary":
		return ordered.Object{title, nullable, {"contentEncoding", "base64"}}
	}
	return ordered.Object{title, {"description", "the JSON of what the type writes as MessagePack"}}
}

// nullable also allows null.
func nullable(o ordered.Object) ordered.Object {
	for i, m := range o {
		switch value := m[1].(type) {
		case string:
			if m[0] == "type" {
				o[i][1] = []string{value, "null"}
				return o
			}
		case []string:
			if m[0] == "type" {
				if !slices.Contains(value, "null") {
					o[i][1] = append(slices.Clone(value), "null")
				}
				return o
			}
		case []ordered.Object:
			if m[0] == "anyOf" {
				o[i][1] = append(slices.Clone(value), ordered.Object{{"type", "null"}})
				return o
			}
		}
	}
	if o[0][0] == "$ref" {
		return ordered.Object{{"anyOf", []ordered.Object{o, {{"type", "null"}}}}}
	}
	return o // allows everything
}

// IntegerRange returns the bounds of an integer scalar, including duration; ok is
// false for other types. An int has 64 bits.
func IntegerRange(name string) (low int64, high uint64, ok bool) {
	switch name {
	case "int8":
		return math.MinInt8, math.MaxInt8, true
	case "int16":
		return math.MinInt16, math.MaxInt16, true
	case "int32":
		return math.MinInt32, math.MaxInt32, true
	case "int", "int64", "duration":
		return math.MinInt64, math.MaxInt64, true
	case "uint8":
		return 0, math.MaxUint8, true
	case "uint16":
		return 0, math.MaxUint16, true
	case "uint32":
		return 0, math.MaxUint32, true
	case "uint", "uint64":
		return 0, math.MaxUint64, true
	}
	return 0, 0, false
}
