package schema

import (
	"go/types"
	"strings"

	"github.com/taskgen/taskgen/internal/scan"
)

// OfParams returns the fields of a task's parameters.
func OfParams(t *scan.Task) []Field {
	c := converter{}
	var fields []Field
	for _, p := range t.Params {
		fields = append(fields, Field{Key: p.Name, Old: p.Old, Type: c.convert(p.Type), Default: p.Default != nil})
	}
	return fields
}

// OfResult returns the type of a task's result, or nil if it has none.
func OfResult(t *scan.Task) *Type {
	if t.Result == nil {
		return nil
	}
	c := converter{}
	return c.convert(t.Result)
}

// converter converts scan's types. By id, it keeps structs, which are converted once,
// and types that contain themselves.
type converter map[string]*Type

func (c converter) convert(s *scan.Type) *Type {
	id := s.ID()
	if t := c[id]; t != nil {
		return t
	}
	t := &Type{Name: declared(s.Go)}
	if t.Name != "" && (s.Kind == scan.Struct || s.Recursive) {
		c[id] = t
	}
	c.fill(t, s)
	return t
}

// fill sets t to the form of s.
func (c converter) fill(t *Type, s *scan.Type) {
	switch s.Kind {
	case scan.Basic:
		t.Kind, t.Name = Scalar, types.Typ[s.Basic.Kind()].Name()
		if s.IsDuration() {
			t.Name = "duration"
		}
	case scan.Time:
		t.Kind, t.Name = Scalar, "time"
	case scan.Bytes:
		t.Kind = Bytes
	case scan.ByteArray:
		t.Kind, t.Len = FixedBytes, s.Len
	case scan.Slice:
		t.Kind, t.Elem = Slice, c.convert(s.Elem)
	case scan.Array:
		t.Kind, t.Len, t.Elem = Array, s.Len, c.convert(s.Elem)
	case scan.Map:
		t.Kind, t.Key, t.Elem = Map, c.convert(s.Key), c.convert(s.Elem)
	case scan.Pointer:
		t.Kind, t.Elem = Pointer, c.convert(s.Elem)
	case scan.Struct:
		t.Kind = Struct
		for _, f := range s.Fields {
			t.Fields = append(t.Fields, Field{Key: f.Key, Type: c.convert(f.Type), Optional: f.OmitEmpty})
		}
	case scan.Custom:
		t.Kind, t.Method, t.Name = Own, strings.ToLower(s.Method), types.TypeString(types.Unalias(s.Go), nil)
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
