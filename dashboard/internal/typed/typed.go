// Package typed makes forms of HTML from the wire form of a task's parameters, reads what a
// person filled in, and writes the same call as command lines. The names of fields are the
// places of values in the parameters' JSON, so that an error of package jsonform is that of
// one field.
package typed

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/internal/jsonform"
	"github.com/taskgen/taskgen/internal/schema"
	taskrt "github.com/taskgen/taskgen/runtime"
)

const (
	mostInputs = 200 // fields of a form; deeper structs are JSON beyond
	mostDepth  = 4   // of structs in each other
)

// Prefixes of the names of a form's fields. Behind them stands a JSON Pointer.
const (
	valuePrefix = "p:"    // the value, as a person writes it
	setPrefix   = "set:"  // it is there: of an optional struct, or an optional text that is empty
	jsonPrefix  = "json:" // the value is written as JSON, whatever its type
)

// Form is the form of a task's parameters. It may be used concurrently.
type Form struct {
	task  taskrt.Task
	form  *jsonform.Form
	depth int // of the structs that have fields of their own
}

// New returns the form of a task.
func New(t taskrt.Task, forms *jsonform.Forms) (*Form, error) {
	f, err := forms.Params(t.Spec().Params)
	if err != nil {
		return nil, fmt.Errorf("read the form of the parameters of task %s: %w", t.Name(), err)
	}
	form := &Form{task: t, form: f, depth: mostDepth}
	for form.depth > 0 && form.count(f.Fields(), 0) > mostInputs {
		form.depth--
	}
	return form, nil
}

// count returns how many inputs some fields need.
func (f *Form) count(fields []schema.Field, depth int) (n int) {
	for _, field := range fields {
		n++
		if s := f.shapeOf(field, depth, false); s.widget == Struct && n <= mostInputs {
			n += f.count(s.of.Fields, depth+1)
		}
	}
	return n
}

// Widget is how a value is filled in.
type Widget string

// The widgets.
const (
	Text     Widget = "text"
	Number   Widget = "number"
	Bool     Widget = "bool"
	Time     Widget = "time"
	Duration Widget = "duration"
	Bytes    Widget = "bytes" // base64
	JSON     Widget = "json"
	Struct   Widget = "struct"
)

// shape is how a field is filled in.
type shape struct {
	widget   Widget
	of       *schema.Type // behind pointers
	optional bool         // it can be left out
}

func (f *Form) shapeOf(field schema.Field, depth int, secret bool) shape {
	s := shape{of: field.Type, optional: field.Dispensable() || field.Type.Kind == schema.Pointer}
	if s.of.Kind == schema.Pointer {
		s.of = s.of.Elem
	}
	s.widget = widgetOf(s.of)
	if s.widget == Struct && (secret || depth >= f.depth) {
		s.widget = JSON
	}
	return s
}

func widgetOf(t *schema.Type) Widget {
	switch t.Kind {
	case schema.Bytes, schema.FixedBytes:
		return Bytes
	case schema.Struct:
		return Struct
	case schema.Own:
		switch t.Method {
		case "text":
			return Text
		case "binary":
			return Bytes
		}
	case schema.Scalar:
		switch t.Name {
		case "bool":
			return Bool
		case "string":
			return Text
		case "time":
			return Time
		case "duration":
			return Duration
		}
		return Number
	}
	return JSON
}

// typeText is a type as people read it.
func typeText(t *schema.Type) string {
	switch t.Kind {
	case schema.Struct:
		return "struct"
	case schema.Bytes:
		return "bytes, as base64"
	case schema.FixedBytes:
		return fmt.Sprintf("%d bytes, as base64", t.Len)
	case schema.Slice:
		return "list of " + elemText(t.Elem)
	case schema.Array:
		return fmt.Sprintf("list of %d × %s", t.Len, elemText(t.Elem))
	case schema.Map:
		return "map of " + elemText(t.Key) + " to " + elemText(t.Elem)
	case schema.Pointer:
		return typeText(t.Elem) + " or null"
	case schema.Own:
		if t.Method == "binary" {
			return t.Name + ", as base64"
		}
	}
	return t.Name
}

func elemText(t *schema.Type) string {
	if t.Kind == schema.Struct && t.Name != "" {
		return t.Name
	}
	return typeText(t)
}

