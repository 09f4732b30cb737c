package scan

import (
	"cmp"
	"fmt"
	"go/types"
	"slices"
)

// Kind is the way in which a type is encoded.
type Kind int

// The kinds of types that the codec encodes.
const (
	Basic     Kind = iota // bool, string, integer or float, or a type based on one
	Bytes                 // slice of bytes, as binary
	ByteArray             // array of bytes, as binary of that length
	Time                  // time.Time
	Slice
	Array
	Map
	Pointer
	Struct
	Custom // type with its own marshaller
)

// Type is a Go type and how it is encoded.
type Type struct {
	Kind   Kind
	Go     types.Type   // as in the source
	Basic  *types.Basic // of Basic: the underlying type
	Key    *Type        // of Map
	Elem   *Type        // of Slice, Array, Map and Pointer
	Len    int64        // of Array and ByteArray
	Fields []*Field     // of Struct
	Method string       // of Custom: Custom, Marshaler, Binary or Text
	Args   []*Type      // of Custom: its type arguments, if each can be encoded
	NilIs  bool         // of Custom: a slice or map that is encoded as nil if it is nil
	IsZero bool         // has the method IsZero() bool

	// Variant tells a type whose fields have defaults in one parameter from the type itself.
	Variant string

	// Recursive marks a named type that contains itself. Every cycle of types has
	// one, so a walk over types ends if it stops at them.
	Recursive bool
}

// ID returns a name of the type that is the same in every package and every
// type-check.
func (t *Type) ID() string { return t.base() + t.Variant }

func (t *Type) base() string { return types.TypeString(types.Unalias(t.Go), nil) }

// IsDuration reports whether the type is time.Duration.
func (t *Type) IsDuration() bool {
	return types.TypeString(types.Unalias(t.Go), nil) == "time.Duration"
}

// Fallible reports whether encoding a value can fail: a type in it marshals itself,
// or contains itself and so may be nested too deeply.
func (t *Type) Fallible() bool {
	if t.Recursive {
		return true
	}
	switch t.Kind {
	case Custom:
		return true
	case Slice, Array, Pointer:
		return t.Elem.Fallible()
	case Map:
		return !t.SortsKeys() || t.Elem.Fallible()
	case Struct:
		return slices.ContainsFunc(t.Fields, func(f *Field) bool { return f.Type.Fallible() })
	}
	return false
}

// Deep reports whether the type contains itself or a type that does, so that values
// may nest without end.
func (t *Type) Deep() bool {
	switch {
	case t.Recursive:
		return true
	case t.Kind == Struct:
		return slices.ContainsFunc(t.Fields, func(f *Field) bool { return f.Type.Deep() })
	}
	return t.Elem != nil && t.Elem.Deep()
}

// culprit is the part of a type that cannot be encoded, and why.
type culprit struct {
	path string // path from the parameter to that part
	why  string // end of a sentence: "is of type chan int"

	skippable  bool   // a field may be left out by its tag
	undeclared bool   // the reason is not known yet
	generated  string // the generated type, if it is of one
	runtime    string // the runtime's type, if it is of one that stands for runs
}

func (c *culprit) String() string { return c.path + " " + c.why }

// converter makes Types for one package.
type converter struct {
	pass  *pass
	pkg   *types.Package
	open  map[string]*Type // named types being converted by id, to find recursion
	known map[string]*Type // converted named types by id
	arg   bool             // converts a type argument of a type that marshals itself
}

// maxOpen is how deeply named types may nest. A generic type that contains ever
// larger instances of itself has no end.
const maxOpen = 100

func newConverter(pkg *types.Package, s *pass) *converter {
	return &converter{pass: s, pkg: pkg, open: map[string]*Type{}, known: map[string]*Type{}}
}

// qualify qualifies types as code in the package would.
func (c *converter) qualify(p *types.Package) string {
	switch p.Path() {
	case c.pkg.Path():
		return ""
	case RuntimePath:
		return "taskrt"
	}
	return p.Name()
}

func (c *converter) print(t types.Type) string { return types.TypeString(t, c.qualify) }

