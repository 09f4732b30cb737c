package schema

import (
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// The limits of Parse: far more than any task needs, and safe for untrusted input.
const (
	maxLength = 4 << 20 // bytes
	maxDepth  = 500     // nesting of types
)

// ParseParams parses the output of [Params]. It returns an error if a key is repeated
// or a name is not defined.
func ParseParams(text string) ([]Field, error) {
	p := &parser{text: text, names: map[string]*Type{}}
	fields := p.fields("")
	return fields, p.done("parameters")
}

// Parse parses the output of [Type.String].
func Parse(text string) (*Type, error) {
	p := &parser{text: text, names: map[string]*Type{}}
	t := p.typ()
	return t, p.done("type")
}

// parser parses one line. After the first error it is at the end.
type parser struct {
	text  string
	pos   int
	depth int
	names map[string]*Type
	err   error
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("offset %d: %s", p.pos, fmt.Sprintf(format, args...))
	}
	p.pos = len(p.text)
}

func (p *parser) done(what string) error {
	switch {
	case len(p.text) > maxLength:
		p.fail("%d bytes are too many", len(p.text))
	case p.err == nil && p.peek() != 0:
		p.fail("unexpected %q", p.peek())
	}
	if p.err != nil {
		return fmt.Errorf("parse %s: %w", what, p.err)
	}
	return nil
}

// peek returns the next byte that is not a space, or 0 at the end.
func (p *parser) peek() byte {
	if len(p.text) > maxLength {
		return 0
	}
	for p.pos < len(p.text) && p.text[p.pos] == ' ' {
		p.pos++
	}
	if p.pos == len(p.text) {
		return 0
	}
	return p.text[p.pos]
}

// accept consumes c if it is next.
func (p *parser) accept(c byte) bool {
	if p.peek() != c || p.pos == len(p.text) {
		return false
	}
	p.pos++
	return true
}

func (p *parser) expect(c byte) {
	if !p.accept(c) {
		p.fail("%q is missing", c)
	}
}

// word parses a quoted string, or letters, digits and the marks.
func (p *parser) word(what, marks string) string {
	if p.peek() == '"' {
		return p.quoted(what)
	}
	start := p.pos
	for p.pos < len(p.text) {
		r, size := utf8.DecodeRuneInString(p.text[p.pos:])
		if !wordRune(r, marks) {
			break
		}
		p.pos += size
	}
	if start == p.pos {
		p.fail("%s is missing", what)
	}
	return p.text[start:p.pos]
}

func (p *parser) quoted(what string) string {
	quoted, err := strconv.QuotedPrefix(p.text[p.pos:])
	if err != nil {
		p.fail("%s has no end", what)
		return ""
	}
	p.pos += len(quoted)
	word, err := strconv.Unquote(quoted)
	if err != nil {
		p.fail("%s is quoted badly", what)
	}
	return word
}

// fields parses fields up to, but not including, the end mark.
func (p *parser) fields(end string) []Field {
	var fields []Field
	seen := map[string]bool{}
	if c := p.peek(); c == 0 || end != "" && c == end[0] {
		return nil
	}
	for {
		f := p.field()
		if p.err != nil {
			return nil
		}
		for _, k := range append([]string{f.Key}, f.Old...) {
			if seen[k] {
				p.fail("key %q is repeated", k)
				return nil
			}
			seen[k] = true
		}
		fields = append(fields, f)
		if !p.accept(',') {
			return fields
		}
	}
}

func (p *parser) field() Field {
	f := Field{Key: p.word("a key", "_")}
	for p.accept('|') {
		f.Old = append(f.Old, p.word("a key", "_"))
	}
	f.Type = p.typ()
	f.Optional = p.accept('?')
	f.Default = p.accept('=')
	return f
}

func (p *parser) typ() *Type {
	if p.depth++; p.depth > maxDepth {
		p.fail("types are nested too deeply")
	}
	defer func() { p.depth-- }()
	t := &Type{}
	switch p.peek() {
	case '@':
		p.pos++
		return p.reference()
	case '"':
		p.fail("a type is missing")
	default:
		p.into(t)
	}
	return t
}

// reference parses the rest of a reference: a name, defined here or before.
func (p *parser) reference() *Type {
	name := p.word("a name", "_")
	known := p.names[name]
	switch {
	case !p.accept('='):
		if known == nil {
			p.fail("@%s was not given before", name)
			return &Type{}
		}
		return known
	case known != nil:
		p.fail("@%s is given twice", name)
	}
	t := &Type{Name: name}
	p.names[name] = t
	p.into(t)
	if p.err == nil && !t.composite() && t.Kind != Struct {
		p.fail("@%s stands for a single word", name)
	}
	if t.Kind == Pointer && t.Elem == t {
		p.fail("@%s points to nothing but itself", name)
	}
	return t
}

// into parses a type that is not a reference.
func (p *parser) into(t *Type) {
	switch p.peek() {
	case '[':
		p.pos++
		p.list(t)
	case '*':
		p.pos++
		t.Kind, t.Elem = Pointer, p.typ()
	case '{':
		p.pos++
		t.Kind, t.Fields = Struct, p.fields("}")
		p.expect('}')
	case '@':
		p.fail("a name cannot stand for a name")
	default:
		p.simple(t)
	}
}

// list parses the rest of a slice or an array.
func (p *parser) list(t *Type) {
	t.Kind = Slice // known to the elements, which may refer to t
	if c := p.peek(); c >= '0' && c <= '9' {
		t.Kind, t.Len = Array, p.number()
		p.expect(']')
		t.Elem = p.typ()
		return
	}
	t.Elem = p.typ()
	p.expect(']')
}

// simple parses a type that begins with a word.
func (p *parser) simple(t *Type) {
	at := p.pos
	word := p.word("a type", "")
	switch {
	case isScalar(word):
		t.Kind, t.Name = Scalar, word
	case word == "bytes":
		t.Kind = Bytes
		if p.accept('(') {
			t.Kind, t.Len = FixedBytes, p.number()
			p.expect(')')
		}
	case word == "map":
		p.mapOf(t)
	case slices.Contains(methods(), word):
		t.Kind, t.Method = Own, word
		p.expect('(')
		t.Name = p.word("a name", "_./-")
		for p.accept(',') {
			p.peek()
			t.Args = append(t.Args, p.quoted("a form"))
		}
		p.expect(')')
	default:
		p.pos = at
		p.fail("unknown type %q", word)
	}
}

// mapOf parses the rest of a map.
func (p *parser) mapOf(t *Type) {
	t.Kind = Map
	p.expect('[')
	t.Key = p.typ()
	p.expect(']')
	t.Elem = p.typ()
	if p.err == nil && !t.Key.isKey(0) {
		p.fail("a map's keys must be strings, integers, bools, times, bytes of a fixed length, types that marshal themselves, or arrays of these")
	}
}

// isKey reports whether the keys of a map may be of the type, at a depth in it.
func (t *Type) isKey(depth int) bool {
	switch t.Kind {
	case Scalar:
		return t.Name != "float32" && t.Name != "float64"
	case FixedBytes, Own:
		return true
	case Array:
		return t.Elem != nil && depth < maxDepth && t.Elem.isKey(depth+1)
	}
	return false
}

func (p *parser) number() int64 {
	p.peek()
	start := p.pos
	for p.pos < len(p.text) && p.text[p.pos] >= '0' && p.text[p.pos] <= '9' {
		p.pos++
	}
	n, err := strconv.ParseInt(p.text[start:p.pos], 10, 64)
	if err != nil {
		p.fail("a number is missing or too large")
	}
	return n
}
