package jsonform

import (
	"fmt"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/schema"
	"github.com/taskgen/taskgen/internal/suggest"
)

// The default limits of [Input], and those that cannot be changed.
const (
	DefaultBytes    = 8 << 20
	DefaultElements = 1 << 20
	maxNesting      = 4000 // of arrays and objects in JSON
	maxErrors       = 20
)

// Mask is written instead of a secret.
const Mask = "***"

// Input is how JSON is read. The zero value is the default.
type Input struct {
	Bytes    int // of the JSON, and of the payload; defaults to [DefaultBytes]
	Elements int // values in all, nested ones included; defaults to [DefaultElements]

	// Secrets are the names of parameters whose values no error quotes. A value of [Mask]
	// stands for that of Old, or is refused without Old.
	Secrets []string
	// Old is a payload whose secrets are kept, or nil.
	Old []byte
}

// Encode returns the payload of JSON by the default [Input].
func (f *Form) Encode(json []byte) (payload []byte, err error) { return f.EncodeWith(json, Input{}) }

// EncodeWith returns the payload of JSON. It allocates in proportion to the JSON. The error
// is of type [Errors]. The caller decodes the payload by the task before it queues it.
func (f *Form) EncodeWith(json []byte, in Input) (payload []byte, err error) {
	if in.Bytes == 0 {
		in.Bytes = DefaultBytes
	}
	if in.Elements == 0 {
		in.Elements = DefaultElements
	}
	e := &encoder{lexer: lexer{in: json}, Input: in, form: f}
	if len(json) > in.Bytes {
		e.stop(Limit, fmt.Sprintf("at most %d bytes", in.Bytes), fmt.Sprint(len(json)))
		return nil, e.errs
	}
	e.value(f.root)
	if e.alive() && e.peek() != 0 || e.alive() && e.pos < len(e.in) {
		e.fail("the end", e.here())
	}
	e.alive()
	if len(e.errs) > 0 {
		return nil, e.errs
	}
	return e.out, nil
}

// encoder writes one payload.
type encoder struct {
	lexer
	Input
	form  *Form
	out   []byte
	errs  Errors
	path  []step
	dead  bool // nothing more is read
	quiet bool // within a secret

	values  int // read so far
	nesting int // of JSON
	entered int // types that contain themselves, as the codec counts them

	parts   []part // of the objects and maps that are open
	scratch []byte
	head    []byte
}

// alive reports whether to go on, and notes the lexer's error.
func (e *encoder) alive() bool {
	if e.bad != "" && !e.dead {
		e.stop(Syntax, e.want, e.bad)
	}
	return !e.dead
}

// stop adds the last error.
func (e *encoder) stop(p Problem, expected, found string) {
	if !e.dead {
		e.add(e.pos, p, expected, found)
		e.dead = true
	}
}

func (e *encoder) add(offset int, p Problem, expected, found string) {
	path := e.path
	if e.quiet && len(path) > 1 {
		path = path[:1] // the keys below a secret parameter may be secret
	}
	e.errs = append(e.errs, &Error{pointer(path), p, expected, found, offset})
	e.dead = e.dead || len(e.errs) == maxErrors
}

// refuse adds the error of a value, which has been consumed.
func (e *encoder) refuse(offset int, p Problem, n *node, found string) {
	e.refuseAs(offset, p, n.want(), found)
}

func (e *encoder) refuseAs(offset int, p Problem, want, found string) {
	if e.quiet && p != Type {
		found = "another value"
	}
	e.add(offset, p, want, found)
}

// mismatch skips the next value, which is of another type than expected.
func (e *encoder) mismatch(n *node) { e.mismatchAs(n.want()) }

func (e *encoder) mismatchAs(want string) {
	at, found := e.pos, e.kind()
	if e.skip(e.nesting) {
		e.refuseAs(at, Type, want, found)
	}
}

// value reads a value of the type.
func (e *encoder) value(n *node) {
	if !e.alive() || !e.count() {
		return
	}
	if n.recursive {
		if e.entered++; e.entered > codec.MaxDepth {
			e.stop(Limit, fmt.Sprintf("at most %d levels of a type that contains itself", codec.MaxDepth), "more")
			return
		}
		defer func() { e.entered-- }()
	}
	if n.nullable() && e.peek() == 'n' {
		e.word("null")
		e.out = codec.AppendNil(e.out)
		return
	}
	switch n.Kind {
	case schema.Scalar:
		e.scalar(n)
	case schema.Bytes, schema.FixedBytes:
		e.bytes(n)
	case schema.Slice, schema.Array:
		e.list(n)
	case schema.Map:
		e.mapOf(n)
	case schema.Pointer:
		e.value(n.elem)
	case schema.Struct:
		e.structOf(n)
	case schema.Own:
		e.own(n)
	}
}

