package render

import (
	"go/types"

	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/scan"
)

// wordBits is how many fields one word of the variable seen counts.
const wordBits = 64

// r is the reader's variable, or the call that notes a field and returns the reader.
func (g *generator) r() *jen.Statement {
	if g.once != nil {
		return g.once.Clone()
	}
	return jen.Id(g.names.local("r"))
}

// seenFields is the generated variable that has a bit for each field that was read.
type seenFields struct {
	name     string
	words    int
	bits     map[*wireField]int
	required []string // keys of the fields with the lower bits
}

// word renders the word with a bit.
func (s *seenFields) word(bit int) *jen.Statement {
	if s.words > 1 {
		return jen.Id(s.name).Index(jen.Lit(bit / wordBits))
	}
	return jen.Id(s.name)
}

// declare renders the variable: no bits are set.
func (s *seenFields) declare(body *jen.Group) {
	switch {
	case s.words == 1:
		body.Var().Id(s.name).Uint64()
	case s.words > 1:
		body.Var().Id(s.name).Index(jen.Lit(s.words)).Uint64()
	}
}

// readFields renders the loop over a map's pairs and what follows for missing fields.
// Required fields have the lower bits, so that a list of names suffices to report
// them.
func (g *generator) readFields(body *jen.Group, fields []*wireField, v operand, require string) {
	seen := &seenFields{name: g.names.local("seen"), words: (len(fields) + wordBits - 1) / wordBits}
	seen.bits, seen.required = numbered(fields)
	seen.declare(body)
	n := g.names.local("n")
	loop := body.For(
		jen.Id(n).Op(":=").Add(g.r()).Dot("MapLen").Call(),
		jen.Id(n).Op(">").Lit(0).Op("&&").Add(g.r()).Dot("More").Call(),
		jen.Id(n).Op("--"),
	)
	if len(fields) == 0 {
		loop.Block(g.r().Dot("Key").Call(), g.r().Dot("Skip").Call())
		return
	}
	loop.Block(g.readField(fields, v, seen))
	g.setMissing(body, fields, v, seen)
	g.requireFields(body, require, seen)
}

// readField renders the switch that reads a key and the field of that key. It skips the
// value of an unknown key.
func (g *generator) readField(fields []*wireField, v operand, seen *seenFields) *jen.Statement {
	return jen.Switch(jen.String().Call(g.r().Dot("Key").Call())).BlockFunc(func(cases *jen.Group) {
		for _, f := range fields {
			bit := seen.bits[f]
			cases.Case(f.keys()...).BlockFunc(func(body *jen.Group) {
				once := g.r().Dot("Once").Call(jen.Op("&").Add(seen.word(bit)), jen.Lit(bit%wordBits))
				if readByCall(f.typ) {
					g.once = once
					defer func() { g.once = nil }()
				} else {
					body.Add(once)
				}
				g.readValue(body, f.typ, v.field(f.path), 1)
			})
		}
		cases.Default().Block(g.r().Dot("Skip").Call())
	})
}

// readByCall reports whether a single call reads a value of the type.
func readByCall(t *scan.Type) bool {
	switch t.Kind {
	case scan.Basic, scan.Time, scan.Bytes, scan.ByteArray, scan.Custom:
		return true
	}
	return hasHelper(t)
}

// setMissing renders the statements that give missing fields their defaults.
func (g *generator) setMissing(body *jen.Group, fields []*wireField, v operand, seen *seenFields) {
	for _, f := range fields {
		if f.missing == nil {
			continue
		}
		bit := seen.bits[f]
		unseen := seen.word(bit).Op("&").Parens(jen.Lit(1).Op("<<").Lit(bit % wordBits)).Op("==").Lit(0)
		body.If(unseen).Block(v.field(f.path).value().Op("=").Add(g.value(f.missing)))
	}
}

// requireFields renders the calls that return an error for missing fields, one for each
// word.
func (g *generator) requireFields(body *jen.Group, require string, seen *seenFields) {
	for i := 0; i < len(seen.required); i += wordBits {
		args := []jen.Code{seen.word(i)}
		for _, key := range seen.required[i:min(i+wordBits, len(seen.required))] {
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
		g.readArray(body, t, v, depth)
	case scan.Map:
		body.Add(g.countdown(depth, "ReadMap", v)).BlockFunc(func(body *jen.Group) { g.readPair(body, t, v, depth) })
	case scan.ByteArray:
		g.readByteArray(body, t, v)
	default:
		body.Add(v.value()).Op("=").Add(g.readScalar(t))
	}
}

func (g *generator) readArray(body *jen.Group, t *scan.Type, v operand, depth int) {
	body.Add(g.r()).Dot("ReadArray").Call(jen.Lit(int(t.Len)))
	i := g.loop("i", depth)
	elem := operand{base: v.primary(false).Index(jen.Id(i))}
	body.For(jen.Id(i).Op(":=").Range().Add(v.value())).
		BlockFunc(func(body *jen.Group) { g.readValue(body, t.Elem, elem, depth+1) })
}

func (g *generator) readByteArray(body *jen.Group, t *scan.Type, v operand) {
	slice := v.primary(false).Index(jen.Op(":"))
	if byteElem(t) {
		body.Add(g.r()).Dot("BytesInto").Call(slice)
	} else {
		body.Add(g.codec("BytesIntoOf")).Call(g.r(), slice)
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
	switch t.Key.Kind {
	case scan.Basic, scan.Time:
		body.Id(k).Op(":=").Add(g.codec("NewKey")).Call(g.r(), v.value(), g.readScalar(t.Key))
	default:
		body.Var().Id(k).Add(g.typ(t.Key.Go))
		g.readValue(body, t.Key, operand{base: jen.Id(k)}, depth+1)
		body.Add(g.codec("NewKey")).Call(g.r(), v.value(), jen.Id(k))
	}
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
	case t.IsDuration():
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
		Add(g.readBody(t, operand{base: jen.Id(v), stars: 1}))
}

// readBody renders the body of a function that reads v, on one line if a call reads it.
func (g *generator) readBody(t *scan.Type, v operand) *jen.Statement {
	read := func(body *jen.Group) { g.readValue(body, t, v, 1) }
	if readByCall(t) {
		return jen.CustomFunc(onOneLine, read)
	}
	return jen.BlockFunc(read)
}
