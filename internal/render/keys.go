package render

import (
	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/scan"
)

// keys returns the functions that make the keys of policies.
func (g *generator) keys(t *scan.Task) []field {
	var fields []field
	add := func(name string, keys []*scan.Key) {
		if len(keys) > 0 {
			fields = append(fields, field{name, g.keyOf(t, keys)})
		}
	}
	add("Unique", t.Unique)
	add("Concurrency", t.Limit)
	add("Rate", t.Rate)
	if t.Fair != nil {
		add("Fair", []*scan.Key{t.Fair})
	}
	return fields
}

// keyOf renders a function that appends a policy's key. The key is part of the
// parameters: if it cannot be encoded, the parameters cannot either, and nothing is
// queued with it.
func (g *generator) keyOf(t *scan.Task, keys []*scan.Key) *jen.Statement {
	g.key = true
	defer func() { g.key = false }()
	b, p := g.names.local("b"), g.names.local("p")
	return jen.Func().Params(jen.Id(p).Op("*").Id(t.ParamsName()), jen.Id(b).Index().Byte()).Index().Byte().
		BlockFunc(func(body *jen.Group) {
			for _, k := range keys {
				if k.Type().Fallible() {
					body.Var().Id(g.names.local("err")).Error()
					break
				}
			}
			for _, k := range keys {
				g.appendKey(body, k, operand{base: jen.Id(p), stars: 1}.field(k.Param.Field))
			}
			body.Return(jen.Id(b))
		})
}

// appendKey renders the statements that append a parameter or a field of one. Behind
// a nil pointer, the key is nil.
func (g *generator) appendKey(body *jen.Group, k *scan.Key, v operand) {
	var isNil *jen.Statement
	t := k.Param.Type
	for _, f := range k.Fields {
		for t.Kind == scan.Pointer {
			one := v.value().Op("==").Nil()
			if isNil == nil {
				isNil = one
			} else {
				isNil.Op("||").Add(one)
			}
			v.stars++
			t = t.Elem
		}
		v, t = v.field(f.Path), f.Type
	}
	if isNil == nil {
		g.appendValue(body, t, v, 1)
		return
	}
	body.If(isNil).Block(g.set(g.codec("AppendNil").Call(g.b()))).
		Else().BlockFunc(func(body *jen.Group) { g.appendValue(body, t, v, 1) })
}

// giveUp renders the return after an error.
func (g *generator) giveUp(err *jen.Statement) *jen.Statement {
	if g.key {
		return jen.Return(jen.Nil())
	}
	return jen.Return(jen.Nil(), err)
}