// count counts a value, and reports whether there may be as many.
func (e *encoder) count() bool {
	switch e.values++; {
	case e.values > e.Elements:
		e.stop(Limit, fmt.Sprintf("at most %d values", e.Elements), "more")
	case len(e.out) > e.Bytes:
		e.stop(Limit, fmt.Sprintf("at most %d bytes of MessagePack", e.Bytes), "more")
	case e.nesting > maxNesting:
		e.stop(Limit, fmt.Sprintf("at most %d levels", maxNesting), "more")
	}
	return !e.dead
}

// within reads an element at a step of the path.
func (e *encoder) within(s step, read func()) {
	e.path = append(e.path, s)
	e.nesting++
	read()
	e.alive()
	e.nesting--
	e.path = e.path[:len(e.path)-1]
}

func (e *encoder) list(n *node) {
	if e.peek() != '[' {
		e.mismatch(n)
		return
	}
	start, at, count := len(e.out), e.pos, 0
	for more := e.open(']'); more && e.alive(); more = e.next(']') {
		e.within(step{index: count}, func() { e.value(n.elem) })
		count++
	}
	if !e.alive() {
		return
	}
	if n.Kind == schema.Array && int64(count) != n.Len {
		e.refuse(at, Range, n, fmt.Sprint(count))
	}
	e.header(start, count, codec.AppendArrayLen)
}

// header inserts a header before what was written since start.
func (e *encoder) header(start, count int, appendTo func([]byte, int) []byte) {
	e.head = appendTo(e.head[:0], count)
	e.out = slices.Insert(e.out, start, e.head...)
}

// part is a member of an object, as it is written between two offsets of the output.
type part struct {
	start, end int
	field      int     // of a struct
	text       string  // of a map with strings
	number     integer // of a map with integers
	path       string  // the key as it was read
}

func (p *part) compare(other *part) int {
	switch {
	case p.field != other.field:
		return p.field - other.field
	case p.text != other.text:
		return strings.Compare(p.text, other.text)
	}
	return p.number.compare(other.number)
}

// object reads the members of an object. member reads one up to its value, and returns nil
// for one that it refuses, whose value is skipped.
func (e *encoder) object(member func(key []byte, at int) (p *part, elem *node)) {
	start, base := len(e.out), len(e.parts)
	for more := e.open('}'); more && e.alive(); more = e.next('}') {
		at := e.pos
		key, ok := e.str()
		if !ok || !e.expect(':', "a colon") {
			break
		}
		e.within(step{key: string(key), index: -1}, func() {
			from := len(e.out)
			p, elem := member(key, at)
			if p == nil {
				e.skip(e.nesting)
				return
			}
			if !e.secret(p) {
				e.value(elem)
			}
			p.start, p.end, p.path = from, len(e.out), string(key)
			e.parts = append(e.parts, *p)
		})
	}
	if e.alive() {
		e.arrange(start, e.parts[base:])
	}
	e.parts = e.parts[:base]
}

// arrange puts the members of an object in order, behind their header.
func (e *encoder) arrange(start int, parts []part) {
	sorted := true
	for i := 1; i < len(parts); i++ {
		sorted = sorted && parts[i-1].compare(&parts[i]) < 0
	}
	if !sorted {
		slices.SortStableFunc(parts, func(a, b part) int { return a.compare(&b) })
		e.scratch = e.scratch[:0]
		for i, p := range parts {
			if i > 0 && parts[i-1].compare(&p) == 0 {
				e.within(step{key: p.path, index: -1}, func() { e.add(e.pos, Duplicate, "", "") })
			}
			e.scratch = append(e.scratch, e.out[p.start:p.end]...)
		}
		e.out = append(e.out[:start], e.scratch...)
	}
	e.header(start, len(parts), codec.AppendMapLen)
}