// Input is a field of the form.
type Input struct {
	Name, ID string
	Label    string
	Type     string // as people read it
	Widget   Widget
	Value    string // as the person wrote it; never that of a secret
	Note     string // what leaving it empty means, or how it is written
	Error    string
	Secret   bool
	Optional bool
	IsSet    bool // the box of an optional struct, or of an empty text, is ticked
	SetName  string
	AsJSON   bool // the value of another widget, written as JSON
	JSONName string
	Fields   []*Input // of a struct
}

// Inputs returns the fields with what a person filled in, and the errors of their places. Those
// of other places are returned too. If old is set, an empty secret stands for that of the run
// that the form was filled from.
func (f *Form) Inputs(values url.Values, errs map[string]string, old bool) (inputs []*Input, others []string) {
	b := &builder{Form: f, values: values, errs: errs, used: make(map[string]bool), old: old}
	inputs = b.inputs(f.form.Fields(), "", 0, f.defaults())
	for place, text := range errs {
		if !b.used[place] {
			others = append(others, strings.TrimSpace(place+" "+text))
		}
	}
	slices.Sort(others)
	return inputs, others
}

// builder makes the inputs of a form.
type builder struct {
	*Form
	values url.Values
	errs   map[string]string
	used   map[string]bool // the errors that stand at a field
	old    bool
	n      int
}

func (b *builder) inputs(fields []schema.Field, at string, depth int, defaults map[string]string) (inputs []*Input) {
	for _, field := range fields {
		inputs = append(inputs, b.input(field, at+"/"+escape(field.Key), depth, defaults))
	}
	return inputs
}

func (b *builder) input(field schema.Field, at string, depth int, defaults map[string]string) *Input {
	secret := depth == 0 && b.isSecret(field.Key)
	s := b.shapeOf(field, depth, secret)
	b.n++
	in := &Input{
		Name: valuePrefix + at, ID: fmt.Sprintf("p%d", b.n), Label: field.Key, Type: typeText(s.of), Widget: s.widget,
		Secret: secret, Optional: s.optional, SetName: setPrefix + at, JSONName: jsonPrefix + at,
	}
	in.IsSet = b.values.Has(in.SetName)
	in.AsJSON = b.values.Has(in.JSONName) && s.widget == Text && !secret
	if !secret {
		in.Value = b.values.Get(in.Name)
	}
	if s.widget == Struct {
		in.Error = b.take(at)
		in.Fields = b.inputs(s.of.Fields, at, depth+1, nil)
		return in
	}
	in.Error = b.takeBelow(at)
	in.Note = b.note(in, s, defaults[field.Key])
	return in
}

// note says what a person should know to fill a field in.
func (b *builder) note(in *Input, s shape, or string) string {
	var notes []string
	switch {
	case in.AsJSON:
		notes = append(notes, "written as JSON, as it has characters that a field cannot hold")
	case in.Secret && b.old:
		notes = append(notes, "left empty: as in the run before")
	case in.Secret:
		notes = append(notes, "secret: it is never shown again")
	}
	switch s.widget {
	case Time:
		notes = append(notes, "such as 2006-01-02 15:04:05; UTC unless it ends with an offset such as +01:00")
	case Duration:
		notes = append(notes, "such as 1m30s")
	case JSON:
		notes = append(notes, "JSON, such as "+example(s.of, 0))
	}
	switch {
	case s.optional && or != "" && !in.Secret:
		notes = append(notes, "left empty: "+or)
	case s.optional && !(in.Secret && b.old):
		notes = append(notes, "may be left empty")
	}
	return strings.Join(notes, "; ")
}

// take returns the error of a place.
func (b *builder) take(at string) string {
	text := b.errs[at]
	b.used[at] = b.used[at] || text != ""
	return text
}

// takeBelow returns the errors of a place and of those in it.
func (b *builder) takeBelow(at string) string {
	var all []string
	for place, text := range b.errs {
		if rest, below := strings.CutPrefix(place, at); below && (rest == "" || rest[0] == '/') {
			b.used[place] = true
			if rest != "" {
				text = "at " + rest + ": " + text
			}
			all = append(all, text)
		}
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

func (f *Form) isSecret(name string) bool { return slices.Contains(f.task.Spec().Secrets, name) }

// escape writes a key as JSON Pointers have it.
func escape(key string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(key) }
