package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strings"
)

// draft is the dialect of the schemas.
const draft = "https://json-schema.org/draft/2020-12/schema"

// ParamsJSON returns a JSON Schema of the parameters as an object, on one line.
// Binary is base64, and a duration a number of nanoseconds.
func ParamsJSON(fields []Field) (json.RawMessage, error) {
	return document(&Type{Kind: Struct, Fields: fields})
}

// JSON returns a JSON Schema of the type, on one line.
func (t *Type) JSON() (json.RawMessage, error) { return document(t) }

func document(root *Type) (json.RawMessage, error) {
	order, names := named(root)
	d := &describer{names: names}
	doc := object{{"$schema", draft}}
	doc = append(doc, d.describe(root)...)
	var defs object
	for _, t := range order {
		defs = append(defs, member{names[t], d.shape(t)})
	}
	if defs != nil {
		doc = append(doc, member{"$defs", defs})
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write JSON Schema: %w", err)
	}
	return text, nil
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
type describer struct{ names map[*Type]string }

// describe returns a reference to a named type, and the schema of any other.
func (d *describer) describe(t *Type) object {
	if name := d.names[t]; name != "" {
		return object{{"$ref", "#/$defs/" + url.PathEscape(name)}}
	}
	return d.shape(t)
}

func (d *describer) shape(t *Type) object {
	switch t.Kind {
	case Scalar:
		return scalar(t.Name)
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
		if !f.Dispensable() {
			required = append(required, f.Key)
		}
	}
	o := object{{"type", "object"}, {"properties", properties}}
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
		o = append(o, member{"propertyNames", object{{"pattern", "^[0-9]+$"}}})
	default:
		o = append(o, member{"propertyNames", object{{"pattern", "^-?[0-9]+$"}}})
	}
	return append(o, member{"additionalProperties", d.describe(t.Elem)})
}

func scalar(name string) object {
	if low, high, ok := IntegerRange(name); ok {
		o := object{{"type", "integer"}, {"minimum", low}, {"maximum", high}}
		if name == "duration" {
			o = append(o, member{"description", "nanoseconds"})
		}
		return o
	}
	switch name {
	case "bool":
		return object{{"type", "boolean"}}
	case "time":
		return object{{"type", "string"}, {"format", "date-time"}}
	case "float32", "float64":
		return object{{"type", "number"}}
	}
	return object{{"type", "string"}}
}

// own returns the schema of a type that marshals itself. Only the form of text and
// binary is known.
func own(t *Type) object {
	title := member{"title", t.Name}
	switch t.Method {
	case "text":
		return object{title, {"type", "string"}}
	case "binary":
		return object{title, {"type", "string"}, {"contentEncoding", "base64"}}
	}
	return object{title}
}

// nullable also allows null.
func nullable(o object) object {
	for i, m := range o {
		if m.name != "type" {
			continue
		}
		if one, ok := m.value.(string); ok {
			o[i].value = []string{one, "null"}
		}
		return o
	}
	if o[0].name == "$ref" {
		return object{{"anyOf", []object{o, {{"type", "null"}}}}}
	}
	return o // allows everything, or allows null already
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
