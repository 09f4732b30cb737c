package render

import (
	"slices"
	"strconv"

	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/scan"
)

// decimal writes a number as a person would: 2, 1.5.
func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// params renders the type that holds a task's parameters, and how it travels.
func (g *generator) params(t *scan.Task) {
	fields := paramFields(t)
	g.comment(t.ParamsName() + " are the parameters of " + g.link(t) + ".")
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
// names. One with a default, or a pointer, may be missing in what an older
// version wrote.
func paramFields(t *scan.Task) []*wireField {
	var fields []*wireField
	for _, p := range t.Params {
		f := &wireField{path: p.Field, key: p.Name, old: p.Old, optional: p.Optional(), typ: p.Type}
		if p.Default != nil && !p.Default.Nil {
			f.missing = p.Default
		}
		fields = append(fields, f)
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
			self := operand{base: jen.Id(p), stars: 1}
			body.Add(g.grow(fields, self))
			g.appendFields(body, fields, self)
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
	switch {
	case len(fields) == 0:
		g.comment("ReadMsgpack reads a map from r and skips what it holds.")
	case slices.ContainsFunc(fields, func(f *wireField) bool { return f.missing != nil }):
		g.comment("ReadMsgpack sets p from r. A missing parameter has its default, or is an error; an unknown one is skipped.")
	default:
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
