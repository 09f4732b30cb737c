package openapi

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/taskgen/taskgen/internal/ordered"
)

// components has the schemas to which operations refer.
type components struct {
	schemas ordered.Object
	names   names
	known   map[known]string
}

// known is a Go type whose schema is there, of one task if it has parts of the task.
type known struct {
	typ  reflect.Type
	task string
}

// taskRefs are the references to what a task has.
type taskRefs struct {
	name           string // in names of components
	params, result ordered.Object
}

func (c *components) ref(name string) ordered.Object {
	return ordered.Object{{"$ref", refPrefix + name}}
}

const refPrefix = "#/components/schemas/"

var (
	paramsType  = reflect.TypeFor[Params]()
	resultType  = reflect.TypeFor[Result]()
	timeType    = reflect.TypeFor[time.Time]()
	jsonWriter  = reflect.TypeFor[json.Marshaler]()
	textWriter  = reflect.TypeFor[encoding.TextMarshaler]()
	bytesType   = reflect.TypeFor[[]byte]()
	durationFor = reflect.TypeFor[time.Duration]()
)

// schema returns the JSON Schema of a Go type as encoding/json writes it. Slices are never
// nil. t is the task of the operation, or nil.
func (c *components) schema(typ reflect.Type, t *taskRefs) ordered.Object {
	switch {
	case typ == paramsType && t != nil:
		return t.params
	case typ == resultType && t != nil:
		return t.result
	case typ == paramsType, typ == resultType:
		return ordered.Object{}
	case typ == timeType:
		return ordered.Object{{"type", "string"}, {"format", "date-time"}}
	case typ == bytesType:
		return ordered.Object{{"type", "string"}, {"contentEncoding", "base64"}}
	case typ.Implements(jsonWriter):
		return ordered.Object{}
	case typ.Implements(textWriter):
		return ordered.Object{{"type", "string"}}
	}
	switch typ.Kind() {
	case reflect.Bool:
		return ordered.Object{{"type", "boolean"}}
	case reflect.String:
		return ordered.Object{{"type", "string"}}
	case reflect.Float32, reflect.Float64:
		return ordered.Object{{"type", "number"}}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return ordered.Object{{"type", "integer"}}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return ordered.Object{{"type", "integer"}, {"minimum", 0}}
	case reflect.Slice, reflect.Array:
		return ordered.Object{{"type", "array"}, {"items", c.schema(typ.Elem(), t)}}
	case reflect.Map:
		return ordered.Object{{"type", "object"}, {"additionalProperties", c.schema(typ.Elem(), t)}}
	case reflect.Pointer:
		return ordered.Object{{"anyOf", []ordered.Object{c.schema(typ.Elem(), t), {{"type", "null"}}}}}
	case reflect.Struct:
		return c.structOf(typ, t)
	}
	return ordered.Object{} // an interface
}

// structOf returns a reference to the schema of a struct, or that of one without a name.
func (c *components) structOf(typ reflect.Type, t *taskRefs) ordered.Object {
	if typ.Name() == "" {
		return c.object(typ, t)
	}
	key, prefix := known{typ: typ}, ""
	if t != nil && ofTask(typ, map[reflect.Type]bool{}) {
		key.task, prefix = t.name, t.name
	}
	if name, ok := c.known[key]; ok {
		return c.ref(name)
	}
	name := c.names.unused(prefix + typeName(typ))
	c.known[key] = name
	at := len(c.schemas)
	c.schemas.Add(name, nil) // before those in it
	c.schemas[at][1] = c.object(typ, t)
	return c.ref(name)
}

// typeName returns a name for a Go type, without the View at its end: PageRun for
// page[path/to.run], Queue for queueView.
func typeName(typ reflect.Type) string {
	name, args, _ := strings.Cut(typ.Name(), "[")
	name = strings.TrimSuffix(name, "View")
	for arg := range strings.SplitSeq(strings.TrimSuffix(args, "]"), ",") {
		name += "_" + arg[max(strings.LastIndexByte(arg, '/'), strings.LastIndexByte(arg, '.'))+1:]
	}
	return camel(name)
}

// ofTask reports whether a part of a task is in a type.
func ofTask(typ reflect.Type, met map[reflect.Type]bool) bool {
	if met[typ] {
		return false
	}
	met[typ] = true
	switch typ.Kind() {
	case reflect.Slice, reflect.Array, reflect.Pointer, reflect.Map:
		return ofTask(typ.Elem(), met)
	case reflect.Struct:
		for i := range typ.NumField() {
			if ofTask(typ.Field(i).Type, met) {
				return true
			}
		}
	}
	return typ == paramsType || typ == resultType
}

// object returns the schema of a struct's fields.
func (c *components) object(typ reflect.Type, t *taskRefs) ordered.Object {
	properties, required := ordered.Object{}, []string{}
	var all []ordered.Object
	if t != nil && ofTask(typ, map[reflect.Type]bool{}) {
		// What it embeds is the same for all tasks, and written once.
		for f := range typ.Fields() {
			if f.Anonymous && f.Type.Kind() == reflect.Struct && !ofTask(f.Type, map[reflect.Type]bool{}) {
				all = append(all, c.structOf(f.Type, nil))
			}
		}
	}
	c.fields(typ, t, len(all) == 0, &properties, &required)
	o := ordered.Object{{"type", "object"}, {"properties", properties}}
	if len(required) > 0 {
		o.Add("required", required)
	}
	if len(all) > 0 {
		return ordered.Object{{"allOf", append(all, o)}}
	}
	return o
}

// fields adds those of a struct. A field replaces one of the same name before it: a struct that
// embeds another has its own fields behind it. Those of embedded structs can be left out.
func (c *components) fields(typ reflect.Type, t *taskRefs, embedded bool, properties *ordered.Object, required *[]string) {
	for f := range typ.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			if f.Type.Kind() == reflect.Pointer {
				f.Type = f.Type.Elem()
			}
			if embedded {
				c.fields(f.Type, t, true, properties, required)
			}
			continue
		case name == "-" && options == "", !f.IsExported():
			continue
		case name == "":
			name = f.Name
		}
		missing := strings.Contains(options, "omit")
		if missing && f.Type.Kind() == reflect.Pointer {
			f.Type = f.Type.Elem()
		}
		*properties = slices.DeleteFunc(*properties, func(m ordered.Member) bool { return m[0] == name })
		*required = slices.DeleteFunc(*required, func(known string) bool { return known == name })
		properties.Add(name, described(c.schema(f.Type, t), f.Tag))
		if !missing {
			*required = append(*required, name)
		}
	}
}

// described adds what the tags of a field say: doc, and the values of enum.
func described(o ordered.Object, tag reflect.StructTag) ordered.Object {
	o = o[:len(o):len(o)]
	if values := tag.Get("enum"); values != "" {
		o.Add("enum", strings.Split(values, ","))
	}
	if doc := tag.Get("doc"); doc != "" {
		o.Add("description", doc)
	}
	return o
}
