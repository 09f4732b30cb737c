package render

import (
	"go/types"

	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/scan"
)

// Guesses of what a value holds, to make room for it in one step. Guessing
// wrong costs time or memory, nothing else.
const (
	typicalLen    = 10      // bytes in a string
	typicalCount  = 3       // elements in a collection
	typicalCustom = 18      // bytes of what marshals itself
	longestHeader = 5       // bytes in front of a string
	largestGuess  = 4 << 10 // bytes for all
)

// grow renders what makes room in b for the fields: for strings and binary as
// much as they take, for the rest what it usually takes.
func (g *generator) grow(fields []*wireField, v operand) *jen.Statement {
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
	return g.set(g.names.qual("slices", "slices", "Grow").Call(g.b(), room))
}

// guess returns about how many bytes a value of the type takes.
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
		size := 3
		for _, f := range t.Fields {
			size += len(keyBytes(f.Key)) + guess(f.Type)
		}
		return min(size, largestGuess)
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
