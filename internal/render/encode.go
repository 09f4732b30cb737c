package render

import (
	"fmt"
	"go/types"
	"slices"
	"strconv"

	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/scan"
)

// wireField is a struct's field or a task's parameter as it is encoded.
type wireField struct {
	path     string // path from the struct
	key      string
	old      []string    // further keys under which it is read
	optional bool        // may be missing when read
	missing  *scan.Value // its value then; nil: the zero value
	omit     bool        // omitted if empty
	typ      *scan.Type
}

// keys returns the keys under which the field is read.
func (f *wireField) keys() []jen.Code {
	keys := []jen.Code{jen.Lit(f.key)}
	for _, key := range f.old {
		keys = append(keys, jen.Lit(key))
	}
	return keys
}

func hex(v int) *jen.Statement { return jen.Id(fmt.Sprintf("0x%02x", v)) }

// set renders b = value.
func (g *generator) set(value *jen.Statement) *jen.Statement {
	return jen.Id(g.names.local("b")).Op("=").Add(value)
}

// b is the variable of the slice that is appended to.
func (g *generator) b() *jen.Statement { return jen.Id(g.names.local("b")) }

// appendFields renders a map's header, keys and values, appended to the slice start. It
// returns the expression of what b is then: b itself, or the call that appends the last
// value to it.
func (g *generator) appendFields(body *jen.Group, start *jen.Statement, fields []*wireField, v operand) *jen.Statement {
	if slices.ContainsFunc(fields, func(f *wireField) bool { return f.typ.Fallible() }) {
		body.Var().Id(g.names.local("err")).Error()
	}
	header := "" // in front of the first key
	switch {
	case slices.ContainsFunc(fields, func(f *wireField) bool { return f.omit && f.typ.Present() != scan.Always }):
		g.appendCount(body, fields, v)
	case len(fields) < 16:
		header = string([]byte{0x80 | byte(len(fields))})
	default:
		body.Add(g.set(g.codec("AppendMapLen").Call(start, jen.Lit(len(fields)))))
		start = g.b()
	}
	for i, f := range fields {
		present, always := g.present(f, v)
		if !always {
			if present != nil {
				body.If(present).BlockFunc(func(body *jen.Group) {
					g.appendKeyOf(body, g.b(), "", f)
					g.appendValue(body, f.typ, v.field(f.path), 1)
				})
			}
			continue
		}
		g.appendKeyOf(body, start, header, f)
		start, header = g.b(), ""
		if last := g.appendCallOnly(f.typ, v.field(f.path), 1); last != nil && i == len(fields)-1 {
			return last
		}
		g.appendValue(body, f.typ, v.field(f.path), 1)
	}
	return g.b()
}

// appendCount renders the header of a map if some fields are omitted when empty.
func (g *generator) appendCount(body *jen.Group, fields []*wireField, v operand) {
	n := g.names.local("n")
	fixed := 0
	for _, f := range fields {
		if _, always := g.present(f, v); always {
			fixed++
		}
	}
	body.Id(n).Op(":=").Lit(fixed)
	for _, f := range fields {
		if present, always := g.present(f, v); !always && present != nil {
			body.If(present).Block(jen.Id(n).Op("++"))
		}
	}
	body.Add(g.set(g.codec("AppendMapLen").Call(g.b(), jen.Id(n))))
}

// present renders the condition under which a field is encoded. Always means that
// there is no condition; a nil condition without always means never.
func (g *generator) present(f *wireField, v operand) (condition *jen.Statement, always bool) {
	if !f.omit {
		return nil, true
	}
	return g.presentValue(f.typ, v.field(f.path))
}

