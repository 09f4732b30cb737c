package scan

import (
	"go/types"
	"strings"

	"github.com/taskgen/taskgen/internal/schema"
)

// WireParams returns the wire form of the task's parameters.
func (t *Task) WireParams() []schema.Field {
	c := wireConverter{}
	var fields []schema.Field
	for _, p := range t.Params {
		fields = append(fields, schema.Field{Key: p.Name, Old: p.Old, Type: c.convert(p.Type), Default: p.Default != nil})
	}
	return fields
}

// WireResult returns the wire form of the task's result, or nil if it has none.
func (t *Task) WireResult() *schema.Type {
	if t.Result == nil {
		return nil
	}
	c := wireConverter{}
	return c.convert(t.Result)
}

// wireConverter converts a package's types. By id, it keeps structs, which are converted once,
// and types that contain themselves.
type wireConverter map[string]*schema.Type

func (c wireConverter) convert(s *Type) *schema.Type {
	id := s.ID()
	if t := c[id]; t != nil {
		return t
	}
	t := &schema.Type{Name: declared(s.Go)}
	if t.Name != "" && (s.Kind == Struct || s.Recursive) {
		c[id] = t
	}
	c.fill(t, s)
	return t
}

// fill sets t to the form of s.
func (c wireConverter) fill(t *schema.Type, s *Type) {
	switch s.Kind {
	case Basic:
		t.Kind, t.Name = schema.Scalar, types.Typ[s.Basic.Kind()].Name()
		if s.IsDuration() {
			t.Name = "duration"
		}
	case Time:
		t.Kind, t.Name = schema.Scalar, "time"
	case Bytes:
		t.Kind = schema.Bytes
	case ByteArray:
		t.Kind, t.Len = schema.FixedBytes, s.Len
	case Slice:
		t.Kind, t.Elem = schema.Slice, c.convert(s.Elem)
	case Array:
		t.Kind, t.Len, t.Elem = schema.Array, s.Len, c.convert(s.Elem)
	case Map:
		t.Kind, t.Key, t.Elem = schema.Map, c.convert(s.Key), c.convert(s.Elem)
	case Pointer:
		t.Kind, t.Elem = schema.Pointer, c.convert(s.Elem)
	case Struct:
		t.Kind = schema.Struct
		for _, f := range s.Fields {
			t.Fields = append(t.Fields, schema.Field{Key: f.Key, Type: c.convert(f.Type), Optional: f.OmitEmpty, Default: f.Default != nil})
		}
	case Custom:
		t.Kind, t.Method, t.Name = schema.Own, strings.ToLower(s.Method), types.TypeString(types.Unalias(s.Go), nil)
		t.NilIs = s.NilIs
		for _, arg := range s.Args {
			t.Args = append(t.Args, wireConverter{}.convert(arg).String())
		}
	}
}

// declared returns the name of a declared type, followed by those of its type
// arguments: PageItem for Page[Item].
func declared(t types.Type) string {
	named, ok := types.Unalias(t).(*types.Named)
	if !ok {
		return ""
	}
	name := named.Obj().Name()
	for arg := range named.TypeArgs().Types() {
		switch arg := types.Unalias(arg).(type) {
		case *types.Basic:
			name += strings.ToUpper(arg.Name()[:1]) + arg.Name()[1:]
		default:
			name += declared(arg)
		}
	}
	return name
}
