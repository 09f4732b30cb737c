package render

import (
	"go/types"

	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/scan"
)

// wordBits is how many fields one word of the variable seen counts.
const wordBits = 64

// r is the reader's variable.
func (g *generator) r() *jen.Statement { return jen.Id(g.names.local("r")) }

// readFields renders the loop over a map's pairs and the check for missing fields.
// Required fields have the lower bits, so that a list of names suffices to report
// them.
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
			cases.Case(f.keys()...).BlockFunc(func(body *jen.Group) {
				body.Add(g.r()).Dot("Once").Call(jen.Op("&").Add(word(bit/wordBits)), jen.Lit(bit%wordBits))
				g.readValue(body, f.typ, v.field(f.path), 1)
			})
		}
		cases.Default().Block(g.r().Dot("Skip").Call())
	}))
	for _, f := range fields {
		if f.missing != nil {
			bit := bits[f]
			unseen := word(bit / wordBits).Op("&").Parens(jen.Lit(1).Op("<<").Lit(bit % wordBits)).Op("==").Lit(0)
			body.If(unseen).Block(v.field(f.path).value().Op("=").Add(g.value(f.missing)))
		}
	}
	for i := 0; i < len(required); i += wordBits {
		args := []jen.Code{word(i / wordBits)}
		for _, key := range required[i:min(i+wordBits, len(required))] {
			args = append(args, jen.Lit(key))
		}
		body.Add(g.r()).Dot(require).Call(args...)
	}
}

// numbered assigns a bit to each field, and returns the keys of the required ones in
// the order of their bits.
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

// readValue renders the statements that set v from the reader, within depth loops.
func (g *generator) readValue(body *jen.Group, t *scan.Type, v operand, depth int) {
	if hasHelper(t) {
		body.Id(g.helperFor(t).read).Call(g.r(), v.address())
		return
	}
	switch t.Kind {
	case scan.Custom:
		body.Add(g.codec("Read"+t.Method)).Call(g.r(), v.address())
	case scan.Pointer:
		g.readPointer(body, t, v, depth)
	case scan.Slice:
		body.Add(g.countdown(depth, "ReadSlice", v)).BlockFunc(func(body *jen.Group) { g.readElement(body, t, v, depth) })
	case scan.Array:
		body.Add(g.r()).Dot("ReadArray").Call(jen.Lit(int(t.Len)))
		i := g.loop("i", depth)
		elem := operand{base: v.primary(false).Index(jen.Id(i))}
		body.For(jen.Id(i).Op(":=").Range().Add(v.value())).
			BlockFunc(func(body *jen.Group) { g.readValue(body, t.Elem, elem, depth+1) })
	case scan.Map:
		body.Add(g.countdown(depth, "ReadMap", v)).BlockFunc(func(body *jen.Group) { g.readPair(body, t, v, depth) })
	case scan.ByteArray:
		slice := v.primary(false).Index(jen.Op(":"))
		if byteElem(t) {
			body.Add(g.r()).Dot("BytesInto").Call(slice)
		} else {
			body.Add(g.codec("BytesIntoOf")).Call(g.r(), slice)
		}
	default:
		body.Add(v.value()).Op("=").Add(g.readScalar(t))
	}
}

// countdown renders the head of a loop over as many elements as the codec's function
// returns.
func (g *generator) countdown(depth int, function string, v operand) *jen.Statement {
	n := g.loop("left", depth)
	more := g.r().Dot("More").Call()
	if function == "ReadSlice" {
		more = g.codec("Room").Call(g.r(), v.address(), jen.Id(n))
	}
	return jen.For(
		jen.Id(n).Op(":=").Add(g.codec(function)).Call(g.r(), v.address()),
		jen.Id(n).Op(">").Lit(0).Op("&&").Add(more),
		jen.Id(n).Op("--"),
	)
}

func (g *generator) readPointer(body *jen.Group, t *scan.Type, v operand, depth int) {
	body.If(g.r().Dot("Nil").Call()).Block(
		v.value().Op("=").Nil(),
	).Else().BlockFunc(func(body *jen.Group) {
		body.Add(v.value()).Op("=").Add(g.codec("New")).Types(g.typ(t.Elem.Go)).Call(g.r())
		g.readValue(body, t.Elem, operand{base: v.base, stars: v.stars + 1}, depth)
	})
}

// readElement renders the statements that append one element to a slice: a scalar
// directly, anything else through a pointer to it.
func (g *generator) readElement(body *jen.Group, t *scan.Type, v operand, depth int) {
	next := g.codec("Next").Call(v.address())
	switch t.Elem.Kind {
	case scan.Basic, scan.Time, scan.Bytes:
		body.Add(v.value()).Op("=").Append(v.value(), g.readScalar(t.Elem))
	case scan.Struct, scan.Custom:
		g.readValue(body, t.Elem, operand{base: next, stars: 1}, depth+1)
	default:
		e := g.loop("e", depth)
		body.Id(e).Op(":=").Add(next)
		g.readValue(body, t.Elem, operand{base: jen.Id(e), stars: 1}, depth+1)
	}
}

// readPair renders the statements that set one pair of a map.
func (g *generator) readPair(body *jen.Group, t *scan.Type, v operand, depth int) {
	k := g.loop("k", depth)
	pair := v.primary(true).Index(jen.Id(k))
	body.Id(k).Op(":=").Add(g.codec("NewKey")).Call(g.r(), v.value(), g.readScalar(t.Key))
	switch t.Elem.Kind {
	case scan.Basic, scan.Time, scan.Bytes:
		body.Add(pair).Op("=").Add(g.readScalar(t.Elem))
	default:
		e := g.loop("e", depth)
		body.Var().Id(e).Add(g.typ(t.Elem.Go))
		g.readValue(body, t.Elem, operand{base: jen.Id(e)}, depth+1)
		body.Add(pair).Op("=").Id(e)
	}
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
	if hasHelper(t) {
		return jen.Id(g.helperFor(t).read)
	}
	r, v := g.names.local("r"), g.names.local("v")
	return jen.Func().Params(jen.Id(r).Op("*").Add(g.codec("Reader")), jen.Id(v).Op("*").Add(g.typ(t.Go))).
		BlockFunc(func(body *jen.Group) { g.readValue(body, t, operand{base: jen.Id(v), stars: 1}, 1) })
}
