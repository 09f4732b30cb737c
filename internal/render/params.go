package render

import (
	"fmt"
	"strconv"

	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/scan"
)

// decimal formats a number without trailing zeros: 2, 1.5.
func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// params renders the type of a task's parameters.
func (g *generator) params(t *scan.Task) {
	g.comment(t.ParamsName() + " are the parameters of " + g.link(t) + ".")
	fields := func(body *jen.Group) {
		for _, p := range t.Params {
			body.Id(p.Field).Add(g.typ(p.Type.Go))
		}
	}
	if len(t.Params) == 1 {
		g.file.Type().Id(t.ParamsName()).Id("struct").CustomFunc(onOneLine, fields)
	} else {
		g.file.Type().Id(t.ParamsName()).StructFunc(fields)
	}
	g.file.Line()
}

// paramsCodec renders the methods that encode and decode a task's parameters.
func (g *generator) paramsCodec(t *scan.Task) {
	fields := paramFields(t)
	g.appendParams(t, fields)
	g.readParams(t, fields)
	g.msgpackMethods(t)
}

// paramFields returns the parameters as fields of a struct keyed by name. A parameter
// with a default, or a pointer, is optional.
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
	head := g.file.Func().Params(g.receiverOf(p, len(fields) > 0).Op("*").Id(t.ParamsName())).Id("AppendMsgpack").
		Params(jen.Id(b).Index().Byte()).Params(jen.Index().Byte(), jen.Error())
	if len(fields) == 0 {
		head.Add(oneLine(jen.Return(jen.Append(jen.Id(b), hex(0x80)), jen.Nil())))
	} else {
		head.BlockFunc(func(body *jen.Group) {
			self := operand{base: jen.Id(p), stars: 1}
			body.Return(g.appendFields(body, g.grown(fields, self), fields, self), jen.Nil())
		})
	}
	g.file.Line()
}

// receiverOf returns the name of a receiver if it is used.
func (g *generator) receiverOf(name string, used bool) *jen.Statement {
	if used {
		return jen.Id(name)
	}
	return jen.Null()
}

func (g *generator) readParams(t *scan.Task, fields []*wireField) {
	r, p := g.names.local("r"), g.names.local("p")
	g.file.Func().Params(g.receiverOf(p, len(fields) > 0).Op("*").Id(t.ParamsName())).Id("ReadMsgpack").
		Params(jen.Id(r).Op("*").Add(g.codec("Reader"))).
		BlockFunc(func(body *jen.Group) {
			g.readFields(body, fields, operand{base: jen.Id(p), stars: 1}, "Require")
		})
	g.file.Line()
}

// longestLine is how long gofmt lets a function be that stands on one line, without its
// braces.
const longestLine = 100

// msgpackMethods renders the methods for msgpack/v5, each on one line if both fit.
func (g *generator) msgpackMethods(t *scan.Task) {
	p, e, d := g.names.local("p"), g.names.local("e"), g.names.local("d")
	encoder := jen.Op("*").Add(g.names.qual(msgpackPath, "msgpack", "Encoder"))
	decoder := jen.Op("*").Add(g.names.qual(msgpackPath, "msgpack", "Decoder"))
	encode := jen.Return(g.codec("EncodeTo").Call(jen.Id(e), jen.Op("&").Id(p)))
	decode := jen.Return(g.codec("DecodeFrom").Call(jen.Id(d), jen.Id(p)))
	block, between := oneLine, jen.Null()
	longer := fmt.Sprintf("func (%[1]s *%[2]s) DecodeMsgpack(%[3]s *%[4]s.Decoder) error return %[5]s.DecodeFrom(%[3]s, %[1]s)",
		p, t.ParamsName(), d, g.names.imports[msgpackPath], g.names.imports[codecPath])
	if len(longer) > longestLine {
		block, between = func(s *jen.Statement) *jen.Statement { return jen.Block(s) }, jen.Line()
	}
	g.file.Func().Params(jen.Id(p).Id(t.ParamsName())).Id("EncodeMsgpack").
		Params(jen.Id(e).Add(encoder)).Error().Add(block(encode))
	g.file.Add(between)
	g.file.Func().Params(jen.Id(p).Op("*").Id(t.ParamsName())).Id("DecodeMsgpack").
		Params(jen.Id(d).Add(decoder)).Error().Add(block(decode))
	g.file.Line()
}
