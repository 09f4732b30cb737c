package render

import (
	"go/ast"
	"go/types"
	"strconv"
	"strings"

	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/scan"
)

// typ renders a type as in the source, if its names can be used.
func (g *generator) typ(t types.Type) *jen.Statement {
	switch t := t.(type) {
	case *types.Alias:
		if obj := t.Obj(); obj.Pkg() != nil && (g.own(obj.Pkg().Path()) || obj.Exported() && !internal(obj.Pkg().Path())) {
			return g.object(obj, t.TypeArgs())
		}
		return g.typ(types.Unalias(t))
	case *types.Named:
		if alias := g.pkg.Alias(t); alias != nil {
			return g.object(alias.Obj(), alias.TypeArgs())
		}
		return g.object(t.Obj(), t.TypeArgs())
	case *types.Basic:
		return jen.Id(t.Name())
	case *types.Pointer:
		return jen.Op("*").Add(g.typ(t.Elem()))
	case *types.Slice:
		return jen.Index().Add(g.typ(t.Elem()))
	case *types.Array:
		return jen.Index(jen.Lit(int(t.Len()))).Add(g.typ(t.Elem()))
	case *types.Map:
		return jen.Map(g.typ(t.Key())).Add(g.typ(t.Elem()))
	case *types.Struct:
		return g.structType(t)
	}
	return jen.Id(types.TypeString(t, nil))
}

// internal reports whether not every package may import a path. An alias of such a
// package is written as the type that it stands for.
func internal(path string) bool { return strings.Contains("/"+path+"/", "/internal/") }

func (g *generator) object(obj *types.TypeName, args *types.TypeList) *jen.Statement {
	s := jen.Id(obj.Name())
	if obj.Pkg() != nil && !g.own(obj.Pkg().Path()) {
		s = g.names.qual(obj.Pkg().Path(), obj.Pkg().Name(), obj.Name())
	}
	if args.Len() == 0 {
		return s
	}
	var list []jen.Code
	for arg := range args.Types() {
		list = append(list, g.typ(arg))
	}
	return s.Types(list...)
}

// namesIn adds the names that a type is written with: of types, or of their imports.
func (g *generator) namesIn(t types.Type, used map[string]bool) {
	switch t := t.(type) {
	case *types.Alias:
		g.namesInObject(t.Obj(), t.TypeArgs(), used)
		g.namesIn(types.Unalias(t), used)
	case *types.Named:
		if alias := g.pkg.Alias(t); alias != nil {
			g.namesInObject(alias.Obj(), alias.TypeArgs(), used)
			return
		}
		g.namesInObject(t.Obj(), t.TypeArgs(), used)
	case *types.Basic:
		used[t.Name()] = true
	case *types.Map:
		g.namesIn(t.Key(), used)
		g.namesIn(t.Elem(), used)
	case *types.Struct:
		for f := range t.Fields() {
			g.namesIn(f.Type(), used)
		}
	case interface{ Elem() types.Type }: // a pointer, slice or array
		g.namesIn(t.Elem(), used)
	}
}

func (g *generator) namesInObject(obj *types.TypeName, args *types.TypeList, used map[string]bool) {
	used[obj.Name()] = true
	if obj.Pkg() != nil {
		used[g.names.imports[obj.Pkg().Path()]] = true
	}
	for arg := range args.Types() {
		g.namesIn(arg, used)
	}
}

// structType renders an anonymous struct with its tags, which are part of its
// identity.
func (g *generator) structType(t *types.Struct) *jen.Statement {
	var fields []jen.Code
	for i := range t.NumFields() {
		fields = append(fields, g.structField(t, i))
	}
	return jen.Struct(fields...)
}

// backquoted renders a tag with backquotes if possible.
func backquoted(tag string) *jen.Statement {
	if strconv.CanBackquote(tag) && visible(tag) == tag {
		return jen.Id("`" + tag + "`")
	}
	return jen.Lit(tag)
}

func (g *generator) structField(t *types.Struct, i int) *jen.Statement {
	v := t.Field(i)
	field := jen.Null()
	if !v.Embedded() {
		field = jen.Id(v.Name())
	}
	field.Add(g.typ(v.Type()))
	if tag := t.Tag(i); tag != "" {
		field.Add(backquoted(tag))
	}
	return field
}

func title(name string) string {
	if ast.IsExported(name) {
		return name
	}
	r := []rune(name)
	return strings.ToUpper(string(r[:1])) + string(r[1:])
}

// operand is a value that generated code can point to: an expression, and the number
// of pointers to follow to the value.
type operand struct {
	base  *jen.Statement
	stars int
}

func (o operand) starred(n int) *jen.Statement {
	return jen.Op(strings.Repeat("*", n)).Add(o.base.Clone())
}

// value returns the value itself.
func (o operand) value() *jen.Statement {
	if o.stars == 0 {
		return o.base.Clone()
	}
	return o.starred(o.stars)
}

// address returns a pointer to the value.
func (o operand) address() *jen.Statement {
	switch o.stars {
	case 0:
		return jen.Op("&").Add(o.base.Clone())
	case 1:
		return o.base.Clone()
	}
	return o.starred(o.stars - 1)
}

// primary returns the value before a selector, index or call. Go follows one pointer
// by itself, except to index a slice or map.
func (o operand) primary(slice bool) *jen.Statement {
	stars := o.stars
	if !slice && stars > 0 {
		stars--
	}
	if stars == 0 {
		return o.base.Clone()
	}
	return jen.Parens(o.starred(stars))
}

func (o operand) field(path string) operand {
	return operand{base: o.primary(false).Dot(path)}
}

// exact reports whether a type is that basic type itself, so that it needs no
// conversion.
func exact(t types.Type, kind types.BasicKind) bool {
	b, ok := types.Unalias(t).(*types.Basic)
	return ok && b.Kind() == kind
}

// byteElem reports whether the elements are of type byte itself.
func byteElem(t *scan.Type) bool { return exact(t.Elem.Go, types.Uint8) }
