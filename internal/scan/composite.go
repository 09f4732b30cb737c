package scan

import (
	"fmt"
	"go/ast"
	"go/types"
	"slices"
	"strconv"

	"github.com/taskgen/taskgen/internal/directive"
)

// composite parses a composite literal.
func (v *valuer) composite(lit *ast.CompositeLit, t *Type, written ast.Expr) *Value {
	if lit.Type != nil && !v.spells(lit.Type, t, written) {
		v.problem(lit.Pos(), "type %s where %s was expected", v.text(lit.Type), v.conv.print(t.Go))
		return nil
	}
	switch t.Kind {
	case Slice, Bytes, Array, ByteArray:
		return v.list(lit, t, written)
	case Map:
		return v.pairs(lit, t, written)
	case Struct:
		return v.fieldValues(lit, t)
	}
	if _, basic := t.Go.Underlying().(*types.Basic); basic {
		return v.wrong(lit, t, "")
	}
	if len(lit.Elts) > 0 {
		v.problem(lit.Elts[0].Pos(), "type %s is encoded as a whole; its only literal here is the empty one", v.conv.print(t.Go))
		return nil
	}
	return &Value{Type: t}
}

// list parses the elements of a slice or an array.
func (v *valuer) list(lit *ast.CompositeLit, t *Type, written ast.Expr) *Value {
	var elem ast.Expr
	if array, ok := written.(*ast.ArrayType); ok {
		elem = array.Elt
	}
	value := &Value{Type: t}
	for i, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			v.problem(kv.Pos(), "an element has an index; list all elements in order")
			return nil
		}
		if (t.Kind == Array || t.Kind == ByteArray) && int64(i) >= t.Len {
			v.problem(e.Pos(), "more than %d elements", t.Len)
			return nil
		}
		one := v.value(e, t.Elem, elem)
		if one == nil {
			return nil
		}
		value.Elems = append(value.Elems, Elem{Value: one})
	}
	return value
}

// pairs parses the keys and values of a map.
func (v *valuer) pairs(lit *ast.CompositeLit, t *Type, written ast.Expr) *Value {
	var key, elem ast.Expr
	if m, ok := written.(*ast.MapType); ok {
		key, elem = m.Key, m.Value
	}
	value := &Value{Type: t}
	seen := map[string]bool{}
	for _, e := range lit.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			v.problem(e.Pos(), "a map's element needs a key")
			return nil
		}
		k := v.value(kv.Key, t.Key, key)
		if k == nil {
			return nil
		}
		id := k.text()
		if seen[id] {
			v.problem(kv.Key.Pos(), "the key %s is repeated", v.text(kv.Key))
			return nil
		}
		seen[id] = true
		one := v.value(kv.Value, t.Elem, elem)
		if one == nil {
			return nil
		}
		value.Elems = append(value.Elems, Elem{Key: k, Value: one})
	}
	return value
}

// text distinguishes the values of keys.
func (v *Value) text() string {
	text := fmt.Sprint(v.Lit, v.Duration, v.Time)
	for _, e := range v.Elems {
		text += "," + e.Value.text()
	}
	return text
}

// fieldValues parses the fields of a struct by name.
func (v *valuer) fieldValues(lit *ast.CompositeLit, t *Type) *Value {
	value := &Value{Type: t}
	seen := map[string]bool{}
	for _, e := range lit.Elts {
		name, written := fieldValue(e)
		if name == nil {
			v.problem(e.Pos(), "a struct's field needs its name")
			return nil
		}
		i := slices.IndexFunc(t.Fields, func(f *Field) bool { return f.Path == name.Name })
		switch {
		case i < 0:
			v.problem(name.Pos(), "%s has no encoded field %q%s", v.conv.print(t.Go), name.Name, directive.Suggest(name.Name, fieldNames(t)))
			return nil
		case seen[name.Name]:
			v.problem(name.Pos(), "the field %s is repeated", name.Name)
			return nil
		}
		seen[name.Name] = true
		one := v.value(written, t.Fields[i].Type, nil)
		if one == nil {
			return nil
		}
		value.Elems = append(value.Elems, Elem{Field: name.Name, Value: one})
	}
	return value
}

// fieldValue splits "Name: value". It returns nil if the expression has no name.
func fieldValue(e ast.Expr) (name *ast.Ident, value ast.Expr) {
	kv, ok := e.(*ast.KeyValueExpr)
	if !ok {
		return nil, nil
	}
	name, _ = kv.Key.(*ast.Ident)
	return name, kv.Value
}

// spells reports whether a type expression in a default means type t: it is written
// like the parameter's type, or names it.
func (v *valuer) spells(expr ast.Expr, t *Type, written ast.Expr) bool {
	if written != nil && types.ExprString(expr) == types.ExprString(written) {
		return true
	}
	switch e := expr.(type) {
	case *ast.Ident:
		return v.means(t.Go, v.src.types.Path(), e.Name)
	case *ast.SelectorExpr:
		qualifier, ok := e.X.(*ast.Ident)
		return ok && v.means(t.Go, v.importPath(qualifier.Name), e.Sel.Name)
	case *ast.ArrayType:
		elem := elemOf(t.Go)
		return elem != nil && v.length(e, t) && v.spells(e.Elt, &Type{Go: elem}, nil)
	case *ast.MapType:
		m, ok := t.Go.(*types.Map)
		return ok && v.spells(e.Key, &Type{Go: m.Key()}, nil) && v.spells(e.Value, &Type{Go: m.Elem()}, nil)
	case *ast.StarExpr:
		p, ok := t.Go.(*types.Pointer)
		return ok && v.spells(e.X, &Type{Go: p.Elem()}, nil)
	}
	return false
}

// elemOf returns the type of the elements of a slice or an array, or nil.
func elemOf(t types.Type) types.Type {
	switch t := t.(type) {
	case *types.Slice:
		return t.Elem()
	case *types.Array:
		return t.Elem()
	}
	return nil
}

// length reports whether an array type expression has the length of t, or no length
// if t is a slice.
func (v *valuer) length(e *ast.ArrayType, t *Type) bool {
	array, isArray := t.Go.(*types.Array)
	if e.Len == nil || !isArray {
		return e.Len == nil && !isArray
	}
	lit, ok := e.Len.(*ast.BasicLit)
	return ok && lit.Value == strconv.FormatInt(array.Len(), 10)
}

// means reports whether t is the type of that name in that package, or predeclared.
func (v *valuer) means(t types.Type, path, name string) bool {
	var obj *types.TypeName
	switch t := t.(type) {
	case *types.Alias:
		obj = t.Obj()
	case *types.Named:
		obj = t.Obj()
	case *types.Basic:
		return t.Name() == name && path == v.src.types.Path()
	}
	return obj != nil && obj.Name() == name && (obj.Pkg() == nil || obj.Pkg().Path() == path)
}

// importPath returns the import path of a qualifier in the function's file.
func (v *valuer) importPath(qualifier string) string {
	for _, spec := range v.file.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		if spec.Name != nil {
			if spec.Name.Name == qualifier {
				return path
			}
			continue
		}
		if p, err := v.Import(path); err == nil && p.Name() == qualifier {
			return path
		}
	}
	return ""
}
