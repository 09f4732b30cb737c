package scan

import (
	"fmt"
	"go/types"
)

func (c *converter) mapOf(t types.Type, m *types.Map, path string) (*Type, *culprit) {
	key, bad := c.convert(m.Key(), path+"[key]")
	if bad != nil {
		return nil, bad
	}
	if !isKey(key) {
		return nil, &culprit{path: path, why: fmt.Sprintf("is of type %s; a map's keys must be strings, integers, bools, times, types with MarshalText, MarshalBinary or EncodeMsgpack, or arrays of these; use a slice of structs with a field for the key, or give the key such methods", c.print(t))}
	}
	elem, bad := c.convert(m.Elem(), path+"[]")
	return &Type{Kind: Map, Go: t, Key: key, Elem: elem}, bad
}

// isKey reports whether the keys of a map may be of the type: equal keys have the same
// bytes, and what is read from them is equal again. A float may be no key, as NaN differs
// from itself, nor may a struct, which few languages have as one.
func isKey(t *Type) bool {
	switch t.Kind {
	case Basic:
		return t.Basic.Info()&(types.IsString|types.IsInteger|types.IsBoolean) != 0
	case ByteArray, Time:
		return true
	case Array:
		return isKey(t.Elem)
	case Custom:
		_, pointer := t.Go.Underlying().(*types.Pointer)
		return !pointer
	}
	return false
}

// SortsKeys reports whether Go orders the keys of a map. Others are ordered by their bytes,
// and may turn out to have the same ones.
func (t *Type) SortsKeys() bool {
	return t.Key.Kind == Basic && t.Key.Basic.Info()&types.IsBoolean == 0
}
