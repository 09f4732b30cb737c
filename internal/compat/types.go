package compat

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/internal/schema"
)

// fit is how many of the values that are written as one type can be read as another,
// without loss.
type fit int

// The values that fit.
const (
	never  fit = iota // none, or hardly any
	partly            // some
	fits              // all
)

// reads returns how the values written as old can be read as present. Of two structs it
// returns fits: problems of their fields it reports itself, at path.
func (r *reading) reads(old, present *schema.Type, path string) fit {
	pair := [2]*schema.Type{old, present}
	if slices.Contains(r.met, pair) {
		return fits // being compared, or reported already
	}
	if old.Kind >= schema.Slice {
		r.met = append(r.met, pair)
	}
	switch {
	case present.Kind == schema.Pointer && old.Kind == schema.Pointer:
		return r.reads(old.Elem, present.Elem, path)
	case present.Kind == schema.Pointer:
		return r.reads(old, present.Elem, path)
	case old.Kind == schema.Pointer && takesNil(present):
		return r.reads(old.Elem, present, path)
	case old.Kind == schema.Pointer:
		return min(r.reads(old.Elem, present, path), partly)
	case present.Kind == schema.Struct && old.Kind == schema.Struct:
		r.readsStruct(old, present, path)
		return fits
	case present.Kind == schema.Struct:
		return never
	case hasElements(present):
		container := r.readsContainer(old, present, path)
		if container == never {
			return never
		}
		return min(container, r.reads(old.Elem, present.Elem, path+"[]"))
	case present.Kind == schema.Own:
		return r.readsOwn(old, present, path)
	}
	return readsWhole(old, present)
}

func (r *reading) readsStruct(old, present *schema.Type, path string) {
	compare := r.fields
	if r.structs != nil {
		compare = r.structs
	}
	compare(path, old.Fields, present.Fields)
}

// hasElements reports whether a type is a slice, an array or a map.
func hasElements(t *schema.Type) bool {
	return t.Kind == schema.Slice || t.Kind == schema.Array || t.Kind == schema.Map
}

// readsContainer is reads for a slice, an array or a map, without the elements.
func (r *reading) readsContainer(old, present *schema.Type, path string) fit {
	switch present.Kind {
	case schema.Slice:
		return whether(old.Kind == schema.Slice || old.Kind == schema.Array)
	case schema.Array:
		if old.Kind == schema.Slice {
			return partly
		}
		return whether(old.Kind == schema.Array && old.Len == present.Len)
	}
	if old.Kind != schema.Map {
		return never
	}
	return r.readsKey(old.Key, present.Key, path)
}

// readsKey is reads for the keys of a map, which contain no structs.
func (r *reading) readsKey(old, present *schema.Type, path string) fit {
	switch {
	case old.Kind == schema.Array && present.Kind == schema.Array && old.Len == present.Len:
		return r.readsKey(old.Elem, present.Elem, path)
	case present.Kind == schema.Own:
		return r.readsOwn(old, present, path)
	}
	return readsWhole(old, present)
}

func whether(all bool) fit {
	if all {
		return fits
	}
	return never
}

// readsWhole is reads for a type that has no parts.
func readsWhole(old, present *schema.Type) fit {
	switch present.Kind {
	case schema.Scalar:
		if old.Kind == schema.Scalar {
			return readsScalar(old.Name, present.Name)
		}
	case schema.Bytes:
		return whether(isBinary(old))
	case schema.FixedBytes:
		if old.Kind == schema.Bytes {
			return partly
		}
		return whether(old.Kind == schema.FixedBytes && old.Len == present.Len)
	}
	return never
}

