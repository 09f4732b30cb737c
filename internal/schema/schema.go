package schema

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Kind is a form of values on the wire.
type Kind int

// The kinds of type.
const (
	Scalar     Kind = iota // Name is the type: bool, string, int8, time …
	Bytes                  // binary of any length, or nil
	FixedBytes             // binary of Len bytes
	Slice                  // an array of any length, or nil
	Array                  // an array of Len elements
	Map                    // a map from Key to Elem, or nil
	Pointer                // nil, or an Elem
	Struct                 // a map keyed by the fields' names
	Own                    // a type Name that marshals itself by Method
)

// Type is the wire form of a type. Types may contain themselves.
type Type struct {
	Kind   Kind
	Name   string   // of a Scalar or Own; otherwise the Go type's name, or ""
	Method string   // of Own: custom, marshaler, binary or text
	Args   []string // of Own: the forms of its type arguments
	NilIs  bool     // of Own: nil is read as an empty value. It is known in the source only, and not part of the form
	Len    int64    // of FixedBytes and Array
	Key    *Type    // of Map
	Elem   *Type    // of Slice, Array, Map and Pointer
	Fields []Field
}

// Field is a parameter or a field of a struct.
type Field struct {
	Key      string
	Old      []string // further keys under which it is read
	Type     *Type
	Optional bool // the writer may omit it, and the reader does without it
	Default  bool // the reader has a value if it is missing
}

// Dispensable reports whether a message without the field can be read.
func (f Field) Dispensable() bool {
	return f.Optional || f.Default || f.Type.Kind == Pointer
}

// Params returns the one-line form of a task's parameters.
func Params(fields []Field) string {
	p := newPrinter(&Type{Kind: Struct, Fields: fields})
	p.fields(fields)
	return p.out.String()
}

// String returns the type's one-line form.
func (t *Type) String() string {
	p := newPrinter(t)
	p.typ(t)
	return p.out.String()
}

// parts returns the types of which t is directly made.
func (t *Type) parts() []*Type {
	var parts []*Type
	if t.Key != nil {
		parts = append(parts, t.Key)
	}
	if t.Elem != nil {
		parts = append(parts, t.Elem)
	}
	for _, f := range t.Fields {
		parts = append(parts, f.Type)
	}
	return parts
}

// composite reports whether the type is made of other types.
func (t *Type) composite() bool { return len(t.parts()) > 0 }

// named returns the composite types that occur several times below root, in order of
// first occurrence, and a unique name for each.
func named(root *Type) (order []*Type, names map[*Type]string) {
	met, times := occurrences(root)
	names = map[*Type]string{}
	for _, t := range met {
		if times[t] > 1 {
			order = append(order, t)
			names[t] = unused(t, names)
		}
	}
	return order, names
}

// occurrences returns the composite types below root in order of first occurrence, and
// how often each occurs.
func occurrences(root *Type) (met []*Type, times map[*Type]int) {
	times = map[*Type]int{}
	var visit func(t *Type)
	visit = func(t *Type) {
		if !t.composite() {
			return
		}
		if times[t]++; times[t] > 1 {
			return
		}
		met = append(met, t)
		for _, part := range t.parts() {
			visit(part)
		}
	}
	visit(root)
	return met, times
}

// unused returns a name for t that is not in names: its own, with a number if that is
// taken.
func unused(t *Type, names map[*Type]string) string {
	base := strings.Map(func(r rune) rune {
		if r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return -1
	}, t.Name)
	if base == "" {
		base = "T"
	}
	taken := map[string]bool{}
	for _, name := range names {
		taken[name] = true
	}
	name := base
	for n := 2; taken[name]; n++ {
		name = base + strconv.Itoa(n)
	}
	return name
}

// printer prints a type.
type printer struct {
	out     strings.Builder
	names   map[*Type]string
	defined map[*Type]bool
}

func newPrinter(root *Type) *printer {
	_, names := named(root)
	return &printer{names: names, defined: map[*Type]bool{}}
}

func (p *printer) fields(fields []Field) {
	for i, f := range fields {
		if i > 0 {
			p.out.WriteString(", ")
		}
		p.out.WriteString(key(f.Key))
		for _, old := range f.Old {
			p.out.WriteString("|" + key(old))
		}
		p.out.WriteString(" ")
		p.typ(f.Type)
		if f.Optional {
			p.out.WriteString("?")
		}
		if f.Default {
			p.out.WriteString("=")
		}
	}
}

func (p *printer) typ(t *Type) {
	if name := p.names[t]; name != "" {
		p.out.WriteString("@" + name)
		if p.defined[t] {
			return
		}
		p.defined[t] = true
		p.out.WriteString("=")
	}
	p.unnamed(t)
}

// unnamed prints a type without its name.
func (p *printer) unnamed(t *Type) {
	switch t.Kind {
	case Scalar:
		p.out.WriteString(t.Name)
	case Bytes:
		p.out.WriteString("bytes")
	case FixedBytes:
		p.out.WriteString("bytes(" + strconv.FormatInt(t.Len, 10) + ")")
	case Slice:
		p.around("[", t.Elem, "]")
	case Array:
		p.around("["+strconv.FormatInt(t.Len, 10)+"]", t.Elem, "")
	case Map:
		p.around("map[", t.Key, "]")
		p.typ(t.Elem)
	case Pointer:
		p.around("*", t.Elem, "")
	case Struct:
		p.out.WriteString("{")
		p.fields(t.Fields)
		p.out.WriteString("}")
	case Own:
		p.out.WriteString(t.Method + "(" + name(t.Name))
		for _, arg := range t.Args {
			p.out.WriteString(", " + strconv.QuoteToASCII(arg))
		}
		p.out.WriteString(")")
	}
}

// around prints a type between two texts.
func (p *printer) around(before string, t *Type, after string) {
	p.out.WriteString(before)
	p.typ(t)
	p.out.WriteString(after)
}

// key returns a key, quoted if it is not a word.
func key(k string) string {
	if bare(k, "_") && !unicode.IsDigit([]rune(k)[0]) {
		return k
	}
	return strconv.QuoteToASCII(k)
}

func name(n string) string {
	if bare(n, "_./-") {
		return n
	}
	return strconv.QuoteToASCII(n)
}

// bare reports whether s consists of letters, digits and the marks.
func bare(s, marks string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !wordRune(r, marks) })
}

func wordRune(r rune, marks string) bool {
	return r != unicode.ReplacementChar && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(marks, r))
}

// scalars returns the names of the scalar types.
func scalars() []string {
	return []string{
		"bool", "string", "int", "int8", "int16", "int32", "int64",
		"uint", "uint8", "uint16", "uint32", "uint64", "float32", "float64", "time", "duration",
	}
}

// methods returns the ways in which a type can marshal itself.
func methods() []string { return []string{"custom", "marshaler", "binary", "text"} }

func isScalar(word string) bool { return slices.Contains(scalars(), word) }