func (g *generator) presentValue(t *scan.Type, v operand) (condition *jen.Statement, always bool) {
	switch t.Present() {
	case scan.NotZero:
		return notZero(t.Basic, v), false
	case scan.HasLen:
		return jen.Len(v.value()).Op("!=").Lit(0), false
	case scan.NotNil:
		return v.value().Op("!=").Nil(), false
	case scan.AskIsZero:
		return jen.Op("!").Add(v.primary(false).Dot("IsZero").Call()), false
	case scan.NotNilZero:
		return v.value().Op("!=").Nil().Op("&&").Op("!").Add(v.primary(false).Dot("IsZero").Call()), false
	case scan.AnyField:
		return g.anyField(t, v)
	case scan.Never:
		return nil, false
	}
	return nil, true
}

// anyField renders the condition that one of a struct's fields is encoded.
func (g *generator) anyField(t *scan.Type, v operand) (condition *jen.Statement, always bool) {
	for _, f := range t.Fields {
		more, always := g.presentValue(f.Type, v.field(f.Path))
		switch {
		case always:
			return nil, true
		case condition == nil:
			condition = more
		case more != nil:
			condition = condition.Op("||").Add(more)
		}
	}
	return condition, false
}

func notZero(basic *types.Basic, v operand) *jen.Statement {
	switch {
	case basic.Info()&types.IsBoolean != 0:
		return v.value()
	case basic.Info()&types.IsString != 0:
		return v.value().Op("!=").Lit("")
	}
	return v.value().Op("!=").Lit(0)
}

// appendKeyOf renders the statement that appends a header, which may be empty, and a
// field's key to the slice start. The bytes are constant.
func (g *generator) appendKeyOf(body *jen.Group, start *jen.Statement, header string, f *wireField) {
	body.Add(g.set(jen.Append(start, jen.Id(strconv.QuoteToASCII(header+keyBytes(f.key))).Op("..."))))
}

// keyBytes returns a key as MessagePack: a string header and the string.
func keyBytes(key string) string {
	switch n := len(key); {
	case n < 32:
		return string([]byte{0xa0 | byte(n)}) + key
	case n < 256:
		return string([]byte{0xd9, byte(n)}) + key
	default:
		return string([]byte{0xda, byte(n >> 8), byte(n)}) + key
	}
}

// appendValue renders the statements that append v, within depth loops.
func (g *generator) appendValue(body *jen.Group, t *scan.Type, v operand, depth int) {
	if call := g.appendCallOnly(t, v, depth); call != nil {
		body.Add(g.set(call))
		return
	}
	if hasHelper(t) {
		body.If(g.fallible(g.callAppend(t, v, depth)))
		return
	}
	switch t.Kind {
	case scan.Custom:
		g.appendCustom(body, t, v)
	case scan.Pointer:
		body.Add(g.appendPointer(t, v, depth))
	case scan.Slice:
		body.Add(g.set(g.codec("AppendSliceHeader").Call(g.b(), v.value())))
		g.appendElements(body, t, v, depth)
	case scan.Array:
		body.Add(g.set(g.codec("AppendArrayLen").Call(g.b(), jen.Lit(int(t.Len)))))
		g.appendElements(body, t, v, depth)
	case scan.Map:
		g.appendMap(body, t, v, depth)
	}
}

// appendCallOnly returns the call that appends v if it takes no more than a call that
// cannot fail, and nil otherwise.
func (g *generator) appendCallOnly(t *scan.Type, v operand, depth int) *jen.Statement {
	if hasHelper(t) {
		if t.Fallible() {
			return nil
		}
		return g.callAppend(t, v, depth)
	}
	switch t.Kind {
	case scan.Basic, scan.Time, scan.Bytes, scan.ByteArray:
		return g.appendScalar(t, v)
	}
	return nil
}

// appendMap renders the header of a map and the loop over its sorted pairs.
func (g *generator) appendMap(body *jen.Group, t *scan.Type, v operand, depth int) {
	body.Add(g.set(g.codec("AppendMapHeader").Call(g.b(), v.value())))
	k, e := g.loop("k", depth), g.loop("e", depth)
	if !t.SortsKeys() {
		body.BlockFunc(func(body *jen.Group) { g.appendPairs(body, t, v, depth) })
		return
	}
	body.For(jen.List(jen.Id(k), jen.Id(e)).Op(":=").Range().Add(g.codec("Sorted").Call(v.value()))).
		BlockFunc(func(body *jen.Group) {
			g.appendValue(body, t.Key, operand{base: jen.Id(k)}, depth+1)
			g.appendValue(body, t.Elem, operand{base: jen.Id(e)}, depth+1)
		})
}

