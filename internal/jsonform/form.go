package jsonform

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/taskgen/taskgen/internal/schema"
)

// Form is the wire form of a task's parameters or result. It may be used concurrently.
type Form struct {
	root   *node
	fields []schema.Field // of parameters
	params bool
}

// Params returns the form of parameters, from [taskrt.Spec].Params. Its JSON is an object.
func Params(line string) (*Form, error) {
	fields, err := schema.ParseParams(line)
	if err != nil {
		return nil, err
	}
	root := &schema.Type{Kind: schema.Struct, Fields: fields}
	return &Form{root: compile(root), fields: fields, params: true}, nil
}

// Result returns the form of a result, from [taskrt.Spec].Result.
func Result(line string) (*Form, error) {
	t, err := schema.Parse(line)
	if err != nil {
		return nil, err
	}
	return &Form{root: compile(t)}, nil
}

// Fields returns the parameters, for a form to fill in; nil for a result. They must not be
// changed.
func (f *Form) Fields() []schema.Field { return f.fields }

// Type returns the type of the value: of parameters a struct. It must not be changed.
func (f *Form) Type() *schema.Type { return f.root.Type }

// Forms keeps the forms of lines, so that each is parsed once. The zero value is empty. It
// may be used concurrently, and grows with the lines that are asked for: those of tasks.
type Forms struct{ params, results sync.Map }

// Params is [Params].
func (c *Forms) Params(line string) (*Form, error) { return kept(&c.params, line, Params) }

// Result is [Result].
func (c *Forms) Result(line string) (*Form, error) { return kept(&c.results, line, Result) }

func kept(known *sync.Map, line string, parse func(string) (*Form, error)) (*Form, error) {
	if f, ok := known.Load(line); ok {
		return f.(*Form), nil
	}
	f, err := parse(line)
	if err == nil {
		known.Store(line, f)
	}
	return f, err
}

// node is a type with what reading it needs.
type node struct {
	*schema.Type
	key, elem *node
	fields    []*node        // of a struct, in the order of Fields
	index     map[string]int // of a struct: its fields by their keys, also the old ones
	recursive bool           // as generated code counts the nesting of this type
}

// compile returns the nodes of a type.
func compile(t *schema.Type) *node {
	c := compiler{made: map[*schema.Type]*node{}, open: map[*schema.Type]bool{}}
	return c.compile(t)
}

type compiler struct {
	made map[*schema.Type]*node
	open map[*schema.Type]bool // above the present type
}

func (c compiler) compile(t *schema.Type) *node {
	if t == nil {
		return nil
	}
	if n := c.made[t]; n != nil {
		n.recursive = n.recursive || c.open[t]
		return n
	}
	n := &node{Type: t}
	c.made[t], c.open[t] = n, true
	defer delete(c.open, t)
	n.key, n.elem = c.compile(t.Key), c.compile(t.Elem)
	if t.Kind == schema.Struct {
		n.index = make(map[string]int, len(t.Fields))
		for i, f := range t.Fields {
			n.fields = append(n.fields, c.compile(f.Type))
			for _, key := range append(slices.Clone(f.Old), f.Key) {
				n.index[key] = i
			}
		}
	}
	return n
}

// nullable reports whether null is a value of the type.
func (n *node) nullable() bool {
	switch n.Kind {
	case schema.Bytes, schema.Slice, schema.Map, schema.Pointer, schema.Own:
		return true
	}
	return false
}

// isText reports whether values of the type are JSON strings, so that as keys they are
// these. Keys of other types are the text of their JSON.
func (n *node) isText() bool {
	switch n.Kind {
	case schema.Scalar:
		return n.Name == "string" || n.Name == "time"
	case schema.FixedBytes:
		return true
	case schema.Own:
		return n.Method == "text" || n.Method == "binary"
	}
	return false
}

// want describes what is expected, for an error.
func (n *node) want() string {
	switch n.Kind {
	case schema.Scalar:
		return wantScalar(n.Name)
	case schema.Bytes:
		return "bytes in base64, or null"
	case schema.FixedBytes:
		return fmt.Sprintf("%d bytes in base64", n.Len)
	case schema.Slice:
		return "an array, or null"
	case schema.Array:
		return fmt.Sprintf("an array of %d elements", n.Len)
	case schema.Map:
		return "an object, or null"
	case schema.Pointer:
		return strings.TrimSuffix(n.elem.want(), ", or null") + ", or null"
	case schema.Own:
		if n.Method == "text" {
			return "a string, or null"
		}
		return "bytes in base64, or null"
	}
	return "an object"
}

func wantScalar(name string) string {
	if name == "duration" {
		return "a duration such as 1m30s, or a number of nanoseconds"
	}
	if low, high, ok := schema.IntegerRange(name); ok {
		return fmt.Sprintf("an integer from %d to %d", low, high)
	}
	switch name {
	case "bool":
		return "true or false"
	case "time":
		return "a time such as 2006-01-02T15:04:05.999999999Z"
	case "float32", "float64":
		return "a number"
	}
	return "a string"
}
