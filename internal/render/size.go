package render

import (
	"go/types"

	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/scan"
)

// Guesses of the size of values, for one allocation. A wrong guess costs time or
// memory only.
const (
	typicalLen    = 10      // bytes in a string
	typicalCount  = 3       // elements in a collection
	typicalCustom = 18      // bytes of a value that marshals itself
	longestHeader = 5       // bytes before a string
	largestGuess  = 4 << 10 // bytes in all
)

// grown renders the expression of b with space reserved: exact for strings and binary,
// typical for other types.
func (g *generator) grown(fields []*wireField, v operand) *jen.Statement {
	fixed := 3 // the map's header
	var exact []*jen.Statement
	for _, f := range fields {
		fixed += len(keyBytes(f.key))
		if f.typ.Kind == scan.Bytes || f.typ.Kind == scan.Basic && f.typ.Basic.Info()&types.IsString != 0 {
			fixed += longestHeader
			exact = append(exact, jen.Len(v.field(f.path).value()))
		} else {
			fixed += guess(f.typ)
		}
	}
	room := jen.Lit(min(fixed, largestGuess))
	for _, length := range exact {
		room.Op("+").Add(length)
	}
	return g.names.qual("slices", "slices", "Grow").Call(g.b(), room)
}

// guess returns the typical size of a value in bytes.
func guess(t *scan.Type) int {
	if t.Recursive {
		return typicalCustom
	}
	switch t.Kind {
	case scan.Basic:
		return guessBasic(t.Basic)
	case scan.Time:
		return 15
	case scan.Bytes:
		return longestHeader + typicalLen
	case scan.ByteArray:
		return longestHeader + int(min(t.Len, largestGuess))
	case scan.Struct:
		return guessStruct(t)
	case scan.Pointer:
		return guess(t.Elem)
	case scan.Slice:
		return 1 + min(typicalCount*guess(t.Elem), largestGuess)
	case scan.Array:
		return 5 + min(int(min(t.Len, largestGuess))*guess(t.Elem), largestGuess)
	case scan.Map:
		return 1 + min(typicalCount*(guess(t.Key)+guess(t.Elem)), largestGuess)
	}
	return typicalCustom
}

func guessStruct(t *scan.Type) int {
	size := 3 // the map's header
	for _, f := range t.Fields {
		size += len(keyBytes(f.Key)) + guess(f.Type)
	}
	return min(size, largestGuess)
}

func guessBasic(basic *types.Basic) int {
	switch basic.Kind() {
	case types.Bool:
		return 1
	case types.Int8, types.Uint8:
		return 2
	case types.Int16, types.Uint16:
		return 3
	case types.Int32, types.Uint32, types.Float32:
		return 5
	case types.String:
		return 1 + typicalLen
	}
	return 9
}