// readsOwn is reads for a type that marshals itself. The package of a type does not affect
// how it does that, as far as can be told, but its type arguments do.
func (r *reading) readsOwn(old, present *schema.Type, path string) fit {
	if old.Kind != schema.Own || old.Method != present.Method {
		return never
	}
	was, is := typeOf(old), typeOf(present)
	fit := readsArguments(old, present)
	switch {
	case was.name != is.name:
		return never
	case fit != fits:
		return fit
	case was.arguments != is.arguments || len(old.Args) == len(present.Args) && !slices.Equal(old.Args, present.Args):
		r.note(path, "%s was %s and is %s, which marshals itself: taskgen cannot see whether it reads %s; try it, or keep the type", r.at(path), old, present, r.written)
	case was.path != is.path:
		r.note(path, "%s was of type %s and is of type %s, which marshals itself: taskgen cannot see whether it reads %s; try it, or keep the type", r.at(path), old.Name, present.Name, r.written)
	}
	return fits
}

// at returns the name of a path for messages.
func (r *reading) at(path string) string {
	switch {
	case path == "":
		return "the result"
	case r.result:
		return "result field " + path
	case strings.Contains(path, "."):
		return "field " + path
	}
	return fmt.Sprintf("parameter %q", path)
}

// readsArguments is reads for the type arguments of types that marshal themselves. Without
// their forms, their names decide.
func readsArguments(old, present *schema.Type) fit {
	if len(old.Args) != len(present.Args) || len(old.Args) == 0 {
		return whether(typeOf(old).arguments == typeOf(present).arguments)
	}
	all := fits
	for i := range old.Args {
		was, err := schema.Parse(old.Args[i])
		if err != nil {
			return never
		}
		is, err := schema.Parse(present.Args[i])
		if err != nil {
			return never
		}
		again := reading{}
		if all = min(all, again.reads(was, is, "x")); len(again.paths()) > 0 {
			return never
		}
	}
	return all
}

// typeName is the parts of a type's name.
type typeName struct {
	path      string // of its package
	name      string
	arguments string // without their packages
}

// typeOf splits the name of a type that marshals itself.
func typeOf(t *schema.Type) typeName {
	name, arguments, _ := strings.Cut(t.Name, "[")
	dot := strings.LastIndexByte(name, '.')
	return typeName{name[:max(dot, 0)], name[dot+1:], withoutPackages(arguments)}
}

// withoutPackages returns the text of type arguments without the paths of their packages.
func withoutPackages(text string) string {
	var out strings.Builder
	for text != "" {
		end := strings.IndexAny(text, "[]*,{}(); ")
		if end < 0 {
			end = len(text)
		}
		word := text[:end]
		out.WriteString(word[strings.LastIndexByte(word, '.')+1:])
		if end < len(text) {
			out.WriteByte(text[end])
			end++
		}
		text = text[end:]
	}
	return out.String()
}

// takesNil reports whether the type reads nil as an empty value.
func takesNil(t *schema.Type) bool {
	switch t.Kind {
	case schema.Bytes, schema.Slice, schema.Map:
		return true
	}
	return t.Kind == schema.Own && t.NilIs
}

// isBinary reports whether values of the type can be read as binary. This includes
// strings, and types that marshal themselves as binary or text.
func isBinary(t *schema.Type) bool {
	return t.Kind == schema.Bytes || t.Kind == schema.FixedBytes ||
		t.Kind == schema.Scalar && t.Name == "string" ||
		t.Kind == schema.Own && (t.Method == "binary" || t.Method == "text")
}

// readsScalar is reads for two scalar types. An int counts as 64 bits: on smaller systems,
// writer and reader return an error for a larger value.
func readsScalar(old, present string) fit {
	if old == present {
		return fits
	}
	low, high, integer := schema.IntegerRange(old)
	exact := map[string]int64{"float64": 1 << 53, "float32": 1 << 24}[present]
	switch {
	case integer && exact > 0 && within(low, high, exact):
		return fits
	case integer && exact > 0:
		return partly
	case present == "float64":
		return whether(old == "float32")
	}
	lowest, highest, ok := schema.IntegerRange(present)
	switch {
	case !integer || !ok:
		return never
	case lowest <= low && high <= highest:
		return fits
	}
	return partly
}

// within reports whether all values of an integer type are from -limit to limit.
func within(low int64, high uint64, limit int64) bool {
	return low >= -limit && high <= uint64(min(limit, math.MaxInt64))
}