// convert returns t as a Type, or the part of it that cannot be encoded.
func (c *converter) convert(t types.Type, path string) (*Type, *culprit) {
	named, _ := types.Unalias(t).(*types.Named)
	if named == nil {
		return c.shape(t, path)
	}
	if bad := cmp.Or(c.ofRuntime(named, path), c.reach(t, path)); bad != nil {
		return nil, bad
	}
	id := types.TypeString(named, nil)
	if known := c.known[id]; known != nil {
		again := *known
		again.Go = t
		return &again, nil
	}
	if open := c.open[id]; open != nil {
		open.Recursive = true
		return open, nil
	}
	if len(c.open) == maxOpen {
		return nil, &culprit{path: path[:min(len(path), maxOpen/4)] + "…", why: fmt.Sprintf("nests more than %d types", maxOpen)}
	}
	return c.convertNew(id, t, named, path)
}

// convertNew converts a named type for the first time. The type may contain itself.
func (c *converter) convertNew(id string, t types.Type, named *types.Named, path string) (*Type, *culprit) {
	// References to the type from within need its kind only.
	converted := &Type{Kind: outline(named), Go: t, IsZero: hasIsZero(named)}
	c.open[id] = converted
	whole, bad := c.named(t, named, path)
	delete(c.open, id)
	if bad != nil {
		return nil, bad
	}
	whole.Recursive = converted.Recursive
	*converted = *whole
	c.known[id] = converted
	return converted, nil
}

// outline returns the kind of a type without its own marshaller.
func outline(named *types.Named) Kind {
	switch named.Underlying().(type) {
	case *types.Slice:
		return Slice
	case *types.Array:
		return Array
	case *types.Map:
		return Map
	case *types.Pointer:
		return Pointer
	case *types.Struct:
		return Struct
	}
	return Basic
}

// named converts a named type: by its marshaller if it has one, otherwise by its
// underlying type.
func (c *converter) named(t types.Type, named *types.Named, path string) (*Type, *culprit) {
	if isTime(named) {
		return &Type{Kind: Time, Go: t, IsZero: true}, nil
	}
	if name := ctypeName(named); name != "" {
		return nil, &culprit{path: path, why: ofC(name), skippable: true}
	}
	if basic, ok := named.Underlying().(*types.Basic); ok && basic.Kind() == types.Invalid {
		if name := c.pass.cType(named.Obj()); name != "" {
			return nil, &culprit{path: path, why: fmt.Sprintf("is of type %s, which is %s, a type of C; %s", c.print(named), name, insteadOfC(name)), skippable: true}
		}
		return nil, &culprit{path: path, why: fmt.Sprintf("is of type %s, whose declaration is not valid Go%s", c.print(named), c.pass.explain(named.Obj()))}
	}
	method, why := marshaller(named)
	if why != "" {
		return nil, &culprit{path: path, why: fmt.Sprintf("is of type %s, which %s", c.print(named), why)}
	}
	converted := &Type{Kind: Custom, Go: t, Method: method.name, NilIs: method.nilIs}
	if method.name != "" {
		converted.Args = c.arguments(named)
	} else {
		var bad *culprit
		if converted, bad = c.shape(t, path); bad != nil {
			return nil, bad
		}
	}
	converted.IsZero = hasIsZero(named)
	return converted, nil
}

// arguments converts the type arguments of a type that marshals itself, if each can be
// encoded. They matter only for comparisons of versions.
func (c *converter) arguments(named *types.Named) (converted []*Type) {
	if c.arg {
		return nil // an argument may contain the type itself
	}
	inner := *c
	inner.arg, inner.known, inner.open = true, map[string]*Type{}, map[string]*Type{}
	for arg := range named.TypeArgs().Types() {
		t, bad := inner.convert(arg, "")
		if bad != nil {
			return nil
		}
		converted = append(converted, t)
	}
	return converted
}

func isTime(named *types.Named) bool {
	obj := named.Obj()
	return obj.Pkg() != nil && obj.Pkg().Path() == "time" && obj.Name() == "Time"
}

// shape converts a type by its underlying type.
func (c *converter) shape(t types.Type, path string) (*Type, *culprit) {
	switch u := t.Underlying().(type) {
	case *types.Basic:
		return c.basic(t, u, path)
	case *types.Slice:
		return c.sequence(&Type{Kind: Slice, Go: t}, Bytes, u.Elem(), path)
	case *types.Array:
		return c.sequence(&Type{Kind: Array, Go: t, Len: u.Len()}, ByteArray, u.Elem(), path)
	case *types.Map:
		return c.mapOf(t, u, path)
	case *types.Pointer:
		return c.pointer(t, u, path)
	case *types.Struct:
		fields, bad := c.fields(t, u, path)
		return &Type{Kind: Struct, Go: t, Fields: fields}, bad
	case *types.Interface:
		if protobuf(t) {
			return nil, &culprit{path: path, why: fmt.Sprintf("is of type %s, an interface; use a concrete protobuf message T, wrapped: type Message struct{ *T }, with MarshalBinary and UnmarshalBinary, which call proto.Marshal and proto.Unmarshal", c.print(t))}
		}
		return nil, &culprit{path: path, why: fmt.Sprintf("is of type %s, an interface; use a concrete type", c.print(t))}
	}
	return nil, &culprit{path: path, why: notPlain(c.print(t))}
}