// appendPairs renders the loop over the pairs of a map, and their sorting by the bytes of
// their keys.
func (g *generator) appendPairs(body *jen.Group, t *scan.Type, v operand, depth int) {
	pairs, k, e := g.loop("pairs", depth), g.loop("k", depth), g.loop("e", depth)
	body.Id(pairs).Op(":=").Add(g.codec("NewPairs")).Call(jen.Len(v.value()))
	body.For(jen.List(jen.Id(k), jen.Id(e)).Op(":=").Range().Add(v.value())).
		BlockFunc(func(body *jen.Group) {
			body.Id(pairs).Dot("Key").Call(g.b())
			g.appendValue(body, t.Key, operand{base: jen.Id(k)}, depth+1)
			body.Id(pairs).Dot("Value").Call(g.b())
			g.appendValue(body, t.Elem, operand{base: jen.Id(e)}, depth+1)
		})
	body.If(g.fallible(jen.Id(pairs).Dot("Sort").Call(g.b())))
}

// appendPointer renders an if that appends nil or else the element of v. If the
// element is a pointer too, it renders an else if.
func (g *generator) appendPointer(t *scan.Type, v operand, depth int) *jen.Statement {
	elem := operand{base: v.base, stars: v.stars + 1}
	isNil := jen.If(v.value().Op("==").Nil()).Block(g.set(g.codec("AppendNil").Call(g.b()))).Else()
	switch {
	case t.Elem.Kind == scan.Pointer && !t.Elem.Recursive:
		return isNil.Add(g.appendPointer(t.Elem, elem, depth))
	case hasHelper(t.Elem) && t.Elem.Fallible():
		return isNil.If(g.fallible(g.callAppend(t.Elem, elem, depth)))
	case t.Elem.Kind == scan.Custom && !t.Elem.NilIs:
		return isNil.If(g.fallible(g.codec(customAppender(t.Elem)).Call(g.b(), elem.address())))
	}
	return isNil.BlockFunc(func(body *jen.Group) { g.appendValue(body, t.Elem, elem, depth) })
}

// loop returns the name of a loop's variable.
func (g *generator) loop(base string, depth int) string {
	if depth > 1 {
		base += strconv.Itoa(depth)
	}
	return g.names.local(base)
}

// appendElements renders the loop over a slice or array. Small elements are copied,
// others are accessed through a pointer.
func (g *generator) appendElements(body *jen.Group, t *scan.Type, v operand, depth int) {
	switch t.Elem.Kind {
	case scan.Basic, scan.Time, scan.Bytes, scan.Pointer, scan.Slice, scan.Map:
		e := g.loop("e", depth)
		body.For(jen.List(jen.Id("_"), jen.Id(e)).Op(":=").Range().Add(v.value())).
			BlockFunc(func(body *jen.Group) { g.appendValue(body, t.Elem, operand{base: jen.Id(e)}, depth+1) })
	default:
		i := g.loop("i", depth)
		elem := operand{base: v.primary(t.Kind == scan.Slice).Index(jen.Id(i))}
		body.For(jen.Id(i).Op(":=").Range().Add(v.value())).
			BlockFunc(func(body *jen.Group) { g.appendValue(body, t.Elem, elem, depth+1) })
	}
}

// fallible renders an if around a call that can fail.
func (g *generator) fallible(call *jen.Statement) *jen.Statement {
	err := g.names.local("err")
	return jen.List(g.b(), jen.Id(err)).Op("=").Add(call).Op(";").Id(err).Op("!=").Nil().
		Block(g.giveUp(jen.Id(err)))
}

