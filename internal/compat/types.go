package compat

import (
	"math"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/internal/schema"
)

// reads reports whether every value written as old can be read as present, the type of now,
// without loss. Of two structs it returns true: problems of their fields it reports itself, at
// path.
func (r *reading) reads(old, present *schema.Type, path string) bool {
	pair := [2]*schema.Type{old, present}
	if slices.Contains(r.met, pair) {
		return true // being compared, or reported already
	}
	if old.Kind >= schema.Slice {
		r.met = append(r.met, pair)
	}
	switch {
	case present.Kind == schema.Pointer && old.Kind == schema.Pointer:
		return r.reads(old.Elem, present.Elem, path)
	case present.Kind == schema.Pointer:
		return r.reads(old, present.Elem, path)
	case present.Kind == schema.Struct && old.Kind == schema.Struct:
		r.fields(path, old.Fields, present.Fields)
		return true
	case present.Kind == schema.Struct:
		return false
	case old.Kind == schema.Pointer:
		return takesNil(present) && r.reads(old.Elem, present, path)
	case hasElements(present):
		return readsContainer(old, present) && r.reads(old.Elem, present.Elem, path+"[]")
	}
	return readsWhole(old, present)
}

// hasElements reports whether a type is a slice, an array or a map.
func hasElements(t *schema.Type) bool {
	return t.Kind == schema.Slice || t.Kind == schema.Array || t.Kind == schema.Map
}

// readsContainer is reads for a slice, an array or a map, without the elements.
func readsContainer(old, present *schema.Type) bool {
	switch present.Kind {
	case schema.Slice:
		return old.Kind == schema.Slice || old.Kind == schema.Array
	case schema.Array:
		return old.Kind == schema.Array && old.Len == present.Len
	}
	return old.Kind == schema.Map && readsKey(old.Key, present.Key)
}

// readsKey is reads for the keys of a map, which contain no structs.
func readsKey(old, present *schema.Type) bool {
	if old.Kind == schema.Array && present.Kind == schema.Array {
		return old.Len == present.Len && readsKey(old.Elem, present.Elem)
	}
	return readsWhole(old, present)
}

// readsWhole is reads for a type that has no parts.
func readsWhole(old, present *schema.Type) bool {
	switch present.Kind {
	case schema.Scalar:
		return old.Kind == schema.Scalar && readsScalar(old.Name, present.Name)
	case schema.Bytes:
		return isBinary(old)
	case schema.FixedBytes:
		return old.Kind == schema.FixedBytes && old.Len == present.Len
	case schema.Own:
		// The package of a type does not affect how it marshals itself.
		return old.Kind == schema.Own && old.Method == present.Method && typeName(old.Name) == typeName(present.Name)
	}
	return false
}

// typeName returns a type's name without package and type arguments.
func typeName(name string) string {
	name, _, _ = strings.Cut(name, "[")
	return name[strings.LastIndexByte(name, '.')+1:]
}

// takesNil reports whether the type reads nil as an empty value.
func takesNil(t *schema.Type) bool {
	switch t.Kind {
	case schema.Bytes, schema.Slice, schema.Map, schema.Own:
		return true
	}
	return false
}

// isBinary reports whether values of the type can be read as binary. This includes
// strings, and types that marshal themselves as binary or text.
func isBinary(t *schema.Type) bool {
	return t.Kind == schema.Bytes || t.Kind == schema.FixedBytes ||
		t.Kind == schema.Scalar && t.Name == "string" ||
		t.Kind == schema.Own && (t.Method == "binary" || t.Method == "text")
}

// readsScalar reports whether a scalar type holds every value of another. An int
// counts as 64 bits: on smaller systems, writer and reader return an error for a
// larger value.
func readsScalar(old, present string) bool {
	if old == present {
		return true
	}
	low, high, integer := schema.IntegerRange(old)
	switch present {
	case "float64":
		return old == "float32" || integer && within(low, high, 1<<53)
	case "float32":
		return integer && within(low, high, 1<<24)
	}
	lowest, highest, ok := schema.IntegerRange(present)
	return integer && ok && lowest <= low && high <= highest
}

// within reports whether all values of an integer type are from -limit to limit.
func within(low int64, high uint64, limit int64) bool {
	return low >= -limit && high <= uint64(min(limit, math.MaxInt64))
}
