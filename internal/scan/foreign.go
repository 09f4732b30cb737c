package scan

import (
	"fmt"
	"go/ast"
	"go/types"
	"path"
	"strings"
)

// foreignHint returns why a struct of another package loses an unexported field, and the
// way round, or "": only that package could give the type a marshaller.
func (c *converter) foreignHint(t types.Type, v *types.Var, inlined bool) string {
	named, ok := types.Unalias(t).(*types.Named)
	if !ok || v.Exported() || inlined && isStruct(v.Type()) || named.Obj().Pkg() == nil || named.Obj().Pkg().Path() == c.pkg.Path() {
		return ""
	}
	name := c.print(named)
	if named.Obj().Pkg().Path() == "sync" {
		return notPlain(name)
	}
	why := fmt.Sprintf("is of type %s, whose field %s is not exported and would be lost; ", name, hiddenField(named))
	if plain := c.plain(named); plain != "" {
		return why + "use " + plain
	}
	return why + wrapper(named.Obj().Name(), name, protobuf(named))
}

// hiddenField returns the first field of a struct that is not exported and has a name.
func hiddenField(named *types.Named) string {
	s, _ := named.Underlying().(*types.Struct)
	for f := range s.Fields() {
		if !f.Exported() && f.Name() != "_" {
			return f.Name()
		}
	}
	return "_"
}

// wrapper returns the advice to wrap a type, as the end of a sentence.
func wrapper(short, name string, message bool) string {
	if message {
		return fmt.Sprintf("wrap the protobuf message: type %s struct{ *%s }, with MarshalBinary and UnmarshalBinary, which call proto.Marshal and proto.Unmarshal", short, name)
	}
	return fmt.Sprintf("wrap it: type %s struct{ %s }, with MarshalBinary and UnmarshalBinary, or MarshalText and UnmarshalText", short, name)
}

// protobuf reports whether a type, or a pointer to it, is a protobuf message.
func protobuf(t types.Type) bool {
	t = types.Unalias(t)
	if _, named := t.(*types.Named); !named {
		return false
	}
	if !types.IsInterface(t) {
		t = types.NewPointer(t)
	}
	set := types.NewMethodSet(t)
	return set.Lookup(nil, "ProtoReflect") != nil || set.Lookup(nil, "ProtoMessage") != nil
}

// plain returns the type whose values another one holds, or "": of atomics, and of
// protobuf's times.
func (c *converter) plain(named *types.Named) string {
	obj := named.Obj()
	switch path.Base(obj.Pkg().Path()) {
	case "timestamppb":
		return "time.Time"
	case "durationpb":
		return "time.Duration"
	case "atomic":
	default:
		return ""
	}
	switch name := obj.Name(); name {
	case "Bool", "Int32", "Int64", "Uint32", "Uint64", "Float32", "Float64", "String":
		return strings.ToLower(name) + ", and its value at the time of the call"
	case "Uintptr":
		return "uint64, and its value at the time of the call"
	case "Duration", "Time":
		return "time." + name + ", and its value at the time of the call"
	case "Pointer":
		if args := named.TypeArgs(); args.Len() == 1 {
			return "*" + c.print(args.At(0)) + ", and its value at the time of the call"
		}
	}
	return "the type of the value that it holds"
}

// canSkip adds the advice to leave a field of the package out.
func (c *converter) canSkip(v *types.Var, bad *culprit) *culprit {
	if bad.skippable && v.Pkg() != nil && v.Pkg().Path() == c.pkg.Path() {
		bad.why += fmt.Sprintf(`; or give the field %s the tag msgpack:"-"`, v.Name())
		bad.skippable = false
	}
	return bad
}

// cgoPrefix begins the name of C's types where cgo has translated them.
const cgoPrefix = "_Ctype_"

// ctypeName returns C's name of a type that cgo has declared, or "".
func ctypeName(named *types.Named) string {
	if name, ok := strings.CutPrefix(named.Obj().Name(), cgoPrefix); ok {
		return "C." + name
	}
	return ""
}

// cTypeIn returns the first of C's types that an expression names, or "".
func cTypeIn(expr ast.Expr) string {
	found := ""
	ast.Inspect(expr, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && found == "" {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "C" {
				found = "C." + sel.Sel.Name
			}
		}
		return found == ""
	})
	return found
}

// cType returns the first of C's types in the declaration of a type or field, or "".
func (s *pass) cType(obj types.Object) string {
	if obj == nil || obj.Pkg() == nil || s.byPath[obj.Pkg().Path()] == nil {
		return ""
	}
	found := ""
	for _, file := range s.byPath[obj.Pkg().Path()].files {
		if obj.Pos() < file.FileStart || obj.Pos() > file.FileEnd || !importsC(file) {
			continue
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Field:
				if n.Pos() <= obj.Pos() && obj.Pos() < n.End() {
					found = cTypeIn(n.Type)
				}
			case *ast.TypeSpec:
				if n.Name.Pos() == obj.Pos() {
					found = cTypeIn(n.Type)
				}
			}
			return true
		})
	}
	return found
}

func importsC(file *ast.File) bool {
	for _, spec := range file.Imports {
		if spec.Path.Value == `"C"` {
			return true
		}
	}
	return false
}

// ofC returns the reason that a value is of C's type.
func ofC(name string) string {
	return fmt.Sprintf("is of type %s, a type of C; %s", name, insteadOfC(name))
}

// insteadOfC returns what to write in place of C's type.
func insteadOfC(name string) string {
	if plain := plainOfC(strings.TrimPrefix(name, "C.")); plain != "" {
		return "use " + plain + " and convert it"
	}
	return "use one of Go, with the same content, or wrap it in a type with MarshalBinary and UnmarshalBinary"
}

// plainOfC returns Go's type for one of C's, or "".
func plainOfC(name string) string {
	switch name {
	case "char":
		return "string (C.GoString) or int8"
	case "schar", "int8_t":
		return "int8"
	case "uchar", "uint8_t":
		return "uint8"
	case "short", "int16_t":
		return "int16"
	case "ushort", "uint16_t":
		return "uint16"
	case "int", "int32_t":
		return "int32"
	case "uint", "uint32_t":
		return "uint32"
	case "long", "longlong", "int64_t", "ssize_t", "intptr_t", "ptrdiff_t":
		return "int64"
	case "ulong", "ulonglong", "uint64_t", "size_t", "uintptr_t":
		return "uint64"
	case "float":
		return "float32"
	case "double":
		return "float64"
	case "bool", "_Bool":
		return "bool"
	}
	return ""
}
