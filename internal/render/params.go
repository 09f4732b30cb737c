package render

import (
	"strconv"

	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/scan"
)

// decimal writes a number as a person would: 2, 1.5.
func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// params renders the type that holds a task's parameters, and how it travels.
func (g *generator) params(t *scan.Task) {
	fields := paramFields(t)
	g.comment(t.ParamsName() + " are the parameters of [" + t.Link() + "].")
	g.file.Type().Id(t.ParamsName()).StructFunc(func(body *jen.Group) {
		for _, p := range t.Params {
			body.Id(p.Field).Add(g.typ(p.Type.Go))
		}
	})
	g.file.Line()
	g.appendParams(t, fields)
	g.readParams(t, fields)
	g.msgpackMethods(t)
}

// paramFields is the parameters as the fields of a struct whose keys are their
// names. A pointer may be missing in what an older version wrote.
func paramFields(t *scan.Task) []*wireField {
	var fields []*wireField
	for _, p := range t.Params {
		fields = append(fields, &wireField{path: p.Field, key: p.Name, optional: p.Type.Kind == scan.Pointer, typ: p.Type})
	}
	return fields
}

func (g *generator) appendParams(t *scan.Task, fields []*wireField) {
	b, p := g.names.local("b"), g.names.local("p")
	g.comment("AppendMsgpack appends p to b as a map keyed by parameter name.")
	g.file.Func().Params(g.receiverOf(p, len(fields) > 0).Op("*").Id(t.ParamsName())).Id("AppendMsgpack").
		Params(jen.Id(b).Index().Byte()).Params(jen.Index().Byte(), jen.Error()).
		BlockFunc(func(body *jen.Group) {
			if len(fields) == 0 {
				body.Return(jen.Append(jen.Id(b), hex(0x80)), jen.Nil())
				return
			}
			g.appendFields(body, fields, operand{base: jen.Id(p), stars: 1})
			body.Return(jen.Id(b), jen.Nil())
		})
	g.file.Line()
}

// receiverOf names a receiver that is used, and leaves out the name of one
// that is not.
func (g *generator) receiverOf(name string, used bool) *jen.Statement {
	if used {
		return jen.Id(name)
	}
	return jen.Null()
}

func (g *generator) readParams(t *scan.Task, fields []*wireField) {
	r, p := g.names.local("r"), g.names.local("p")
	if len(fields) == 0 {
		g.comment("ReadMsgpack reads a map from r and skips what it holds.")
	} else {
		g.comment("ReadMsgpack sets p from r. A missing parameter is an error, an unknown one is skipped.")
	}
	g.file.Func().Params(g.receiverOf(p, len(fields) > 0).Op("*").Id(t.ParamsName())).Id("ReadMsgpack").
		Params(jen.Id(r).Op("*").Add(g.codec("Reader"))).
		BlockFunc(func(body *jen.Group) {
			g.readFields(body, fields, operand{base: jen.Id(p), stars: 1}, "Require")
		})
	g.file.Line()
}

// msgpackMethods renders what lets msgpack/v5 carry the parameters.
func (g *generator) msgpackMethods(t *scan.Task) {
	p, enc, dec := g.names.local("p"), g.names.local("enc"), g.names.local("dec")
	encoder := jen.Op("*").Add(g.names.qual(msgpackPath, "msgpack", "Encoder"))
	decoder := jen.Op("*").Add(g.names.qual(msgpackPath, "msgpack", "Decoder"))
	g.comment("EncodeMsgpack implements [msgpack.CustomEncoder].")
	g.file.Func().Params(jen.Id(p).Id(t.ParamsName())).Id("EncodeMsgpack").
		Params(jen.Id(enc).Add(encoder)).Error().
		Block(jen.Return(g.codec("EncodeTo").Call(jen.Id(enc), jen.Op("&").Id(p))))
	g.file.Line()
	g.comment("DecodeMsgpack implements [msgpack.CustomDecoder].")
	g.file.Func().Params(jen.Id(p).Op("*").Id(t.ParamsName())).Id("DecodeMsgpack").
		Params(jen.Id(dec).Add(decoder)).Error().
		Block(jen.Return(g.codec("DecodeFrom").Call(jen.Id(dec), jen.Id(p).Dot("ReadMsgpack"))))
	g.file.Line()
}

// helper renders the pair of functions of one struct type.
func (g *generator) helper(h *helper) {
	var fields []*wireField
	for _, f := range h.typ.Fields {
		fields = append(fields, &wireField{path: f.Path, key: f.Key, optional: f.OmitEmpty, omit: f.OmitEmpty, typ: f.Type})
	}
	b, v, r := g.names.local("b"), g.names.local("v"), g.names.local("r")
	if len(fields) == 0 {
		v = "_"
	}
	self := jen.Id(v).Op("*").Add(g.typ(h.typ.Go))
	value := operand{base: jen.Id(v), stars: 1}
	fallible := h.typ.Fallible()
	results, end := jen.Index().Byte(), jen.Return(jen.Id(b))
	if fallible {
		results, end = jen.Params(jen.Index().Byte(), jen.Error()), jen.Return(jen.Id(b), jen.Nil())
	}
	g.comment(h.append + " appends v to b as a map keyed by field name.")
	g.file.Func().Id(h.append).Params(jen.Id(b).Index().Byte(), self.Clone()).Add(results).
		BlockFunc(func(body *jen.Group) {
			if len(fields) == 0 {
				body.Return(jen.Append(jen.Id(b), hex(0x80)))
				return
			}
			g.appendFields(body, fields, value)
			body.Add(end)
		})
	g.file.Line()
	g.comment(h.read + " sets v from r. A missing field is an error, an unknown one is skipped.")
	g.file.Func().Id(h.read).Params(jen.Id(r).Op("*").Add(g.codec("Reader")), self.Clone()).
		BlockFunc(func(body *jen.Group) { g.readFields(body, fields, value, "RequireFields") })
	g.file.Line()
}
