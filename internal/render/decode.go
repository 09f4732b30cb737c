package render

import (
	"go/types"

	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/scan"
)

// wordBits is how many fields one word of "seen" counts.
const wordBits = 64

// r is the reader that is read from.
func (g *generator) r() *jen.Statement { return jen.Id(g.names.local("r")) }

// readFields renders the loop over a map's pairs and the check for what is
// missing. Required fields have the lower bits, so that their names are enough
// to tell which.
func (g *generator) readFields(body *jen.Group, fields []*wireField, v operand, require string) {
	n, seen := g.names.local("n"), g.names.local("seen")
	bits, required := numbered(fields)
	words := (len(fields) + wordBits - 1) / wordBits
	word := func(i int) *jen.Statement {
		if words > 1 {
			return jen.Id(seen).Index(jen.Lit(i))
		}
		return jen.Id(seen)
	}
	switch {
	case words == 1:
		body.Var().Id(seen).Uint64()
	case words > 1:
		body.Var().Id(seen).Index(jen.Lit(words)).Uint64()
	}
	loop := body.For(
		jen.Id(n).Op(":=").Add(g.r()).Dot("MapLen").Call(),
		jen.Id(n).Op(">").Lit(0).Op("&&").Add(g.r()).Dot("More").Call(),
		jen.Id(n).Op("--"),
	)
	if len(fields) == 0 {
		loop.Block(g.r().Dot("Key").Call(), g.r().Dot("Skip").Call())
		return
	}
	loop.Block(jen.Switch(jen.String().Call(g.r().Dot("Key").Call())).BlockFunc(func(cases *jen.Group) {
		for _, f := range fields {
			bit := bits[f]
			cases.Case(jen.Lit(f.key)).BlockFunc(func(body *jen.Group) {
				body.Add(g.r()).Dot("Once").Call(jen.Op("&").Add(word(bit/wordBits)), jen.Lit(bit%wordBits))
				body.Add(g.readValue(f.typ, v.field(f.path)))
			})
		}
		cases.Default().Block(g.r().Dot("Skip").Call())
	}))
	for i := 0; i < len(required); i += wordBits {
		args := []jen.Code{word(i / wordBits)}
		for _, key := range required[i:min(i+wordBits, len(required))] {
			args = append(args, jen.Lit(key))
		}
		body.Add(g.r()).Dot(require).Call(args...)
	}
}

// numbered gives each field its bit and returns the keys of the required ones
// in the order of their bits.
func numbered(fields []*wireField) (bits map[*wireField]int, required []string) {
	bits = map[*wireField]int{}
	for _, f := range fields {
		if !f.optional {
			bits[f] = len(bits)
			required = append(required, f.key)
		}
	}
	for _, f := range fields {
		if f.optional {
			bits[f] = len(bits)
		}
	}
	return bits, required
}

// readValue renders the statement that sets a value from the reader.
func (g *generator) readValue(t *scan.Type, v operand) *jen.Statement {
	switch t.Kind {
	case scan.Struct:
		return jen.Id(g.helperFor(t).read).Call(g.r(), v.address())
	case scan.Custom:
		return g.codec("Read"+t.Method).Call(g.r(), v.address())
	case scan.Pointer:
		return g.codec("ReadPointer").Call(g.r(), v.address(), g.readFunc(t.Elem))
	case scan.Slice:
		return g.codec("ReadSlice").Call(g.r(), v.address(), g.readFunc(t.Elem))
	case scan.Array:
		return g.codec("ReadArray").Call(g.r(), v.primary(false).Index(jen.Op(":")), g.readFunc(t.Elem))
	case scan.Map:
		return g.codec("ReadMap").Call(g.r(), v.address(), g.keyFunc(t.Key), g.readFunc(t.Elem))
	case scan.ByteArray:
		slice := v.primary(false).Index(jen.Op(":"))
		if byteElem(t) {
			return g.r().Dot("BytesInto").Call(slice)
		}
		return g.codec("BytesIntoOf").Call(g.r(), slice)
	}
	return v.value().Op("=").Add(g.readScalar(t))
}

// readScalar renders the expression that reads a value without parts.
func (g *generator) readScalar(t *scan.Type) *jen.Statement {
	switch {
	case t.Kind == scan.Time:
		return g.r().Dot("Time").Call()
	case t.Kind == scan.Bytes && byteElem(t):
		return g.r().Dot("Bytes").Call()
	case t.Kind == scan.Bytes:
		return g.codec("BytesOf").Types(g.typ(t.Elem.Go)).Call(g.r())
	case isDuration(t.Go):
		return g.r().Dot("Duration").Call()
	}
	read := g.r().Dot(title(types.Typ[t.Basic.Kind()].Name())).Call()
	if exact(t.Go, t.Basic.Kind()) {
		return read
	}
	return g.typ(t.Go).Call(read)
}

// readFunc renders a function that sets a value from a reader.
func (g *generator) readFunc(t *scan.Type) *jen.Statement {
	if t.Kind == scan.Struct {
		return jen.Id(g.helperFor(t).read)
	}
	r, v := g.names.local("r"), g.names.local("v")
	return jen.Func().Params(jen.Id(r).Op("*").Add(g.codec("Reader")), jen.Id(v).Op("*").Add(g.typ(t.Go))).
		Block(g.readValue(t, operand{base: jen.Id(v), stars: 1}))
}

// keyFunc renders a function that reads a map's key.
func (g *generator) keyFunc(t *scan.Type) *jen.Statement {
	kind := t.Basic.Kind()
	if exact(t.Go, kind) {
		return jen.Parens(jen.Op("*").Add(g.codec("Reader"))).Dot(title(types.Typ[kind].Name()))
	}
	r := g.names.local("r")
	return jen.Func().Params(jen.Id(r).Op("*").Add(g.codec("Reader"))).Add(g.typ(t.Go)).
		Block(jen.Return(g.readScalar(t)))
}