func (e *encoder) mapOf(n *node) {
	if e.peek() != '{' {
		e.mismatch(n)
		return
	}
	e.object(func(key []byte, at int) (*part, *node) {
		p := &part{text: string(key)}
		if n.key.Kind == schema.Scalar && n.key.Name == "string" {
			e.out = codec.AppendString(e.out, p.text)
			return p, n.elem
		}
		low, high, isInteger := schema.IntegerRange(n.key.Name)
		if n.key.Kind != schema.Scalar || !isInteger {
			return e.key(n, key, at)
		}
		v, ok := parseInteger(p.text, low, high)
		if !ok || !decimal(p.text) {
			e.refuseAs(at, Format, "a key that is "+wantInteger(low, high), e.quote(p.text))
			return nil, nil
		}
		p.text, p.number = "", v
		e.out = appendInteger(e.out, v)
		return p, n.elem
	})
}

// key reads the key of a map that is neither a string nor an integer: JSON in a string, or
// the string itself if that is its JSON. Keys are in the order of their bytes.
func (e *encoder) key(n *node, key []byte, at int) (*part, *node) {
	text := key
	if n.key.isText() {
		text = appendString(nil, key)
	}
	inner := &encoder{lexer: lexer{in: text}, Input: e.Input, form: &Form{}, nesting: e.nesting}
	inner.Elements -= e.values
	inner.value(n.key)
	e.values += inner.values
	complete := inner.alive() && inner.peek() == 0 && inner.pos == len(text)
	if !complete || len(inner.errs) > 0 {
		want := "a key that is "
		if !n.key.isText() {
			want = "a key that is the JSON of "
		}
		e.refuseAs(at, Format, want+strings.TrimSuffix(n.key.want(), ", or null"), e.quote(string(key)))
		return nil, nil
	}
	e.out = append(e.out, inner.out...)
	return &part{text: string(inner.out)}, n.elem
}

func (e *encoder) structOf(n *node) {
	if e.peek() != '{' {
		e.mismatch(n)
		return
	}
	at := e.pos
	present := make([]uint64, (len(n.fields)+63)/64)
	e.object(func(key []byte, at int) (*part, *node) {
		i, known := n.index[string(key)]
		if !known {
			e.refuseAs(at, Unknown, n.known(string(key)), "")
			return nil, nil
		}
		present[i/64] |= 1 << (i % 64)
		e.out = codec.AppendString(e.out, n.Fields[i].Key)
		return &part{field: i}, n.fields[i]
	})
	for i, f := range n.Fields {
		if e.alive() && present[i/64]&(1<<(i%64)) == 0 && !f.Dispensable() {
			e.within(step{key: f.Key, index: -1}, func() { e.add(at, Missing, n.fields[i].want(), "nothing") })
		}
	}
}

// known lists the fields of a struct for the error about another one.
func (n *node) known(key string) string {
	var names []string
	for _, f := range n.Fields {
		names = append(names, f.Key)
	}
	const most, edits = 20, 2
	switch near := suggest.Closest(key, names, edits); {
	case near != "":
		return fmt.Sprintf("did you mean %s?", near)
	case len(names) == 0:
		return "there are none"
	case len(names) > most:
		return "there are " + strings.Join(names[:most], ", ") + " and more"
	}
	return "there are " + strings.Join(names, ", ")
}

// secret reads the value of a secret parameter if it is the mask.
func (e *encoder) secret(p *part) bool {
	if !e.form.params || e.nesting != 1 {
		return false
	}
	field := &e.form.fields[p.field]
	e.quiet = slices.ContainsFunc(e.Secrets, func(s string) bool { return strings.EqualFold(s, field.Key) })
	if !e.quiet || e.peek() != '"' {
		return false
	}
	at := e.pos
	if text, ok := e.str(); !ok || string(text) != Mask {
		e.pos = at
		return false
	}
	old := valueOf(e.Old, field)
	if old == nil {
		e.add(at, Secret, "", "")
	}
	e.out = append(e.out, old...)
	return true
}

// valueOf returns the bytes of a parameter in a payload, or nil if there are none.
func valueOf(payload []byte, f *schema.Field) []byte {
	r := codec.NewReader(payload)
	for n := r.MapLen(); n > 0 && r.More(); n-- {
		if key := string(r.Key()); key == f.Key || slices.Contains(f.Old, key) {
			return r.Raw()
		}
		r.Skip()
	}
	return nil
}