func (g *generator) appendCustom(body *jen.Group, t *scan.Type, v operand) {
	call := g.codec(customAppender(t)).Call(g.b(), v.address())
	if !t.NilIs {
		body.If(g.fallible(call))
		return
	}
	body.If(v.value().Op("==").Nil()).Block(
		g.set(g.codec("AppendNil").Call(g.b())),
	).Else().If(g.fallible(call))
}

// customAppender returns the codec's function for a type that marshals itself.
func customAppender(t *scan.Type) string {
	if t.Method != "Binary" {
		return "Append" + t.Method
	}
	// A method of an embedded field would append that field alone.
	m := types.NewMethodSet(types.NewPointer(t.Go)).Lookup(nil, "AppendBinary")
	if m == nil || len(m.Index()) > 1 || !types.Identical(m.Type(), appendBinarySignature()) {
		return "AppendBinary"
	}
	return "AppendBinaryInPlace"
}

// appendBinarySignature is the signature of encoding.BinaryAppender's method.
func appendBinarySignature() *types.Signature {
	bytes := types.NewParam(0, nil, "", types.NewSlice(types.Typ[types.Byte]))
	failed := types.NewParam(0, nil, "", types.Universe.Lookup("error").Type())
	return types.NewSignatureType(nil, nil, nil, types.NewTuple(bytes), types.NewTuple(bytes, failed), false)
}

// appendScalar renders the call that appends a value without parts.
func (g *generator) appendScalar(t *scan.Type, v operand) *jen.Statement {
	switch t.Kind {
	case scan.Time:
		return g.codec("AppendTime").Call(g.b(), v.value())
	case scan.Bytes:
		if byteElem(t) {
			return g.codec("AppendBytes").Call(g.b(), v.value())
		}
		return g.codec("AppendBytesOf").Call(g.b(), v.value())
	case scan.ByteArray:
		slice := v.primary(false).Index(jen.Op(":"))
		if byteElem(t) {
			return g.codec("AppendBytes").Call(g.b(), slice)
		}
		return g.codec("AppendBytesOf").Call(g.b(), slice)
	}
	if t.IsDuration() {
		return g.codec("AppendDuration").Call(g.b(), v.value())
	}
	name, kind := appender(t.Basic)
	value := v.value()
	if !exact(t.Go, kind) {
		value = jen.Id(types.Typ[kind].Name()).Call(value)
	}
	return g.codec(name).Call(g.b(), value)
}

// appender returns the codec's function for a basic type, and the type of its
// argument.
func appender(basic *types.Basic) (name string, takes types.BasicKind) {
	switch info := basic.Info(); {
	case info&types.IsBoolean != 0:
		return "AppendBool", types.Bool
	case info&types.IsString != 0:
		return "AppendString", types.String
	case info&types.IsUnsigned != 0:
		return "AppendUint", types.Uint64
	case info&types.IsInteger != 0:
		return "AppendInt", types.Int64
	case basic.Kind() == types.Float32:
		return "AppendFloat32", types.Float32
	}
	return "AppendFloat64", types.Float64
}

// appendFunc renders a function that appends a task's result.
func (g *generator) appendFunc(t *scan.Type) *jen.Statement {
	if t.Kind == scan.Struct && t.Fallible() && !t.Deep() {
		return jen.Id(g.helperFor(t).append)
	}
	b, v := g.names.local("b"), g.names.local("v")
	value := operand{base: jen.Id(v), stars: 1}
	fn := jen.Func().Params(jen.Id(b).Index().Byte(), jen.Id(v).Op("*").Add(g.typ(t.Go))).
		Params(jen.Index().Byte(), jen.Error())
	if call := g.appendCallOnly(t, value, 0); call != nil {
		return fn.Add(oneLine(jen.Return(call, jen.Nil())))
	}
	if hasHelper(t) {
		return fn.Add(oneLine(jen.Return(g.callAppend(t, value, 0))))
	}
	return fn.BlockFunc(func(body *jen.Group) {
		if t.Fallible() {
			body.Var().Id(g.names.local("err")).Error()
		}
		g.appendValue(body, t, value, 1)
		body.Return(g.b(), jen.Nil())
	})
}
