package scan

import (
	"fmt"
	"go/types"
)

// method is the pair of methods by which a type marshals itself.
type method struct {
	name  string // Custom, Marshaler, Binary, Text; "" for none
	nilIs bool   // a nil slice or map is written as nil without calling it
}

// pair is one way in which a type can marshal itself.
type pair struct {
	name, encode, decode             string
	encodeSignature, decodeSignature string
}

// pairs returns the ways in msgpack/v5's order of preference.
func pairs() []pair {
	const (
		bytesOut = "func() ([]byte, error)"
		bytesIn  = "func([]byte) error"
		encoder  = "func(*github.com/vmihailenco/msgpack/v5.Encoder) error"
		decoder  = "func(*github.com/vmihailenco/msgpack/v5.Decoder) error"
	)
	return []pair{
		{"Custom", "EncodeMsgpack", "DecodeMsgpack", encoder, decoder},
		{"Marshaler", "MarshalMsgpack", "UnmarshalMsgpack", bytesOut, bytesIn},
		{"Binary", "MarshalBinary", "UnmarshalBinary", bytesOut, bytesIn},
		{"Text", "MarshalText", "UnmarshalText", bytesOut, bytesIn},
	}
}

// marshaller returns the way that msgpack/v5 would choose for the type, or the reason
// why it does not work.
func marshaller(named *types.Named) (method, string) {
	if types.IsInterface(named) {
		return method{}, ""
	}
	enc, encPromoted, byValue := choose(named, func(p pair) (string, string) { return p.encode, p.encodeSignature })
	dec, decPromoted, _ := choose(named, func(p pair) (string, string) { return p.decode, p.decodeSignature })
	switch {
	case enc == nil && dec == nil:
		return method{}, ""
	case enc == nil:
		return method{}, fmt.Sprintf("has %s but no %s", dec.decode, dec.encode)
	case dec == nil:
		return method{}, fmt.Sprintf("has %s but no %s", enc.encode, enc.decode)
	case enc.name != dec.name:
		return method{}, fmt.Sprintf("would be written by %s but read by %s", enc.encode, dec.decode)
	case encPromoted || decPromoted:
		return method{}, fmt.Sprintf("gets %s from an embedded field, which would drop the other fields; give the field a name", enc.encode)
	}
	nilIs := false
	switch named.Underlying().(type) {
	case *types.Slice, *types.Map:
		nilIs = byValue
	}
	return method{name: enc.name, nilIs: nilIs}, ""
}

// choose returns the first pair of which the type has one half, looking at methods of
// values first and then at methods of pointers.
func choose(named *types.Named, half func(pair) (name, signature string)) (p *pair, promoted, byValue bool) {
	for _, t := range []types.Type{named, types.NewPointer(named)} {
		set := types.NewMethodSet(t)
		for _, p := range pairs() {
			name, signature := half(p)
			m := set.Lookup(nil, name)
			if m != nil && types.TypeString(withoutNames(m.Type()), nil) == signature {
				return &p, len(m.Index()) > 1, t == types.Type(named)
			}
		}
	}
	return nil, false, false
}

// withoutNames returns a method's type without parameter and result names, so that
// equal types print equally.
func withoutNames(t types.Type) types.Type {
	sig, ok := t.(*types.Signature)
	if !ok {
		return t
	}
	bare := func(tuple *types.Tuple) *types.Tuple {
		var vars []*types.Var
		for v := range tuple.Variables() {
			vars = append(vars, types.NewParam(0, nil, "", types.Unalias(v.Type())))
		}
		return types.NewTuple(vars...)
	}
	return types.NewSignatureType(nil, nil, nil, bare(sig.Params()), bare(sig.Results()), sig.Variadic())
}

// hasIsZero reports whether the type has the method IsZero() bool, which omitempty
// calls.
func hasIsZero(t types.Type) bool {
	m := types.NewMethodSet(t).Lookup(nil, "IsZero")
	return m != nil && types.TypeString(withoutNames(m.Type()), nil) == "func() bool"
}

func hasPointerIsZero(elem types.Type) bool { return hasIsZero(types.NewPointer(elem)) }