// sequence completes a slice or an array by its elements, whose kind is binary if they
// are bytes.
func (c *converter) sequence(t *Type, binary Kind, elem types.Type, path string) (*Type, *culprit) {
	if isByte(elem) {
		t.Kind, t.Elem = binary, &Type{Go: elem, Kind: Basic, Basic: types.Typ[types.Uint8]}
		return t, c.reach(elem, path)
	}
	var bad *culprit
	t.Elem, bad = c.convert(elem, path+"[]")
	return t, bad
}

func (c *converter) pointer(t types.Type, p *types.Pointer, path string) (*Type, *culprit) {
	elem, bad := c.convert(p.Elem(), path)
	if bad != nil {
		return nil, bad
	}
	if elem.Kind == Custom && types.Unalias(t) != types.Type(p) {
		return nil, &culprit{path: path, why: fmt.Sprintf("is of type %s, a pointer that lost the methods of %s; use *%[2]s", c.print(t), c.print(p.Elem()))}
	}
	return &Type{Kind: Pointer, Go: t, Elem: elem, IsZero: elem.IsZero || hasPointerIsZero(p.Elem())}, nil
}

// notPlain returns the message for a type that has no meaning outside the program.
func notPlain(t string) string {
	return "is of type " + t + "; send plain data: numbers, strings, times, and structs, slices and maps of them"
}

// isByte reports whether msgpack/v5 encodes a slice of such elements as binary.
func isByte(t types.Type) bool {
	basic, ok := t.Underlying().(*types.Basic)
	return ok && basic.Kind() == types.Uint8
}

func (c *converter) basic(t types.Type, b *types.Basic, path string) (*Type, *culprit) {
	switch {
	case b.Kind() == types.Invalid:
		bad := &culprit{path: path, why: "is of a type that is not declared", undeclared: true}
		if alias, ok := t.(*types.Alias); ok {
			if name := c.pass.cType(alias.Obj()); name != "" {
				return nil, &culprit{path: path, why: ofC(name), skippable: true}
			}
			why := c.pass.explain(alias.Obj())
			bad.why, bad.undeclared = bad.why+why, why == ""
		}
		return nil, bad
	case b.Info()&(types.IsBoolean|types.IsString|types.IsInteger|types.IsFloat) == 0,
		b.Kind() == types.Uintptr, b.Kind() == types.UnsafePointer:
		return nil, &culprit{path: path, why: notPlain(c.print(t))}
	}
	return &Type{Kind: Basic, Go: t, Basic: b}, nil
}

// namesUnexported returns the first unexported type of the package that occurs in t,
// or "".
func namesUnexported(t types.Type, pkg *types.Package) string {
	switch t := t.(type) {
	case *types.Alias:
		return unexportedIn(t.Obj(), t.TypeArgs(), pkg)
	case *types.Named:
		return unexportedIn(t.Obj(), t.TypeArgs(), pkg)
	case *types.Pointer:
		return namesUnexported(t.Elem(), pkg)
	case *types.Slice:
		return namesUnexported(t.Elem(), pkg)
	case *types.Array:
		return namesUnexported(t.Elem(), pkg)
	case *types.Map:
		return cmp.Or(namesUnexported(t.Key(), pkg), namesUnexported(t.Elem(), pkg))
	}
	return ""
}

// unexportedIn is namesUnexported for a declared type with its type arguments.
func unexportedIn(obj *types.TypeName, args *types.TypeList, pkg *types.Package) string {
	if obj.Pkg() != nil && obj.Pkg().Path() == pkg.Path() && !obj.Exported() {
		return obj.Name()
	}
	for arg := range args.Types() {
		if name := namesUnexported(arg, pkg); name != "" {
			return name
		}
	}
	return ""
}
