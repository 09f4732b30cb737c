package scan

import (
	"cmp"
	"fmt"
	"go/types"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// Field is one encoded field of a struct.
type Field struct {
	Path      string // path from the struct: Name, or Base.Name in an embedded one
	Key       string // on the wire
	OmitEmpty bool   // omitted if empty, and may be missing
	Type      *Type
	Default   *Value // in one parameter: its value if a message lacks it; nil: an error, unless OmitEmpty
}

// Name returns the field's own name, without those of embedded structs.
func (f *Field) Name() string { return f.Path[strings.LastIndexByte(f.Path, '.')+1:] }

// fields converts a struct's fields as msgpack/v5 does, which inlines embedded
// structs.
func (c *converter) fields(t types.Type, s *types.Struct, path string) ([]*Field, *culprit) {
	var fields []*Field
	byKey := map[string]string{}
	for i := range s.NumFields() {
		more, bad := c.field(t, s.Field(i), reflect.StructTag(s.Tag(i)), path)
		if bad != nil {
			return nil, bad
		}
		for _, f := range more {
			if other, twice := byKey[f.Key]; twice {
				return nil, &culprit{path: path + "." + f.Path, why: fmt.Sprintf("has the key %q, as %s.%s has", f.Key, path, other)}
			}
			byKey[f.Key] = f.Path
		}
		fields = append(fields, more...)
	}
	return fields, nil
}

// field converts one field: to none if its tag is "-", to several if it is an
// embedded struct.
func (c *converter) field(t types.Type, v *types.Var, structTag reflect.StructTag, path string) ([]*Field, *culprit) {
	whole := path
	path += "." + v.Name()
	tag, why := parseTag(v, structTag)
	if tag.skip {
		return nil, nil
	}
	if hint := c.foreignHint(t, v, tag.inline); hint != "" {
		return nil, &culprit{path: whole, why: hint, skippable: true}
	}
	if why = cmp.Or(why, c.hidden(t, v, tag.inline)); why != "" {
		return nil, &culprit{path: path, why: why}
	}
	converted, bad := c.convert(v.Type(), path)
	if bad != nil {
		return nil, c.canSkip(v, c.blame(v, bad))
	}
	if tag.inline && converted.Kind == Struct {
		return inline(v.Name(), converted), nil
	}
	f := &Field{Path: v.Name(), Key: cmp.Or(tag.key, v.Name()), OmitEmpty: tag.omitEmpty, Type: converted}
	if why := c.unsupported(v, f, tag.inline); why != "" {
		return nil, &culprit{path: path, why: why}
	}
	return []*Field{f}, nil
}

// fieldTag is the msgpack tag of a field.
type fieldTag struct {
	skip      bool
	key       string // "": the field's name
	omitEmpty bool
	inline    bool // the field is embedded, and its fields are encoded as its parent's
}

// parseTag parses the tag of a field, or returns the reason why it is not supported.
func parseTag(v *types.Var, structTag reflect.StructTag) (tag fieldTag, why string) {
	key, rest, _ := strings.Cut(structTag.Get("msgpack"), ",")
	if key == "-" {
		return fieldTag{skip: true}, ""
	}
	if strings.ContainsFunc(key, oddInKey) || strings.TrimSpace(key) != key {
		// msgpack/v5 has its own syntax for tags, and trims them.
		return tag, fmt.Sprintf("has the msgpack key %q, which is not supported; write letters, digits, '_', '-', '.', '/' and blanks between them", key)
	}
	options := strings.FieldsFunc(rest, func(r rune) bool { return r == ',' })
	for _, o := range options {
		if o != "omitempty" && !(o == "noinline" && v.Embedded()) {
			return tag, fmt.Sprintf("has the msgpack option %q, which is not supported", o)
		}
	}
	return fieldTag{
		key:       key,
		omitEmpty: slices.Contains(options, "omitempty"),
		inline:    v.Embedded() && !slices.Contains(options, "noinline"),
	}, ""
}

// hidden returns why generated code cannot name a field of t, or "". An embedded struct
// may be unexported: its exported fields are promoted and encoded.
func (c *converter) hidden(t types.Type, v *types.Var, inlined bool) string {
	own := v.Pkg() != nil && v.Pkg().Path() == c.pkg.Path()
	promoted := inlined && isStruct(v.Type())
	switch {
	case v.Exported(), promoted && own:
		return ""
	case promoted:
		return fmt.Sprintf("is embedded and of a type that is not exported, whose fields only package %s can name; give %s a marshaller", v.Pkg().Name(), c.print(t))
	case own && protobuf(t):
		return fmt.Sprintf("is not exported and would be lost; give type %s, a protobuf message, MarshalBinary and UnmarshalBinary, which call proto.Marshal and proto.Unmarshal", c.print(t))
	case own:
		return fmt.Sprintf("is not exported and would be lost; give type %s a marshaller, or the field the tag msgpack:\"-\"", c.print(t))
	}
	if named, ok := types.Unalias(t).(*types.Named); ok {
		return fmt.Sprintf("is not exported and would be lost; give type %s MarshalBinary and UnmarshalBinary, or MarshalText and UnmarshalText", c.print(named))
	}
	return "is not exported and would be lost"
}

// unsupported returns why a field cannot be encoded although its type can, or "".
func (c *converter) unsupported(v *types.Var, f *Field, inlined bool) string {
	t := f.Type
	switch {
	case inlined && t.Kind == Pointer && t.Elem.Kind == Struct:
		return "is an embedded pointer, which is not supported; give the field a name"
	case inlined && !v.Exported():
		return "is not exported and would be lost: its type marshals itself; give the field a name"
	case f.OmitEmpty && t.Kind == Custom && !t.IsZero && !t.NilIs:
		return fmt.Sprintf("is omitempty, but a %s cannot be tested for empty; give it an IsZero method", c.print(v.Type()))
	}
	return ""
}

// blame adds the underlying type error of a field.
func (c *converter) blame(v *types.Var, bad *culprit) *culprit {
	if bad.undeclared {
		bad.undeclared = false
		bad.generated = c.pass.undeclaredField(v)
		if name := c.pass.cType(v); name != "" {
			bad.why, bad.skippable = ofC(name), true
			return bad
		}
		bad.why += c.pass.explain(v)
	}
	return bad
}

func isStruct(t types.Type) bool {
	_, ok := t.Underlying().(*types.Struct)
	return ok
}

// oddInKey reports characters that msgpack/v5 might not take as part of a key.
func oddInKey(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) && !strings.ContainsRune("_-./ ", r)
}

// inline returns the fields of an embedded struct as fields of its parent.
func inline(name string, embedded *Type) []*Field {
	var fields []*Field
	for _, f := range embedded.Fields {
		again := *f
		again.Path = name + "." + f.Path
		fields = append(fields, &again)
	}
	return fields
}
