package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
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
	shape, defs := describe(root, written, "#/$defs/")
	doc := append(object{{"$schema", draft}}, shape...)
	if defs != nil {
		doc = append(doc, member{"$defs", defs})
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write JSON Schema: %w", err)
	}
	return text, nil
}

// Definition is the JSON Schema of a named type.
type Definition struct {
	Name   string
	Schema json.RawMessage
}

// Describe returns a JSON Schema of the type for a document that has others: of what
// package jsonform reads, or of what it writes. defs are the types in it that occur several
// times, to which it refers by prefix and name.
func (t *Type) Describe(written bool, prefix string) (text json.RawMessage, defs []Definition, err error) {
	shape, named := describe(t, written, prefix)
	if text, err = json.Marshal(shape); err != nil {
		return nil, nil, fmt.Errorf("write JSON Schema: %w", err)
	}
	for _, m := range named {
		one, err := json.Marshal(m.value)
		if err != nil {
			return nil, nil, fmt.Errorf("write JSON Schema of %s: %w", m.name, err)
		}
		defs = append(defs, Definition{m.name, one})
	}
	return text, defs, nil
}

func describe(root *Type, written bool, prefix string) (shape, defs object) {
	order, names := named(root)
	d := &describer{names, written, prefix}
	for _, t := range order {
		defs = append(defs, member{names[t], d.shape(t)})
	}
	return d.describe(root), defs
}

// object is a JSON object with ordered members.
type object []member

type member struct {
	name  string
	value any
}

// MarshalJSON writes the members in order.
func (o object) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			out.WriteByte(',')
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		out.Write(name)
		out.WriteByte(':')
		out.Write(value)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// describer makes JSON Schemas of types.
type describer struct {
	names   map[*Type]string
	written bool   // of what is written, not read
	prefix  string // of references
}

// describe returns a reference to a named type, and the schema of any other.
func (d *describer) describe(t *Type) object {
	if name := d.names[t]; name != "" {
		return object{{"$ref", d.prefix + url.PathEscape(name)}}
	}
	return d.shape(t)
}

func (d *describer) shape(t *Type) object {
	switch t.Kind {
	case Scalar:
		return d.scalar(t.Name)
	case Bytes:
		return object{{"type", []string{"string", "null"}}, {"contentEncoding", "base64"}}
	case FixedBytes:
		n := (t.Len + 2) / 3 * 4
		return object{{"type", "string"}, {"contentEncoding", "base64"}, {"minLength", n}, {"maxLength", n}}
	case Slice:
		return object{{"type", []string{"array", "null"}}, {"items", d.describe(t.Elem)}}
	case Array:
		return object{{"type", "array"}, {"items", d.describe(t.Elem)}, {"minItems", t.Len}, {"maxItems", t.Len}}
	case Map:
		return d.mapOf(t)
	case Pointer:
		return nullable(d.describe(t.Elem))
	case Own:
		return own(t)
	}
	return d.structOf(t)
}

func (d *describer) structOf(t *Type) object {
	properties, required := object{}, []string{}
	for _, f := range t.Fields {
		properties = append(properties, member{f.Key, d.describe(f.Type)})
		if d.written && !f.Optional || !f.Dispensable() {
			required = append(required, f.Key)
		}
	}
	o := object{{"type", "object"}, {"properties", properties}}
	if !d.written { // a reader of what is written has to expect the fields of newer versions
		o = append(o, member{"additionalProperties", false})
	}
	if len(required) > 0 {
		o = append(o, member{"required", required})
	}
	return o
}

func (d *describer) mapOf(t *Type) object {
	o := object{{"type", []string{"object", "null"}}}
	switch {
	case t.Key.Name == "string":
	case strings.HasPrefix(t.Key.Name, "u"):
		o = append(o, member{"propertyNames", object{{"pattern", unsigned}}})
	default:
		o = append(o, member{"propertyNames", object{{"pattern", signed}}})
	}
	return append(o, member{"additionalProperties", d.describe(t.Elem)})
}

// The texts of integers, and of durations.
const (
	unsigned = "^(0|[1-9][0-9]*)$"
	signed   = "^(0|-?[1-9][0-9]*)$"
	goText   = "^[+-]?(0|([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$"
)

func (d *describer) scalar(name string) object {
	switch name {
	case "bool":
		return object{{"type", "boolean"}}
	case "time":
		return object{{"type", "string"}, {"format", "date-time"}}
	case "float32", "float64":
		return object{{"anyOf", []object{{{"type", "number"}}, {{"enum", []string{"NaN", "Infinity", "-Infinity"}}}}}}
	case "duration":
		return d.duration()
	}
	low, high, ok := IntegerRange(name)
	if !ok {
		return object{{"type", "string"}}
	}
	bounds := object{{"minimum", low}, {"maximum", high}}
	if high <= maxSafe {
		return append(object{{"type", "integer"}}, bounds...)
	}
	o := append(object{{"type", []string{"integer", "string"}}}, bounds...)
	if low == 0 {
		return append(o, member{"pattern", unsigned}, member{"format", "uint64"})
	}
	return append(o, member{"pattern", signed}, member{"format", "int64"})
}

// maxSafe is the largest integer that is always a number in JSON.
const maxSafe = 1<<53 - 1

// duration returns the schema of a duration: text, or also nanoseconds.
func (d *describer) duration() object {
	if d.written {
		return object{{"type", "string"}, {"pattern", goText}, {"description", "a duration in Go's text, such as 1m30s"}}
	}
	low, high, _ := IntegerRange("duration")
	return object{
		{"type", []string{"string", "integer"}}, {"minimum", low}, {"maximum", high},
		{"pattern", strings.TrimSuffix(goText, "$") + "$|" + signed},
		{"description", "a duration in Go's text, such as 1m30s, or nanoseconds"},
	}
}

// own returns the schema of a type that marshals itself. Only the form of text and
// binary is known.
func own(t *Type) object {
	title := member{"title", t.Name}
	nullable := member{"type", []string{"string", "null"}}
	switch t.Method {
	case "text":
		return object{title, nullable}
	case "binary":
		return object{title, nullable, {"contentEncoding", "base64"}}
	}
	return object{title, {"description", "the JSON of what the type writes as MessagePack"}}
}

// nullable also allows null.
func nullable(o object) object {
	for i, m := range o {
		switch value := m.value.(type) {
		case string:
			if m.name == "type" {
				o[i].value = []string{value, "null"}
				return o
			}
		case []string:
			if m.name == "type" {
				if !slices.Contains(value, "null") {
					o[i].value = append(slices.Clone(value), "null")
				}
				return o
			}
		case []object:
			if m.name == "anyOf" {
				o[i].value = append(slices.Clone(value), object{{"type", "null"}})
				return o
			}
		}
	}
	if o[0].name == "$ref" {
		return object{{"anyOf", []object{o, {{"type", "null"}}}}}
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
