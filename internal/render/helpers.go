package render

import (
	"go/types"

	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/scan"
)

// helper is the pair of functions that encode and decode one type: a struct, or a
// type that contains itself.
type helper struct {
	typ          *scan.Type
	append, read string
}

// hasHelper reports whether functions encode and decode the type. Other types are
// encoded in place.
func hasHelper(t *scan.Type) bool { return t.Kind == scan.Struct || t.Recursive }

// helperFor returns the helper of a type. A helper is rendered once.
func (g *generator) helperFor(t *scan.Type) *helper {
	if h := g.byType[t.ID()]; h != nil {
		return h
	}
	base := g.helperName(t.Go)
	h := &helper{typ: t, append: g.names.declare("append" + base), read: g.names.declare("read" + base)}
	g.byType[t.ID()] = h
	g.helpers = append(g.helpers, h)
	return h
}

// helperName returns a name made of the type's: Summary, ModelsItem, PageItem.
func (g *generator) helperName(t types.Type) string {
	switch t := types.Unalias(t).(type) {
	case *types.Named:
		name := title(t.Obj().Name())
		if p := t.Obj().Pkg(); p != nil && !g.own(p.Path()) {
			name = title(p.Name()) + name
		}
		for arg := range t.TypeArgs().Types() {
			name += g.helperName(arg)
		}
		return name
	case *types.Basic:
		return title(t.Name())
	case *types.Pointer:
		return g.helperName(t.Elem())
	case *types.Slice:
		return g.helperName(t.Elem()) + "s"
	case *types.Array:
		return g.helperName(t.Elem()) + "s"
	case *types.Map:
		return g.helperName(t.Elem()) + "Map"
	}
	return "Struct"
}

// callAppend renders the call that appends v by the helper of its type, within depth
// arrays and maps of the calling function.
func (g *generator) callAppend(t *scan.Type, v operand, depth int) *jen.Statement {
	args := []jen.Code{g.b(), v.address()}
	if g.deep && !g.inMap {
		depth = max(depth-1, 1)
	}
	switch {
	case t.Deep() && g.deep:
		args = append(args, jen.Id(g.names.local("depth")).Op("+").Lit(depth))
	case t.Deep():
		args = append(args, jen.Lit(depth))
	}
	return jen.Id(g.helperFor(t).append).Call(args...)
}

// helper renders the two functions of a helper.
func (g *generator) helper(h *helper) {
	var fields []*wireField
	for _, f := range h.typ.Fields {
		optional := f.OmitEmpty || f.Type.Kind == scan.Pointer || f.Default != nil
		field := &wireField{path: f.Path, key: f.Key, optional: optional, omit: f.OmitEmpty, typ: f.Type}
		if f.Default != nil && !f.Default.Nil {
			field.missing = f.Default
		}
		fields = append(fields, field)
	}
	v := g.names.local("v")
	if h.typ.Kind == scan.Struct && len(fields) == 0 {
		v = "_"
	}
	self := jen.Id(v).Op("*").Add(g.typ(h.typ.Go))
	g.appendHelper(h, fields, self)
	g.readHelper(h, fields, self)
}

// shape returns the type as if it had no helper, for the body of the helper.
func (h *helper) shape() *scan.Type {
	shape := *h.typ
	shape.Recursive = false
	return &shape
}

func (g *generator) appendHelper(h *helper, fields []*wireField, self *jen.Statement) {
	b, depth := g.names.local("b"), g.names.local("depth")
	value := operand{base: jen.Id(g.names.local("v")), stars: 1}
	params := []jen.Code{jen.Id(b).Index().Byte(), self.Clone()}
	if g.deep = h.typ.Deep(); g.deep {
		params = append(params, jen.Id(depth).Int())
	}
	g.inMap = h.typ.Kind == scan.Struct
	defer func() { g.deep = false }()
	results, end := jen.Index().Byte(), func(b *jen.Statement) *jen.Statement { return jen.Return(b) }
	if h.typ.Fallible() {
		results = jen.Params(jen.Index().Byte(), jen.Error())
		end = func(b *jen.Statement) *jen.Statement { return jen.Return(b, jen.Nil()) }
	}
	g.file.Func().Id(h.append).Params(params...).Add(results).
		BlockFunc(func(body *jen.Group) {
			if h.typ.Recursive {
				g.checkDepth(body, depth)
			}
			switch {
			case h.typ.Kind != scan.Struct:
				body.Var().Id(g.names.local("err")).Error()
				g.appendValue(body, h.shape(), value, 1)
				body.Add(end(jen.Id(b)))
			case len(fields) == 0:
				body.Return(jen.Append(jen.Id(b), hex(0x80)))
			default:
				body.Add(end(g.appendFields(body, g.b(), fields, value)))
			}
		})
	g.file.Line()
}

// checkDepth renders the check that values are not nested too deeply.
func (g *generator) checkDepth(body *jen.Group, depth string) {
	err := g.names.local("err")
	body.If(jen.Id(err).Op(":=").Add(g.codec("CheckDepth")).Call(jen.Id(depth)), jen.Id(err).Op("!=").Nil()).
		Block(jen.Return(jen.Nil(), jen.Id(err)))
}

func (g *generator) readHelper(h *helper, fields []*wireField, self *jen.Statement) {
	r := g.names.local("r")
	value := operand{base: jen.Id(g.names.local("v")), stars: 1}
	read := func(body *jen.Group) {
		if h.typ.Kind == scan.Struct {
			g.readFields(body, fields, value, "RequireFields")
		} else {
			g.readValue(body, h.shape(), value, 1)
		}
	}
	g.file.Func().Id(h.read).Params(jen.Id(r).Op("*").Add(g.codec("Reader")), self.Clone()).
		BlockFunc(func(body *jen.Group) {
			switch {
			case !h.typ.Recursive:
				read(body)
			case h.typ.Kind == scan.Struct:
				body.Add(g.r()).Dot("Enter").Call()
				read(body)
				body.Add(g.r()).Dot("Leave").Call()
			default:
				body.Add(g.r()).Dot("Enter").Call()
				// Without this check, a pointer to a pointer would go on after an
				// error.
				body.If(g.r().Dot("More").Call()).BlockFunc(read)
				body.Add(g.r()).Dot("Leave").Call()
			}
		})
	g.file.Line()
}
